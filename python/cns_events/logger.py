"""The class that the services have, publishing instead of inserting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from cns_events import _payloads
from cns_events._fields import complete
from cns_events._native import Event
from cns_events._payloads import Json
from cns_events._process import current
from cns_events._publish import publish, refuse
from cns_events._reading import OwnWrites, Query, Row, read
from cns_events.workflow import WorkflowLogger

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

UuidLike = str | UUID
MatchStatus = Literal["matched", "no_match", "cached", "error"] | str

_SOURCES = ("customer", "staff")


class EventLogger:
    """Logs the events of workflows: each is published, and stored once by a worker.

    A ``log_...`` method takes microseconds, never waits and never raises. It returns the event, or ``None`` where it was not
    accepted; `stats` counts these, and the log has the reasons. Every method takes the fields of an event as keywords
    (``event_id``, ``workflow_id``, ``project_id``, ``user_id``, ``tenant_id``, ``source``, ``state``, ``created_at``,
    ``routing_key``, ``traceparent``); any other keyword becomes a field of the payload.

    ``db`` is the session that the query methods read with. With ``write_database`` each event is inserted on it as well.
    """

    def __init__(
        self,
        db: Session | None = None,
        *,
        source: str | None = None,
        project_id: UuidLike | None = None,
        user_id: UuidLike | None = None,
        tenant_id: UuidLike | None = None,
        state: Json | None = None,
        write_database: bool | None = None,
        read_wait: float = 2.0,
    ) -> None:
        given = {
            "source": source,
            "project_id": project_id,
            "user_id": user_id,
            "tenant_id": tenant_id,
            "state": state,
        }
        self.db = db
        self._defaults: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        self._write_database = db is not None and _writes_database(write_database)
        self._own = OwnWrites(read_wait)

    def __enter__(self) -> EventLogger:
        return self

    def __exit__(self, *exc: object) -> None:
        """Do nothing: events are on their way. Call ``flush`` where they have to be confirmed."""

    def log_processing_started(
        self,
        bom_id: UuidLike,
        organization_id: str,
        workflow_id: str | None = None,
        source: str | None = None,
        total_items: int = 0,
        *,
        message: str | None = None,
        **more: Any,
    ) -> Event | None:
        """Log that a workflow started to process a BOM with this many lines."""
        payload = _payloads.processing_started(total_items, message)
        given = {
            "bom_id": bom_id,
            "organization_id": organization_id,
            "workflow_id": workflow_id,
            "source": source,
        }
        return self._log("processing_started", payload, given, more)

    def log_stage_started(
        self,
        bom_id: UuidLike,
        stage_name: str,
        organization_id: str,
        workflow_id: str | None = None,
        **more: Any,
    ) -> Event | None:
        """Log that a stage started: ``parsing``, ``enrichment``, ``risk_analysis`` or another word."""
        given = {"bom_id": bom_id, "organization_id": organization_id, "workflow_id": workflow_id}
        return self._log("stage_started", _payloads.stage_started(stage_name), given, more)

    def log_stage_completed(
        self,
        bom_id: UuidLike,
        stage_name: str,
        organization_id: str,
        workflow_id: str | None = None,
        duration_ms: float = 0,
        *,
        metrics: Json | None = None,
        **more: Any,
    ) -> Event | None:
        """Log that a stage completed, with its duration in milliseconds."""
        payload = _payloads.stage_completed(stage_name, duration_ms, metrics)
        given = {"bom_id": bom_id, "organization_id": organization_id, "workflow_id": workflow_id}
        return self._log("stage_completed", payload, given, more)

    def log_enrichment_progress(
        self,
        bom_id: UuidLike,
        organization_id: str,
        mpn: str,
        status: MatchStatus,
        confidence: float | None = None,
        source: str | None = None,
        *,
        supplier: str | None = None,
        match_details: Json | None = None,
        **more: Any,
    ) -> Event | None:
        """Log that the enrichment of one line of the BOM ended.

        A ``source`` that is neither ``customer`` nor ``staff`` is the supplier, unless ``supplier`` is given.
        """
        if isinstance(source, str) and source not in _SOURCES:
            source, supplier = None, supplier if supplier is not None else source
        payload = _payloads.enrichment_progress(mpn, status, confidence, supplier, match_details)
        given = {"bom_id": bom_id, "organization_id": organization_id, "source": source}
        return self._log("enrichment_progress", payload, given, more)

    def log_risk_alert(
        self,
        bom_id: UuidLike,
        organization_id: str,
        component_id: str,
        risk_score: float,
        risk_factors: Any = None,
        *,
        severity: str | None = None,
        **more: Any,
    ) -> Event | None:
        """Log a risk, 0-100. The score decides the severity unless it is given: critical from 80, high from 60."""
        payload = _payloads.risk_alert(component_id, risk_score, risk_factors, severity)
        given = {"bom_id": bom_id, "organization_id": organization_id}
        return self._log("risk_alert", payload, given, more)

    def log_workflow_paused(
        self,
        bom_id: UuidLike,
        workflow_id: str,
        organization_id: str,
        user_id: UuidLike | None = None,
        reason: str = "",
        **more: Any,
    ) -> Event | None:
        """Log that a user paused the workflow."""
        given = {
            "bom_id": bom_id,
            "organization_id": organization_id,
            "workflow_id": workflow_id,
            "user_id": user_id,
        }
        return self._log("workflow_paused", {"reason": reason}, given, more)

    def log_workflow_resumed(
        self,
        bom_id: UuidLike,
        workflow_id: str,
        organization_id: str,
        user_id: UuidLike | None = None,
        reason: str = "",
        **more: Any,
    ) -> Event | None:
        """Log that a user resumed the workflow."""
        given = {
            "bom_id": bom_id,
            "organization_id": organization_id,
            "workflow_id": workflow_id,
            "user_id": user_id,
        }
        return self._log("workflow_resumed", {"reason": reason}, given, more)

    def log_error(
        self,
        bom_id: UuidLike,
        organization_id: str,
        error_message: str,
        error_code: str | None = None,
        error_details: Json | None = None,
        **more: Any,
    ) -> Event | None:
        """Log that a part of the workflow failed."""
        payload = _payloads.error(error_message, error_code, error_details)
        given = {"bom_id": bom_id, "organization_id": organization_id}
        return self._log("error", payload, given, more)

    def log_component_matched(
        self,
        bom_id: UuidLike,
        organization_id: str,
        mpn: str,
        matched_mpn: str,
        *,
        manufacturer: str | None = None,
        confidence: float | None = None,
        supplier: str | None = None,
        **more: Any,
    ) -> Event | None:
        """Log that a component was matched with a supplier's part."""
        payload = _payloads.component_matched(mpn, matched_mpn, manufacturer, confidence, supplier)
        given = {"bom_id": bom_id, "organization_id": organization_id}
        return self._log("component_matched", payload, given, more)

    def log_api_call(
        self,
        bom_id: UuidLike,
        organization_id: str,
        supplier: str,
        endpoint: str,
        *,
        status_code: int | None = None,
        duration_ms: float | None = None,
        **more: Any,
    ) -> Event | None:
        """Log that a supplier's API was called."""
        payload = _payloads.api_call(supplier, endpoint, status_code, duration_ms)
        given = {"bom_id": bom_id, "organization_id": organization_id}
        return self._log("api_call_made", payload, given, more)

    def log_cache_hit(self, bom_id: UuidLike, organization_id: str, cache: str, key: str, **more: Any) -> Event | None:
        """Log that a lookup was answered from the cache."""
        given = {"bom_id": bom_id, "organization_id": organization_id}
        return self._log("cache_hit", _payloads.cache(cache, key), given, more)

    def log_cache_miss(self, bom_id: UuidLike, organization_id: str, cache: str, key: str, **more: Any) -> Event | None:
        """Log that a lookup was not in the cache."""
        given = {"bom_id": bom_id, "organization_id": organization_id}
        return self._log("cache_miss", _payloads.cache(cache, key), given, more)

    def log_event(
        self,
        event_type: str,
        bom_id: UuidLike,
        organization_id: str | None,
        payload: Json | None = None,
        **more: Any,
    ) -> Event | None:
        """Log an event of any type. The routing key is that of the type, unless it is given."""
        given = {"bom_id": bom_id, "organization_id": organization_id}
        if payload is None or isinstance(payload, Mapping):
            payload = dict(payload or {})  # further keywords go into a copy
        return self._log(event_type, payload, given, more)

    def bind(self, bom_id: UuidLike, organization_id: str, workflow_id: str | None = None, **common: Any) -> WorkflowLogger:
        """Return a logger for one workflow, whose methods need no ids."""
        given = {"bom_id": bom_id, "organization_id": organization_id, "workflow_id": workflow_id}
        return WorkflowLogger(self._log, {**given, **common})

    def get_events_by_bom(
        self,
        bom_id: UuidLike,
        event_types: Sequence[str] | None = None,
        limit: int = 100,
        *,
        organization_id: str | None = None,
        tenant_id: UuidLike | None = None,
    ) -> list[Row]:
        """Return the events of a BOM, newest first. ``[]`` where they cannot be read; the log has the reason."""
        arguments = {"bom_id": bom_id, "event_types": event_types, "limit": limit}
        return self._read("bom", "bom_id", arguments, tenant_id, organization_id)

    def get_events_by_workflow(
        self,
        workflow_id: str,
        limit: int = 100,
        *,
        organization_id: str | None = None,
        tenant_id: UuidLike | None = None,
    ) -> list[Row]:
        """Return the events of a workflow, newest first. ``[]`` where they cannot be read; the log has the reason."""
        arguments = {"workflow_id": workflow_id, "limit": limit}
        return self._read("workflow", "workflow_id", arguments, tenant_id, organization_id)

    def get_recent_errors(self, organization_id: str, hours: int = 24, limit: int = 50) -> list[Row]:
        """Return the errors of an organization in the last hours, newest first."""
        arguments = {"organization_id": organization_id, "hours": hours, "limit": limit}
        return self._read("errors", "organization_id", arguments, None, organization_id)

    def _read(
        self, kind: str, of: str, arguments: dict[str, Any], tenant_id: UuidLike | None, organization_id: str | None
    ) -> list[Row]:
        if tenant_id is None:
            tenant_id = self._defaults.get("tenant_id")
        return read(self.db, Query(kind, of, arguments, tenant_id, organization_id), self._own)

    def _log(self, event_type: object, payload: Any, given: dict[str, Any], more: dict[str, Any]) -> Event | None:
        try:
            complete(given, more, self._defaults, payload)
            event = publish(event_type, payload, given, hold=self._write_database)
        except Exception as error:  # an argument's own code raised
            refuse(error)
            return None
        if event is not None and self.db is not None:
            self._own.remember(event.event_id, given)
            if self._write_database:
                from cns_events._write_database import insert_and_publish

                insert_and_publish(self.db, event)
        return event


def _writes_database(argument: bool | None) -> bool:
    """Return whether events are inserted too: as the caller says, else as the process is configured."""
    if argument is not None:
        return argument
    process = current()
    return process is not None and process.settings.write_database
