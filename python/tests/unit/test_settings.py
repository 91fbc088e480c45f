"""Configuration: arguments, environment, and what is refused."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

import cns_events
from cns_events import ConfigurationError, EventLogger
from cns_events._process import swap
from cns_events._settings import settings

BOM = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"


def test_the_environment_serves_where_no_argument_is_given(tmp_path: Path) -> None:
    secret = tmp_path / "uri"
    secret.write_text("amqp://from-a-file\n")
    variables = {
        "CNS_EVENTS__AMQP__URI_FILE": str(secret),
        "AMQP_URL": "amqp://fallback",
        "CNS_EVENTS__PUBLISHER__SPOOL": "/var/spool/x",
        "CNS_EVENTS__PUBLISHER__SPOOL_WHEN": "always",
        "CNS_EVENTS__PUBLISHER__SHUTDOWN_TIMEOUT_MS": "500",
        "CNS_EVENTS__PUBLISHER__ENABLED": "false",
        "OTEL_SERVICE_NAME": "enrichment",
    }
    of = settings(variables=variables)
    assert (of.uri, of.app_id, of.spool, of.spool_when) == ("amqp://from-a-file", "enrichment", "/var/spool/x", "always")
    assert (of.shutdown_timeout, of.enabled, of.write_database) == (0.5, False, False)
    assert settings(uri="amqp://argument", app_id="a", enabled=True, variables=variables).uri == "amqp://argument"


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({}, "no broker"),
        ({"AMQP_URL": "amqp://h", "CNS_EVENTS__PUBLISHER__ENABLED": "yes"}, "neither true nor false"),
        ({"AMQP_URL": "amqp://h", "CNS_EVENTS__PUBLISHER__BUFFER_EVENTS": "-1"}, "not a whole number"),
        ({"CNS_EVENTS__AMQP__URI": "amqp://h", "CNS_EVENTS__AMQP__URI_FILE": "/x"}, "unset one of them"),
        ({"CNS_EVENTS__AMQP__URI_FILE": "/nowhere"}, "cannot read the file"),
    ],
)
def test_an_environment_that_cannot_be_used_is_refused(variables: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        settings(variables=variables)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"uri": "http://user:hidden@h"}, "broker's URI"),
        ({"uri": "amqp://h", "spool_when": "sometimes", "spool": "/tmp"}, "spool_when"),
        ({"uri": "amqp://h", "buffer_bytes": 10}, "cannot hold an event"),
        ({"uri": "amqp://h", "buffer_events": -1}, "negative"),
        ({"uri": "amqp://broker.example.org"}, "amqp.require_tls"),
        ({"uri": "amqp://h", "app_id": "x" * 300}, "app_id"),
        ({"uri": "amqp://h", "spool": "/proc/nowhere"}, "spool folder"),
    ],
)
def test_configure_raises_where_it_cannot_work(
    arguments: dict[str, object], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if problem == "amqp.require_tls":
        monkeypatch.setenv("CNS_EVENTS__AMQP__REQUIRE_TLS", "true")
    before = swap(None)
    try:
        with pytest.raises(ConfigurationError, match=problem) as refused:
            cns_events.configure(**arguments)  # type: ignore[arg-type]
        assert "hidden" not in str(refused.value)
    finally:
        swap(before)


def test_without_a_broker_nothing_raises_and_the_log_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("AMQP_URL", raising=False)
    before = swap(None)
    try:
        with caplog.at_level(logging.ERROR, "cns_events"):
            assert EventLogger().log_error(BOM, "org", "m") is None
            assert EventLogger().log_error(BOM, "org", "m") is None
        assert [record.getMessage() for record in caplog.records] == [
            "events are not published: no broker: set AMQP_URL, or call configure(uri=...)"
        ]
        assert cns_events.flush(0.1) and cns_events.close(0.1).left == 0
    finally:
        swap(before)


def test_disabled_publishing_checks_and_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AMQP_URL", raising=False)
    before = swap(None)
    try:
        cns_events.configure(enabled=False)
        assert EventLogger().log_error(BOM, "org", "m") is not None
        assert EventLogger().log_error("no uuid", "org", "m") is None
        assert (cns_events.stats().invalid, cns_events.flush(0.1)) == (1, True)
    finally:
        swap(before)


def test_importing_needs_nothing_and_starts_nothing() -> None:
    code = """
import sys, threading, os
sys.modules["sqlalchemy"] = None
import cns_events
assert len(os.listdir("/proc/self/task")) == 1, "a thread was started"
assert not [name for name in sys.modules if name.startswith(("sqlalchemy.", "temporalio", "prometheus_client"))]
"""
    subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", code], check=True)
