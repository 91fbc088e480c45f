"""Payloads of the event types: the fields of the contract, without those that are ``None``, and further ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cns_events._native import severity_of

Json = Mapping[str, Any]
Payload = dict[str, Any]


def _add(payload: Payload, name: str, value: object) -> None:
    """Add an optional field."""
    if value is not None:
        payload[name] = value


def processing_started(total_items: int, message: str | None) -> Payload:
    """Return the payload of ``processing_started``."""
    payload: Payload = {"total_items": total_items}
    _add(payload, "message", message)
    return payload


def stage_started(stage: str) -> Payload:
    """Return the payload of ``stage_started``."""
    return {"stage": stage}


def stage_completed(stage: str, duration_ms: float, metrics: Json | None) -> Payload:
    """Return the payload of ``stage_completed``."""
    payload: Payload = {"stage": stage, "duration_ms": duration_ms}
    _add(payload, "metrics", metrics)
    return payload


def enrichment_progress(
    mpn: str, status: str, confidence: float | None, supplier: str | None, match_details: Json | None
) -> Payload:
    """Return the payload of ``enrichment_progress``."""
    payload: Payload = {"mpn": mpn, "status": status}
    _add(payload, "confidence", confidence)
    _add(payload, "supplier", supplier)
    _add(payload, "match_details", match_details)
    return payload


def risk_alert(component_id: str, risk_score: float, risk_factors: Any, severity: str | None) -> Payload:
    """Return the payload of ``risk_alert``; the score decides the severity, unless it is given."""
    if severity is None:
        try:
            severity = severity_of(float(risk_score))
        except Exception:  # no number: the schema says so, and the event is counted as a violation
            severity = "medium"
    payload: Payload = {"component_id": component_id, "risk_score": risk_score, "severity": severity}
    _add(payload, "risk_factors", risk_factors)
    return payload


def error(error_message: str, error_code: str | None, error_details: Json | None) -> Payload:
    """Return the payload of ``error``."""
    payload: Payload = {"error_message": error_message}
    _add(payload, "error_code", error_code)
    _add(payload, "error_details", error_details)
    return payload


def component_matched(
    mpn: str, matched_mpn: str, manufacturer: str | None, confidence: float | None, supplier: str | None
) -> Payload:
    """Return the payload of ``component_matched``."""
    payload: Payload = {"mpn": mpn, "matched_mpn": matched_mpn}
    _add(payload, "manufacturer", manufacturer)
    _add(payload, "confidence", confidence)
    _add(payload, "supplier", supplier)
    return payload


def api_call(supplier: str, endpoint: str, status_code: int | None, duration_ms: float | None) -> Payload:
    """Return the payload of ``api_call_made``."""
    payload: Payload = {"supplier": supplier, "endpoint": endpoint}
    _add(payload, "status_code", status_code)
    _add(payload, "duration_ms", duration_ms)
    return payload


def cache(name: str, key: str) -> Payload:
    """Return the payload of ``cache_hit`` and ``cache_miss``."""
    return {"cache": name, "key": key}
