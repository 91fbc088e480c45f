"""The table for SQLAlchemy 2: the model, and the queries as selects (``pip install cns-events[sqlalchemy]``).

The model has metadata of its own, so that a service's migrations neither see nor change the table.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from sqlalchemy import JSON, DateTime, Select, String, Text, Uuid, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cns_events._native import tenant_of

__all__ = ["Base", "EnrichmentEvent", "events_by_bom", "events_by_workflow", "recent_errors"]

_Document = JSON().with_variant(JSONB(), "postgresql")


class Base(DeclarativeBase):
    """Base of the model, with metadata of its own."""


class EnrichmentEvent(Base):
    """A stored event: one row of ``enrichment_events``."""

    __tablename__ = "enrichment_events"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    event_id: Mapped[str] = mapped_column(String(255), unique=True)
    event_type: Mapped[str] = mapped_column(String(100))
    routing_key: Mapped[str | None] = mapped_column(String(255))
    bom_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    tenant_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    organization_id: Mapped[str | None] = mapped_column(Text)
    project_id: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    user_id: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    source: Mapped[str] = mapped_column(String(20))
    workflow_id: Mapped[str | None] = mapped_column(String(255))
    state: Mapped[dict[str, Any]] = mapped_column(_Document)
    payload: Mapped[dict[str, Any]] = mapped_column(_Document)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    def __repr__(self) -> str:
        return f"EnrichmentEvent({self.event_type!r}, event_id={self.event_id!r})"


def _newest(of: Select[Any], limit: int) -> Select[Any]:
    return of.order_by(EnrichmentEvent.created_at.desc(), EnrichmentEvent.id.desc()).limit(limit)


def events_by_bom(bom_id: str | uuid.UUID, event_types: Sequence[str] | None = None, limit: int = 100) -> Select[Any]:
    """Return the select of a BOM's events, newest first."""
    of = select(EnrichmentEvent).where(EnrichmentEvent.bom_id == _uuid(bom_id))
    if event_types is not None:
        of = of.where(EnrichmentEvent.event_type.in_(list(event_types)))
    return _newest(of, limit)


def events_by_workflow(workflow_id: str, limit: int = 100) -> Select[Any]:
    """Return the select of a workflow's events, newest first."""
    return _newest(select(EnrichmentEvent).where(EnrichmentEvent.workflow_id == workflow_id), limit)


def recent_errors(organization_id: str, hours: int = 24, limit: int = 50) -> Select[Any]:
    """Return the select of an organization's errors of the last hours, newest first."""
    since = datetime.now(timezone.utc) - timedelta(hours=hours)
    of = select(EnrichmentEvent).where(
        EnrichmentEvent.tenant_id == uuid.UUID(tenant_of(organization_id)),
        EnrichmentEvent.event_type == "error",
        EnrichmentEvent.created_at >= since,
    )
    return _newest(of, limit)


def _uuid(value: str | uuid.UUID) -> uuid.UUID:
    return value if isinstance(value, uuid.UUID) else uuid.UUID(str(value))
