"""A workflow's lifecycle: started, its stages with their state, completed."""

import os
import uuid

import cns_events
from cns_events import EventLogger

ORGANIZATION = os.environ.get("ORGANIZATION", "org-123")


def main() -> None:
    """Log the events of one workflow."""
    bom_id = uuid.uuid4()
    events = EventLogger(source="staff").bind(bom_id, ORGANIZATION, f"enrich-{bom_id}")

    events.set_state({"status": "running", "total_items": 66, "completed_items": 0, "percent": 0})
    events.log_processing_started(66, message="bom.csv, uploaded by staff")
    for number, stage in enumerate(("parsing", "enrichment", "risk_analysis"), start=1):
        events.set_state({"status": "running", "current_stage": stage, "total_items": 66, "percent": number * 30})
        events.log_stage_started(stage)
        events.log_stage_completed(stage, duration_ms=1250.5, metrics={"lines": 66})
    events.log_event("workflow_completed", {"components": 66}, state={"status": "completed", "percent": 100})

    print("confirmed:", cns_events.close(10).confirmed)


if __name__ == "__main__":
    main()
