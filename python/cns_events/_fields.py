"""The fields of an event, from a call and from the instance that it is made on."""

from __future__ import annotations

from typing import Any

# Keyword arguments of every method that are fields of the event. Any other one goes into the payload.
COMMON = frozenset(
    (
        "created_at",
        "event_id",
        "project_id",
        "routing_key",
        "source",
        "state",
        "tenant_id",
        "traceparent",
        "user_id",
        "workflow_id",
    )
)


def merged(defaults: dict[str, Any], given: dict[str, Any], more: dict[str, Any], payload: Any) -> dict[str, Any]:
    """Return the fields of an event: those of the call, else the instance's. Further keywords go into the payload."""
    fields = dict(defaults)
    for name, value in given.items():
        if value is not None:
            fields[name] = value
    for name, value in more.items():
        if name in COMMON:
            if value is not None:
                fields[name] = value
        else:
            payload[name] = value
    return fields
