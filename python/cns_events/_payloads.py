"""Payloads of the event types: the fields of the contract, without those that are ``None``, and further ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cns_events._native import severity_of

Json = Mapping[str, Any]
Payload = dict[str, Any]


def _given(required: Payload, **optional: Any) -> Payload:
    for name, value in optional.items():
        if value is not None:
            required[name] = value
    return required


def processing_started(total_items: int, message: str | None) -> Payload:
    """Return the payload of ``processing_started``."""
    return _given({"total_items": total_items}, message=message)


def stage_started(stage: str) -> Payload:
    """Return the payload of ``stage_started``."""
    return {"stage": stage}


def stage_completed(stage: str, duration_ms: float, metrics: Json | None) -> Payload:
    """Return the payload of ``stage_completed``."""
    return _given({"stage": stage, "duration_ms": duration_ms}, metrics=metrics)


def enrichment_progress(
    mpn: str, status: str, confidence: float | None, supplier: str | None, match_details: Json | None
) -> Payload:
    """Return the payload of ``enrichment_progress``."""
    return _given({"mpn": mpn, "status": status}, confidence=confidence, supplier=supplier, match_details=match_details)


def risk_alert(component_id: str, risk_score: float, risk_factors: Any, severity: str | None) -> Payload:
    """Return the payload of ``risk_alert``; the score decides the severity, unless it is given."""
    if severity is None:
        try:
            severity = severity_of(float(risk_score))
        except Exception:  # no number: the schema says so, and the event is counted as a violation
            severity = "medium"
    required = {"component_id": component_id, "risk_score": risk_score, "severity": severity}
    return _given(required, risk_factors=risk_factors)


def error(error_message: str, error_code: str | None, error_details: Json | None) -> Payload:
    """Return the payload of ``error``."""
    return _given({"error_message": error_message}, error_code=error_code, error_details=error_details)


def component_matched(
    mpn: str, matched_mpn: str, manufacturer: str | None, confidence: float | None, supplier: str | None
) -> Payload:
    """Return the payload of ``component_matched``."""
    required = {"mpn": mpn, "matched_mpn": matched_mpn}
    return _given(required, manufacturer=manufacturer, confidence=confidence, supplier=supplier)


def api_call(supplier: str, endpoint: str, status_code: int | None, duration_ms: float | None) -> Payload:
    """Return the payload of ``api_call_made``."""
    return _given({"supplier": supplier, "endpoint": endpoint}, status_code=status_code, duration_ms=duration_ms)


def cache(name: str, key: str) -> Payload:
    """Return the payload of ``cache_hit`` and ``cache_miss``."""
    return {"cache": name, "key": key}
