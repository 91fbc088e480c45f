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


def complete(given: dict[str, Any], more: dict[str, Any], defaults: dict[str, Any], payload: Any) -> None:
    """Add to the fields of a call its further keywords, or put them into the payload, and then the instance's fields.

    ``None`` is a field that is not given.
    """
    for name, value in more.items():
        if name not in COMMON:
            payload[name] = value
        elif value is not None:
            given[name] = value
    for name, value in defaults.items():
        if given.get(name) is None:
            given[name] = value
