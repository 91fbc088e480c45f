"""Tests of services: the fixture, the context manager, and the helpers beside."""

from __future__ import annotations

import asyncio
import atexit
import importlib
import logging
import re
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

import cns_events
from cns_events import EventLogger
from cns_events.logging import ErrorEvents
from cns_events.testing import Captured, capture

BOM = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"

pytest_plugins = ["pytester"]


def test_the_fixture_fails_a_test_whose_payload_breaks_its_schema(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        f"""
        from cns_events import EventLogger

        def test_good(cns_events_captured):
            EventLogger().log_risk_alert("{BOM}", "org", "LM358", 84)
            assert cns_events_captured.one("risk_alert").payload["severity"] == "critical"

        def test_violates(cns_events_captured):
            EventLogger().log_risk_alert("{BOM}", "org", "LM358", 120)

        def test_refused(cns_events_captured):
            EventLogger().log_error("no uuid", "org", "m")
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(["*payload.risk_score: not within 0-100*", "*1 calls were refused*"])


def test_captures_nest_and_end() -> None:
    with capture() as outer:
        EventLogger().log_error(BOM, "org", "outer")
        with capture() as inner:
            EventLogger().log_error(BOM, "org", "inner")
        EventLogger().log_error(BOM, "org", "outer again")
    assert [event.payload["error_message"] for event in outer.events] == ["outer", "outer again"]
    assert inner.one("error").payload["error_message"] == "inner"
    with pytest.raises(AssertionError, match="2 events of type error"):
        outer.one("error")


def test_errors_that_are_logged_become_events(cns_events_captured: Captured) -> None:
    log = logging.getLogger("app.enrichment")
    handler = ErrorEvents()
    log.addHandler(handler)
    try:
        log.error("timed out after %d s", 5, extra={"bom_id": BOM, "organization_id": "org", "workflow_id": "w"})
        log.error("of nobody")
        log.warning("not an error", extra={"bom_id": BOM, "organization_id": "org"})
    finally:
        log.removeHandler(handler)
    event = cns_events_captured.one("error")
    assert (event.payload, event.workflow_id) == (
        {"error_message": "timed out after 5 s", "logger": "app.enrichment"},
        "w",
    )


def test_the_prometheus_names_are_those_of_the_rust_publisher(cns_events_captured: Captured) -> None:
    from prometheus_client import CollectorRegistry, generate_latest

    from cns_events.prometheus import Collector

    registry = CollectorRegistry()
    registry.register(Collector())
    EventLogger().log_error(BOM, "org", "m")
    lines = generate_latest(registry).decode().splitlines()
    found = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    source = (Path(__file__).parents[3] / "src/publisher_metrics.rs").read_text()
    rust = {f"cns_events_publisher_{name}" for name in re.findall(r'\("([a-z_]+)", "', source)}
    assert found == rust
    assert len(cns_events_captured.events) == 1


def test_an_active_span_is_the_trace_of_an_event(cns_events_captured: Captured) -> None:
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("work"):
        context = trace.get_current_span().get_span_context()
        event = EventLogger().log_error(BOM, "org", "m")
    assert event is not None
    assert event.traceparent == f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    assert EventLogger().log_error(BOM, "org", "m", traceparent="no trace").traceparent is None
    assert len(cns_events_captured.events) == 2


def test_an_activity_gives_its_events_the_same_ids_for_each_attempt(cns_events_captured: Captured) -> None:
    from temporalio.testing import ActivityEnvironment

    from cns_events.temporal import event_id, shortened

    def step() -> str:
        event = EventLogger().log_stage_started(BOM, "parsing", "org", event_id=event_id("stage_started"))
        assert event is not None
        return event.event_id

    environment = ActivityEnvironment()
    first, second = environment.run(step), environment.run(step)
    info = environment.info
    assert first == second == f"{info.workflow_run_id}/{info.activity_id}/stage_started"
    assert len(shortened("x" * 1000)) == 255 and shortened("x" * 1000) != shortened("x" * 1001)
    assert len(cns_events_captured.events) == 2


def test_a_workflow_that_imports_the_package_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from temporalio import workflow
    from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

    (tmp_path / "sandboxed.py").write_text(
        "from temporalio import workflow\n"
        "from cns_events import EventLogger\n"
        "@workflow.defn\n"
        "class Sandboxed:\n"
        "    @workflow.run\n"
        "    async def run(self) -> None:\n"
        "        EventLogger()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    definition = workflow._Definition.must_from_class(importlib.import_module("sandboxed").Sandboxed)
    left_behind = (atexit._ncallbacks(), len(logging.getLogger("cns_events").handlers))  # type: ignore[attr-defined]

    async def run_twice() -> None:
        for _ in range(2):
            SandboxedWorkflowRunner().prepare_workflow(definition)  # imports the workflow's module anew

    asyncio.run(run_twice())
    assert left_behind == (atexit._ncallbacks(), len(logging.getLogger("cns_events").handlers))  # type: ignore[attr-defined]


def test_workflow_code_logs_nothing(cns_events_captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    from temporalio import workflow

    monkeypatch.setattr(workflow, "in_workflow", lambda: True)
    assert EventLogger().log_error(BOM, "org", "m") is None
    assert (cns_events_captured.events, cns_events.stats().accepted) == ([], 0)
