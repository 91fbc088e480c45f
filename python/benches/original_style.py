"""The way of the original class: SQLAlchemy, one insert and one commit for each event, in the caller."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timezone

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from cns_events.sqlalchemy import EnrichmentEvent


class Way:
    """A session on the same database that the workers write to."""

    def __init__(self, database_url: str) -> None:
        engine = create_engine(database_url.replace("postgres://", "postgresql+psycopg://"))
        self._session = Session(engine)
        self._bom_id, self._tenant_id = uuid.uuid4(), uuid.uuid4()

    def insert(self) -> None:
        """Insert an event and commit."""
        self._session.add(
            EnrichmentEvent(
                event_id=str(uuid.uuid4()),
                event_type="enrichment_progress",
                routing_key="cns.enrichment.progress",
                bom_id=self._bom_id,
                tenant_id=self._tenant_id,
                organization_id="org-bench",
                source="customer",
                workflow_id="w",
                state=json.loads('{"status": "running", "percent": 31.8}'),
                payload={"mpn": "LM358DR", "status": "matched", "confidence": 0.97, "supplier": "DigiKey"},
                created_at=datetime.now(timezone.utc),
            )
        )
        self._session.commit()
