"""Publish CNS enrichment events: the ``EventLogger`` that publishes instead of inserting.

>>> from cns_events import EventLogger
>>> events = EventLogger().bind(bom_id, "org-123", "enrich-bom-42")
>>> events.log_stage_started("parsing")
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from cns_events import _native
from cns_events._native import Event
from cns_events._process import Closed, Stats, aclose, aflush, close, configure, flush, outage, stats
from cns_events._settings import ConfigurationError
from cns_events.logger import EventLogger
from cns_events.workflow import WorkflowLogger

if TYPE_CHECKING:
    from cns_events.sqlalchemy import EnrichmentEvent

__all__ = [
    "Closed",
    "ConfigurationError",
    "EnrichmentEvent",
    "Event",
    "EventLogger",
    "Stats",
    "WorkflowLogger",
    "aclose",
    "aflush",
    "close",
    "configure",
    "flush",
    "outage",
    "stats",
    "tenant_of",
]

__version__ = _native.version()


def tenant_of(organization_id: str) -> uuid.UUID:
    """Return the tenant of an organization: its id where that is a UUID, else a UUID that is derived from it."""
    return uuid.UUID(_native.tenant_of(organization_id))


def __getattr__(name: str) -> Any:
    """Import the model when it is used: SQLAlchemy is an extra."""
    if name == "EnrichmentEvent":
        from cns_events.sqlalchemy import EnrichmentEvent

        return EnrichmentEvent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
