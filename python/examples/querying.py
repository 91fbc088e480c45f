"""Queries with a database session: what was logged is read at once."""

import os
import uuid

from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session

from cns_events import EnrichmentEvent, EventLogger
from cns_events.sqlalchemy import events_by_bom

ORGANIZATION = os.environ.get("ORGANIZATION", "org-123")


def main() -> None:
    """Log, and read in three ways."""
    bom_id = uuid.uuid4()
    engine = create_engine(os.environ["DATABASE_URL"].replace("postgres://", "postgresql+psycopg://"))
    with Session(engine) as db:
        logger = EventLogger(db)
        logger.log_processing_started(
            bom_id=bom_id, organization_id=ORGANIZATION, workflow_id="enrich-1", source="customer", total_items=100
        )
        logger.log_error(bom_id, ORGANIZATION, "supplier timed out")

        # The instance waits until its own events are stored, and reads as their tenant.
        for event in logger.get_events_by_bom(bom_id):
            print(event.event_type, event.payload)
        print("errors:", len(logger.get_recent_errors(ORGANIZATION, hours=1)))

        # Any other query is a select on the model, with what the login may see.
        errors = events_by_bom(bom_id, ["error"], limit=10)
        print("selected:", len(db.scalars(errors).all()))
        count = select(func.count()).select_from(EnrichmentEvent).where(EnrichmentEvent.bom_id == bom_id)
        print("counted:", db.scalar(count))


if __name__ == "__main__":
    main()
