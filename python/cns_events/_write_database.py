"""The move over: an event is inserted on the caller's session, and published when its transaction has ended.

Published earlier, the worker's insert of the same id would wait for the caller's transaction, and its neighbours with it.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
import weakref
from typing import Any

from sqlalchemy import event as listening
from sqlalchemy import insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, SessionTransaction

from cns_events._native import Event
from cns_events._process import before_close, current
from cns_events.sqlalchemy import EnrichmentEvent

_log = logging.getLogger("cns_events")

# Events of the open transaction of each session.
_held: weakref.WeakKeyDictionary[Session, _Held] = weakref.WeakKeyDictionary()


class _Held:
    """Events of the open transaction of a session, in the process that logged them: a fork copies the session."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._pid = os.getpid()

    def add(self, event: Event) -> None:
        if self._pid != os.getpid():
            self._pid, self._events = os.getpid(), []
        self._events.append(event)

    def publish(self) -> None:
        """Publish the events, once."""
        events, self._events = self._events, []
        if self._pid == os.getpid():
            for event in events:
                _publish(event)


def insert_and_publish(db: Any, event: Event) -> None:
    """Insert an event under a savepoint, and publish it when the transaction has ended, whichever way."""
    if not isinstance(db, Session):
        _log.error("write_database needs a sqlalchemy.orm.Session: the event is only published")
        _publish(event)
        return
    try:
        # On the connection: a savepoint of the session would flush the caller's objects.
        connection = db.connection()
        with connection.begin_nested():
            connection.execute(_insert(connection.dialect.name, event))
    except Exception as error:
        _log.error("the event is not inserted, only published: %s", type(error).__name__)
    if not db.in_transaction():
        _publish(event)
        return
    if db not in _held:
        _held[db] = held = _Held()
        listening.listen(db, "after_transaction_end", _ended)
        # A session that is dropped never ends its transaction.
        weakref.finalize(db, held.publish).atexit = False
        before_close(publish_held)
    _held[db].add(event)


def _insert(dialect: str, event: Event) -> Any:
    """Return the insert of the same values that the worker would insert. ``created_at`` and JSON come from the body."""
    fields = json.loads(event.body)
    values = {
        **{name: fields.get(name) for name in ("organization_id", "source", "workflow_id", "state", "payload")},
        **{name: getattr(event, name) for name in ("bom_id", "tenant_id", "project_id", "user_id", "created_at")},
        "id": uuid.uuid4(),
        "event_id": event.event_id,
        "event_type": event.event_type,
        "routing_key": event.routing_key,
    }
    if dialect == "postgresql":
        return postgresql.insert(EnrichmentEvent).values(values).on_conflict_do_nothing(index_elements=["event_id"])
    if dialect == "sqlite":
        return sqlite.insert(EnrichmentEvent).values(values).on_conflict_do_nothing(index_elements=["event_id"])
    return insert(EnrichmentEvent).values(values)


def _ended(session: Session, transaction: SessionTransaction) -> None:
    """Publish the events of a session whose outermost transaction has ended; savepoints end more often."""
    if transaction.parent is not None:
        return
    if (held := _held.get(session)) is not None:
        held.publish()


def publish_held() -> None:
    """Publish the events of transactions that are still open at the exit: the process's end rolls them back."""
    for held in list(_held.values()):
        held.publish()


def _publish(event: Event) -> None:
    process = current()
    if process is not None:
        process.publisher.send(event)
