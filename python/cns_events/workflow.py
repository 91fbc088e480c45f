"""A logger for one workflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal
from uuid import UUID

from cns_events import _payloads
from cns_events._native import Event
from cns_events._payloads import Json

UuidLike = str | UUID
MatchStatus = Literal["matched", "no_match", "cached", "error"] | str
Log = Callable[[object, Any, dict[str, Any], dict[str, Any]], Event | None]


class WorkflowLogger:
    """Logs the events of one workflow, which share its ids. `EventLogger.bind` makes it.

    The methods are those of `EventLogger` without the ids, and take the same keywords.
    """

    def __init__(self, log: Log, fields: dict[str, Any]) -> None:
        self._log_event = log
        self._fields = fields

    def set_state(self, state: Json | None) -> None:
        """Set the state of all events from now on: status, current_stage, total_items, completed_items, percent."""
        self._fields = {**self._fields, "state": state}

    def log_processing_started(self, total_items: int = 0, *, message: str | None = None, **more: Any) -> Event | None:
        """Log that the workflow started to process a BOM with this many lines."""
        return self._log("processing_started", _payloads.processing_started(total_items, message), more)

    def log_stage_started(self, stage_name: str, **more: Any) -> Event | None:
        """Log that a stage started: ``parsing``, ``enrichment``, ``risk_analysis`` or another word."""
        return self._log("stage_started", _payloads.stage_started(stage_name), more)

    def log_stage_completed(
        self, stage_name: str, duration_ms: float = 0, *, metrics: Json | None = None, **more: Any
    ) -> Event | None:
        """Log that a stage completed, with its duration in milliseconds."""
        return self._log("stage_completed", _payloads.stage_completed(stage_name, duration_ms, metrics), more)

    def log_enrichment_progress(
        self,
        mpn: str,
        status: MatchStatus,
        confidence: float | None = None,
        *,
        supplier: str | None = None,
        match_details: Json | None = None,
        **more: Any,
    ) -> Event | None:
        """Log that the enrichment of one line of the BOM ended."""
        payload = _payloads.enrichment_progress(mpn, status, confidence, supplier, match_details)
        return self._log("enrichment_progress", payload, more)

    def log_risk_alert(
        self,
        component_id: str,
        risk_score: float,
        risk_factors: Any = None,
        *,
        severity: str | None = None,
        **more: Any,
    ) -> Event | None:
        """Log a risk, 0-100. The score decides the severity unless it is given: critical from 80, high from 60."""
        payload = _payloads.risk_alert(component_id, risk_score, risk_factors, severity)
        return self._log("risk_alert", payload, more)

    def log_workflow_paused(self, user_id: UuidLike | None = None, reason: str = "", **more: Any) -> Event | None:
        """Log that a user paused the workflow."""
        return self._log("workflow_paused", {"reason": reason}, {"user_id": user_id, **more})

    def log_workflow_resumed(self, user_id: UuidLike | None = None, reason: str = "", **more: Any) -> Event | None:
        """Log that a user resumed the workflow."""
        return self._log("workflow_resumed", {"reason": reason}, {"user_id": user_id, **more})

    def log_error(
        self,
        error_message: str,
        error_code: str | None = None,
        error_details: Json | None = None,
        **more: Any,
    ) -> Event | None:
        """Log that a part of the workflow failed."""
        return self._log("error", _payloads.error(error_message, error_code, error_details), more)

    def log_component_matched(
        self,
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
        return self._log("component_matched", payload, more)

    def log_api_call(
        self,
        supplier: str,
        endpoint: str,
        *,
        status_code: int | None = None,
        duration_ms: float | None = None,
        **more: Any,
    ) -> Event | None:
        """Log that a supplier's API was called."""
        return self._log("api_call_made", _payloads.api_call(supplier, endpoint, status_code, duration_ms), more)

    def log_cache_hit(self, cache: str, key: str, **more: Any) -> Event | None:
        """Log that a lookup was answered from the cache."""
        return self._log("cache_hit", _payloads.cache(cache, key), more)

    def log_cache_miss(self, cache: str, key: str, **more: Any) -> Event | None:
        """Log that a lookup was not in the cache."""
        return self._log("cache_miss", _payloads.cache(cache, key), more)

    def log_event(self, event_type: str, payload: Json | None = None, **more: Any) -> Event | None:
        """Log an event of any type. The routing key is that of the type, unless it is given."""
        if payload is None or isinstance(payload, Mapping):
            payload = dict(payload or {})
        return self._log(event_type, payload, more)

    def _log(self, event_type: object, payload: Any, more: dict[str, Any]) -> Event | None:
        return self._log_event(event_type, payload, self._fields.copy(), more)
