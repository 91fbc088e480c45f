"""One event from a call to the publisher. Nothing here raises what an event could raise, and nothing waits."""

from __future__ import annotations

import logging
import sys
from datetime import datetime, timedelta, timezone
from typing import Any

from cns_events._native import Event
from cns_events._process import current

_log = logging.getLogger("cns_events")

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_REASONS = {5: "the native module panicked: this is a bug"}


def micros_of(created_at: datetime | None) -> int | None:
    """Return a time as microseconds since 1970. One without a zone is UTC."""
    if created_at is None:
        return None
    if created_at.tzinfo is None:
        created_at = created_at.replace(tzinfo=timezone.utc)
    return (created_at - _EPOCH) // _MICROSECOND


def _traceparent() -> str | None:
    """Return the context of the active span, where OpenTelemetry is in use."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _in_workflow_code() -> bool:
    """Return whether this is a Temporal workflow's code, which a replay runs again."""
    workflow = sys.modules.get("temporalio.workflow")
    return workflow is not None and bool(workflow.in_workflow())


def publish(event_type: object, payload: object, of: dict[str, Any], *, hold: bool = False) -> Event | None:
    """Publish an event; with ``hold`` only check it. Return it, or ``None`` where it was not accepted."""
    process = current()
    if process is None:
        return None
    if _in_workflow_code():
        _log.error("no event from workflow code, which is replayed: log it in an activity")
        return None
    get = of.get
    logged = process.publisher.log(
        event_type,
        payload,
        get("state"),
        get("bom_id"),
        get("tenant_id"),
        get("organization_id"),
        get("project_id"),
        get("user_id"),
        get("source"),
        get("workflow_id"),
        get("event_id"),
        get("routing_key"),
        micros_of(get("created_at")),
        get("traceparent") or _traceparent(),
        hold,
    )
    if isinstance(logged, Event):
        return logged
    if (reason := _REASONS.get(logged)) is not None:
        _log.error("event not published: %s", reason)
    return None


def refuse(error: Exception) -> None:
    """Count and log a call whose arguments cannot be read."""
    process = current()
    if process is not None:
        process.publisher.refuse(f"an argument cannot be read: {type(error).__name__}")
