"""Risks of components: the score decides the severity, and with it the priority of the message."""

import os
import uuid

import cns_events
from cns_events import EventLogger

ORGANIZATION = os.environ.get("ORGANIZATION", "org-123")


def main() -> None:
    """Log a risk of each severity."""
    bom_id = uuid.uuid4()
    logger = EventLogger()
    scores = {"LM358DR": 84.5, "NE555P": 61, "BC547": 20}
    for component, score in scores.items():
        factors = [{"factor": "lifecycle", "weight": 0.6}, {"factor": "single source", "weight": 0.4}]
        event = logger.log_risk_alert(bom_id, ORGANIZATION, component, score, factors)
        if event is not None:
            print(event.payload["severity"], event.routing_key, event.priority)
    logger.log_risk_alert(bom_id, ORGANIZATION, "LM317", 30, severity="high")  # a person knows better

    print("confirmed:", cns_events.close(10).confirmed)


if __name__ == "__main__":
    main()
