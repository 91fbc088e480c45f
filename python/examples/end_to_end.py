"""End to end: a workflow is published, confirmed, stored by the workers, and read from the table."""

import os
import sys
import time
import uuid

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

import cns_events
from cns_events import EventLogger

ORGANIZATION = os.environ.get("ORGANIZATION", "org-123")


def main() -> None:
    """Publish a thousand events, and read them."""
    # Raises where it cannot work: a service wants to know at its start.
    cns_events.configure(app_id="end-to-end", shutdown_timeout=10)
    bom_id = uuid.uuid4()
    engine = create_engine(os.environ["DATABASE_URL"].replace("postgres://", "postgresql+psycopg://"))
    with Session(engine) as db:
        logger = EventLogger(db, read_wait=20)
        events = logger.bind(bom_id, ORGANIZATION, f"enrich-{bom_id}")
        began = time.perf_counter()
        logged = [events.log_enrichment_progress(f"MPN-{number}", "matched", 0.9) for number in range(1000)]
        called = time.perf_counter() - began
        if None in logged or not cns_events.flush(20):
            sys.exit(f"not confirmed: {cns_events.outage()}, {cns_events.stats()}")
        confirmed = time.perf_counter() - began
        stored = logger.get_events_by_bom(bom_id, limit=1000)
        print(f"logged in {called * 1000:.0f} ms, confirmed after {confirmed * 1000:.0f} ms, stored: {len(stored)}")
    if len(stored) != 1000:
        sys.exit("not all are stored")


if __name__ == "__main__":
    main()
