"""Queries: with the caller's database session, else over the read API. They log what goes wrong, and return ``[]`` then."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from cns_events._native import tenant_of
from cns_events._process import current

if TYPE_CHECKING:
    from cns_events._read_api import StoredEvent
    from cns_events.sqlalchemy import EnrichmentEvent

Row = Union["EnrichmentEvent", "StoredEvent"]

_log = logging.getLogger("cns_events")

# Events of its own that an instance remembers.
_REMEMBERED = 1000


class OwnWrites:
    """Events that an instance has logged: a query for them waits until they are stored, and reads as their tenant."""

    def __init__(self, wait: float) -> None:
        self._wait = wait
        self._logged: deque[tuple[str, dict[str, Any]]] = deque(maxlen=_REMEMBERED)

    def remember(self, event_id: str, fields: dict[str, Any]) -> None:
        """Remember an event that was accepted."""
        self._logged.append((event_id, fields))

    def of(self, field: str, value: object) -> Own:
        """Return the events with this value of a field."""
        wanted = str(value).lower()
        found = [(event_id, fields) for event_id, fields in self._logged.copy() if str(fields.get(field)).lower() == wanted]
        return Own(self, found, self._wait)

    def forget(self, event_ids: set[str]) -> None:
        """Forget the waiting for events that are stored; their tenant stays known."""
        kept = [(("" if event_id in event_ids else event_id), fields) for event_id, fields in self._logged.copy()]
        self._logged = deque(kept, maxlen=_REMEMBERED)


class Own:
    """The events of an instance that a query is about."""

    def __init__(self, writes: OwnWrites, found: list[tuple[str, dict[str, Any]]], wait: float) -> None:
        self._writes = writes
        self.waiting = {event_id for event_id, _ in found if event_id}
        self._newest = found[-1][1] if found else None
        self.deadline = time.monotonic() + wait

    def tenant(self) -> str | None:
        """Return the tenant of the newest event."""
        if self._newest is None:
            return None
        return tenant_from(self._newest.get("tenant_id"), self._newest.get("organization_id"))

    def stored(self) -> None:
        """Record that all of them are stored."""
        self._writes.forget(self.waiting)


def tenant_from(tenant_id: object, organization_id: object) -> str | None:
    """Return the tenant that the arguments of a call name."""
    if tenant_id is not None:
        return str(tenant_id)
    return None if organization_id is None else tenant_of(str(organization_id))


@dataclass(frozen=True)
class Query:
    """Arguments of a query method."""

    kind: str
    # The argument that names what was logged: the field of an event.
    of: str
    arguments: dict[str, Any]
    # Tenant and organization that the call, or the instance, names.
    tenant_id: object = None
    organization_id: object = None


def read(db: Any, query: Query, writes: OwnWrites) -> list[Row]:
    """Return the rows of a query."""
    try:
        own = writes.of(query.of, query.arguments[query.of])
        tenant = tenant_from(query.tenant_id, query.organization_id) or own.tenant()
        if db is not None:
            from cns_events._read_database import rows

            return list(rows(db, query, tenant, own))
        process = current()
        if process is not None and process.settings.read_url is not None:
            from cns_events._read_api import fetch

            return list(fetch(process.settings, query))
        _log.error("cannot read events: EventLogger has no session, and read_url is not set")
    except Exception as error:
        # The text of a database's error may hold values.
        _log.error("cannot read events: %s", type(error).__name__, exc_info=_log.isEnabledFor(logging.DEBUG))
    return []
