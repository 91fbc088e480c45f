"""A user pauses and resumes a workflow."""

import os
import uuid

import cns_events
from cns_events import EventLogger

ORGANIZATION = os.environ.get("ORGANIZATION", "org-123")


def main() -> None:
    """Log a pause and its end."""
    bom_id, user_id = uuid.uuid4(), uuid.uuid4()
    workflow_id = f"enrich-{bom_id}"
    logger = EventLogger()
    logger.log_workflow_paused(bom_id, workflow_id, ORGANIZATION, user_id, "waits for the customer's approval")
    logger.log_workflow_resumed(bom_id, workflow_id, ORGANIZATION, user_id, "approved")

    print("confirmed:", cns_events.close(10).confirmed)


if __name__ == "__main__":
    main()
