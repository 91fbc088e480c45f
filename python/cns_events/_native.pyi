"""The native module: the publisher, its events and its log lines."""

import os
from collections.abc import Callable
from datetime import datetime
from typing import Any, final
from uuid import UUID

__all__ = ["Event", "Publisher", "notices", "severity_of", "tenant_of", "version"]

@final
class Event:
    """An event that was accepted, with the attributes of the table's row.

    It is written in the call: values that change afterwards do not change it. ``str(event)`` is its ``event_id``.
    """

    @property
    def id(self) -> None:
        """``None``: the worker that stores the event makes the row's id."""

    @property
    def event_id(self) -> str:
        """Deduplication key."""

    @property
    def event_type(self) -> str:
        """Type of the event."""

    @property
    def routing_key(self) -> str:
        """Routing key of the message."""

    @property
    def priority(self) -> int:
        """Priority of the message, 0-9."""

    @property
    def traceparent(self) -> str | None:
        """Trace that the event belongs to (W3C Trace Context)."""

    @property
    def body(self) -> bytes:
        """Body of the message: one JSON object."""

    @property
    def bom_id(self) -> UUID:
        """BOM that the event is about."""

    @property
    def tenant_id(self) -> UUID:
        """Tenant that owns the event."""

    @property
    def organization_id(self) -> str | None:
        """Organization, as the producer names it."""

    @property
    def project_id(self) -> UUID | None:
        """Project of the BOM."""

    @property
    def user_id(self) -> UUID | None:
        """User who acted."""

    @property
    def source(self) -> str:
        """``customer`` or ``staff``."""

    @property
    def workflow_id(self) -> str | None:
        """Workflow that the event belongs to."""

    @property
    def state(self) -> dict[str, Any]:
        """State of the workflow."""

    @property
    def payload(self) -> dict[str, Any]:
        """Data of the event."""

    @property
    def created_at(self) -> datetime:
        """Time of the event."""

@final
class Publisher:
    """A configuration, and the publisher that each process starts at its first event."""

    def __new__(
        cls,
        uri: str,
        app_id: str,
        plain: Callable[[object], object],
        on_start: Callable[[], object] | None = None,
        on_notices: Callable[[], object] | None = None,
        *,
        exchange: str | None = None,
        buffer_events: int | None = None,
        buffer_bytes: int | None = None,
        max_message_bytes: int | None = None,
        spool: str | os.PathLike[str] | None = None,
        spool_when: str | None = None,
        spool_bytes: int | None = None,
        require_tls: bool = False,
        mode: str = "send",
    ) -> Publisher: ...
    def log(
        self,
        event_type: object,
        payload: object,
        state: object,
        bom_id: object,
        tenant_id: object,
        organization_id: object,
        project_id: object,
        user_id: object,
        source: object,
        workflow_id: object,
        event_id: object,
        routing_key: object,
        created_at: int | None,
        traceparent: str | None,
        hold: bool,
    ) -> Event | int:
        """Log an event. Return it, or the number of the reason why it was not accepted."""

    def send(self, event: Event) -> int:
        """Send an event that was held. Return 0, or the number of the reason why it was not accepted."""

    def refuse(self, problem: str) -> None:
        """Count and log a call that is no event."""

    def stats(self) -> dict[str, int]:
        """Return the counts of this process."""

    def outage(self) -> str | None:
        """Return the reason why nothing can be sent."""

    def is_started(self) -> bool:
        """Return whether this process has a publisher."""

    def close(self, timeout: float) -> tuple[int, int, int, list[str]]:
        """End the publisher of this process: confirmed, left, in the spool, lost."""

    def captured(self) -> list[tuple[Event, str | None]]:
        """Take the captured events, each with the problem of its payload."""

def tenant_of(organization_id: str) -> str:
    """Return the tenant of an organization."""

def severity_of(risk_score: float) -> str:
    """Return the severity of a risk score."""

def notices() -> list[tuple[int, str]]:
    """Take the log lines of this process, each with its level."""

def version() -> str:
    """Return the version of the package."""
