"""Errors: logged where they are caught, once for a step that is retried, and from the service's own log."""

import logging
import os
import uuid

import cns_events
from cns_events import EventLogger
from cns_events.logging import ErrorEvents

ORGANIZATION = os.environ.get("ORGANIZATION", "org-123")

log = logging.getLogger("enrichment")
log.addHandler(ErrorEvents())


def search(mpn: str, timeout: float) -> None:
    """Fail as a supplier's API may."""
    raise TimeoutError(f"no answer for {mpn} within {timeout} s")


def main() -> None:
    """Log the errors of one step that runs three times."""
    bom_id = uuid.uuid4()
    logger = EventLogger()
    for attempt in range(1, 4):
        try:
            search("LM358DR", timeout=5)
        except TimeoutError as error:
            # The same key for each attempt: the event is stored once. Attempts two and three change nothing in it.
            logger.log_error(
                bom_id,
                ORGANIZATION,
                str(error),
                "SUPPLIER_TIMEOUT",
                {"supplier": "DigiKey"},
                event_id=f"{bom_id}/search/timeout",
            )
            if attempt == 3:
                log.error("search failed for good", extra={"bom_id": bom_id, "organization_id": ORGANIZATION})

    # An event that no worker could store is not published: the method returns None, and the log has the reason.
    assert logger.log_error("not a UUID", ORGANIZATION, "lost") is None
    print("refused:", cns_events.stats().invalid, "confirmed:", cns_events.close(10).confirmed)


if __name__ == "__main__":
    main()
