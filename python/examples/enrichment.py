"""The enrichment of the lines of a BOM: progress, matches, calls of suppliers, the cache."""

import os
import uuid

import cns_events
from cns_events import EventLogger

ORGANIZATION = os.environ.get("ORGANIZATION", "org-123")


def main() -> None:
    """Log what happens to three lines."""
    bom_id = uuid.uuid4()
    logger = EventLogger()
    events = logger.bind(bom_id, ORGANIZATION, f"enrich-{bom_id}")

    events.log_cache_miss("parts", "LM358DR")
    events.log_api_call("DigiKey", "/search/LM358DR", status_code=200, duration_ms=182.4)
    events.log_component_matched("LM358DR", "LM358DR2G", manufacturer="onsemi", confidence=0.97, supplier="DigiKey")
    events.log_enrichment_progress("LM358DR", "matched", 0.97, supplier="DigiKey", match_details={"package": "SOIC-8"})

    events.log_cache_hit("parts", "NE555P")
    events.log_enrichment_progress("NE555P", "cached", 1.0)

    # Without `bind`, each call names the ids.
    logger.log_enrichment_progress(bom_id, ORGANIZATION, "XYZ-0000", "no_match")

    print("confirmed:", cns_events.close(10).confirmed)


if __name__ == "__main__":
    main()
