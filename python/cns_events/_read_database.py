"""Queries with the caller's database session, under row-level security where a tenant is known."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Select, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from cns_events._process import flush
from cns_events._reading import Own, Query
from cns_events.sqlalchemy import EnrichmentEvent, events_by_bom, events_by_workflow, recent_errors

_log = logging.getLogger("cns_events")

# Role that the policies of the table are for. They read the tenant from the claims.
_READER = "authenticated"
_LONGEST_PAUSE_SECONDS = 0.05
_SELECTS: dict[str, Callable[..., Select[Any]]] = {
    "bom": events_by_bom,
    "workflow": events_by_workflow,
    "errors": recent_errors,
}
_said: set[str] = set()


def rows(db: Any, query: Query, tenant: str | None, own: Own) -> Sequence[EnrichmentEvent]:
    """Return the rows of a query, after the events of its own are stored."""
    if not isinstance(db, Session):
        raise TypeError(
            "the session is no sqlalchemy.orm.Session; for AsyncSession use the selects of cns_events.sqlalchemy"
        )
    statement = _SELECTS[query.kind](**query.arguments)
    engine = _engine(db)
    if tenant is not None and engine.dialect.name == "postgresql":
        try:
            return _as_tenant(engine, statement, tenant, own)
        except DBAPIError as error:
            if not _may_not_become_reader(error):
                raise
    return _as_caller(db, statement, own)


def _engine(db: Session) -> Engine:
    bind = db.get_bind()
    return bind.engine if isinstance(bind, Connection) else bind


def _may_not_become_reader(error: DBAPIError) -> bool:
    """Return whether the login is no member of the readers' role, or the role does not exist."""
    return getattr(error.orig, "sqlstate", getattr(error.orig, "pgcode", None)) in ("42501", "22023", "42704")


def _as_tenant(engine: Engine, statement: Select[Any], tenant: str, own: Own) -> Sequence[EnrichmentEvent]:
    """Read on a connection of its own: the caller's transaction keeps its role."""

    def look(wanted: Select[Any]) -> Sequence[Any]:
        with Session(engine, expire_on_commit=False) as session:
            session.execute(text(f"set local role {_READER}"))
            claims = json.dumps({"tenant_id": tenant, "role": _READER})
            session.execute(select(func.set_config("request.jwt.claims", claims, True)))
            found = session.scalars(wanted).all()
            session.expunge_all()
            session.rollback()
            return found

    _wait(own, look)
    return look(statement)


def _as_caller(db: Session, statement: Select[Any], own: Own) -> Sequence[EnrichmentEvent]:
    """Read on the caller's session, as its login."""
    _wait(own, lambda wanted: db.scalars(wanted).all())
    found: Sequence[EnrichmentEvent] = db.scalars(statement).all()
    if not found and db.get_bind().dialect.name == "postgresql" and "row security" not in _said:
        hidden = db.scalar(select(func.row_security_active(text("'enrichment_events'::regclass"))))
        if hidden:
            _said.add("row security")
            _log.error(
                "row-level security hides events from this login: "
                "pass organization_id or tenant_id, and make the login a member of the role %s",
                _READER,
            )
    return found


def _wait(own: Own, look: Callable[[Select[Any]], Sequence[Any]]) -> None:
    """Wait until the events of the instance are stored, or its time is over."""
    if not own.waiting:
        return
    flush(max(0.0, own.deadline - time.monotonic()))
    wanted = select(EnrichmentEvent.event_id).where(EnrichmentEvent.event_id.in_(list(own.waiting)))
    pause = 0.002
    while True:
        if len(look(wanted)) >= len(own.waiting):
            own.stored()
            return
        left = own.deadline - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(pause, left))
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
