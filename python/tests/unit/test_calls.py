"""The methods: arguments in the original's order, and no argument that raises."""

from __future__ import annotations

import enum
import inspect
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import cns_events
from cns_events import EventLogger
from cns_events.testing import Captured, capture

BOM = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"

# Positional arguments of the original class.
ORIGINAL = {
    "log_processing_started": ["bom_id", "organization_id", "workflow_id", "source", "total_items"],
    "log_stage_started": ["bom_id", "stage_name", "organization_id", "workflow_id"],
    "log_stage_completed": ["bom_id", "stage_name", "organization_id", "workflow_id", "duration_ms"],
    "log_enrichment_progress": ["bom_id", "organization_id", "mpn", "status", "confidence", "source"],
    "log_risk_alert": ["bom_id", "organization_id", "component_id", "risk_score", "risk_factors"],
    "log_workflow_paused": ["bom_id", "workflow_id", "organization_id", "user_id", "reason"],
    "log_workflow_resumed": ["bom_id", "workflow_id", "organization_id", "user_id", "reason"],
    "log_error": ["bom_id", "organization_id", "error_message", "error_code", "error_details"],
    "get_events_by_bom": ["bom_id", "event_types", "limit"],
    "get_events_by_workflow": ["workflow_id", "limit"],
    "get_recent_errors": ["organization_id", "hours", "limit"],
}

# One call of each method, and the routing key and priority of the contract.
CALLS: list[tuple[str, tuple[Any, ...], str, int]] = [
    ("log_processing_started", (BOM, "org", "w", "customer", 100), "cns.processing.started", 7),
    ("log_stage_started", (BOM, "parsing", "org", "w"), "cns.stage.parsing.started", 6),
    ("log_stage_completed", (BOM, "parsing", "org", "w", 12.5), "cns.stage.parsing.completed", 6),
    ("log_enrichment_progress", (BOM, "org", "LM358", "matched", 0.9), "cns.enrichment.progress", 4),
    ("log_risk_alert", (BOM, "org", "LM358", 85, ["single source"]), "cns.risk.alert.critical", 8),
    ("log_workflow_paused", (BOM, "w", "org", BOM, "lunch"), "cns.workflow.paused", 9),
    ("log_workflow_resumed", (BOM, "w", "org", BOM, "back"), "cns.workflow.resumed", 9),
    ("log_error", (BOM, "org", "timed out", "E1", {"try": 1}), "cns.error", 8),
    ("log_component_matched", (BOM, "org", "LM358", "LM358DR"), "cns.component.matched", 4),
    ("log_api_call", (BOM, "org", "DigiKey", "/search"), "cns.api.call", 3),
    ("log_cache_hit", (BOM, "org", "parts", "LM358"), "cns.cache.hit", 2),
    ("log_cache_miss", (BOM, "org", "parts", "LM358"), "cns.cache.miss", 2),
    ("log_event", ("price_checked", BOM, "org", {"price": 1}), "cns.price.checked", 5),
]


@pytest.fixture
def captured() -> Iterator[Captured]:
    """Events of a test that may be refused."""
    with capture(strict=False) as captured:
        yield captured


@pytest.mark.parametrize("name", ORIGINAL)
def test_the_positional_arguments_are_the_original_ones(name: str) -> None:
    parameters = inspect.signature(getattr(EventLogger, name)).parameters.values()
    positional = [of.name for of in parameters if of.kind is of.POSITIONAL_OR_KEYWORD]
    assert positional[1:] == ORIGINAL[name]


@pytest.mark.parametrize(("name", "arguments", "routing_key", "priority"), CALLS, ids=[call[0] for call in CALLS])
def test_each_method_logs_its_event(
    name: str, arguments: tuple[Any, ...], routing_key: str, priority: int, cns_events_captured: Captured
) -> None:
    event = getattr(EventLogger(), name)(*arguments)
    assert (event.routing_key, event.priority) == (routing_key, priority)
    assert (event.bom_id, event.organization_id) == (uuid.UUID(BOM), "org")
    assert event.tenant_id == cns_events.tenant_of("org")
    assert [str(captured) for captured in cns_events_captured.events] == [event.event_id]


@pytest.mark.parametrize(("name", "arguments", "routing_key", "priority"), CALLS, ids=[call[0] for call in CALLS])
def test_a_bound_logger_logs_the_same(
    name: str, arguments: tuple[Any, ...], routing_key: str, priority: int, cns_events_captured: Captured
) -> None:
    direct = inspect.signature(getattr(EventLogger(), name)).bind(*arguments).arguments
    ids = {"bom_id", "organization_id", "workflow_id", "source"}
    events = EventLogger().bind(BOM, "org", "w", source="customer")
    bound = getattr(events, name)(**{key: value for key, value in direct.items() if key not in ids})
    expected = getattr(EventLogger(), name)(*arguments, **({} if "workflow_id" in direct else {"workflow_id": "w"}))
    for field in ("routing_key", "payload", "bom_id", "organization_id", "workflow_id", "user_id", "source", "tenant_id"):
        assert getattr(bound, field) == getattr(expected, field), field
    assert len(cns_events_captured.events) == 2


def test_a_bound_state_is_a_default(cns_events_captured: Captured) -> None:
    events = EventLogger().bind(BOM, "org", "w")
    events.set_state({"percent": 10})
    assert events.log_stage_started("parsing").state == {"percent": 10}
    assert events.log_stage_started("parsing", state={"percent": 20}).state == {"percent": 20}
    assert len(cns_events_captured.of("stage_started")) == 2


def test_keywords_are_fields_of_the_event_or_of_the_payload(cns_events_captured: Captured) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
    event = EventLogger(source="staff").log_error(
        BOM, "org", "m", event_id="run/1", workflow_id="w", project_id=BOM, created_at=at, attempt=3, state={"percent": 5}
    )
    assert (event.event_id, event.workflow_id, event.source, event.created_at) == ("run/1", "w", "staff", at)
    assert (event.project_id, event.state, event.payload["attempt"]) == (uuid.UUID(BOM), {"percent": 5}, 3)
    assert cns_events_captured.one("error").payload == {"error_message": "m", "attempt": 3}


def test_another_source_of_progress_is_the_supplier(cns_events_captured: Captured) -> None:
    event = EventLogger().log_enrichment_progress(BOM, "org", "LM358", "matched", 0.9, "DigiKey")
    assert (event.source, event.payload["supplier"]) == ("customer", "DigiKey")
    event = EventLogger().log_enrichment_progress(BOM, "org", "LM358", "matched", None, "staff")
    assert (event.source, event.payload) == ("staff", {"mpn": "LM358", "status": "matched"})


def test_a_value_that_changes_afterwards_does_not_change_the_event(cns_events_captured: Captured) -> None:
    details = {"tries": [1]}
    event = EventLogger().log_error(BOM, "org", "m", error_details=details)
    details["tries"].append(2)
    assert event.payload["error_details"] == {"tries": [1]}


class Colour(enum.Enum):
    """An enum."""

    RED = "red"


class Level(enum.IntEnum):
    """An enum of numbers."""

    HIGH = 3


@dataclass
class Point:
    """A data class."""

    x: int
    y: set[int]


class Part(BaseModel):
    """A pydantic model."""

    mpn: str
    seen: datetime


def test_values_of_other_types_are_written_as_what_they_are(cns_events_captured: Captured) -> None:
    at = datetime(2026, 1, 2, tzinfo=timezone.utc)
    values = {
        "uuid": uuid.UUID(BOM),
        "at": at,
        "enums": (Colour.RED, Level.HIGH),
        "decimals": [Decimal("0.97"), Decimal(84), Decimal("NaN")],
        "point": Point(1, {2}),
        "part": Part(mpn="LM358", seen=at),
        "numpy": [numpy.float64(0.5), numpy.int64(7), numpy.array([1, 2])],
        "bytes": b"abc",
        "big": 10**30,
        "keys": {1: "a", None: "b"},
        "surrogates": "a\ud83d\ude00b\ud800c",
    }
    written = EventLogger().log_error(BOM, "org", "m", error_details=values).payload["error_details"]
    assert written == {
        "uuid": BOM,
        "at": "2026-01-02T00:00:00+00:00",
        "enums": ["red", 3],
        "decimals": [0.97, 84, None],
        "point": {"x": 1, "y": [2]},
        "part": {"mpn": "LM358", "seen": "2026-01-02T00:00:00Z"},
        "numpy": [0.5, 7, [1, 2]],
        "bytes": "abc",
        "big": 10**30,
        "keys": {"1": "a", "None": "b"},
        "surrogates": "a\U0001f600b\ufffdc",
    }
    assert cns_events.stats().coerced == 2


class Raises:
    """An object whose every conversion raises."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        return "Raises()"  # for the tests' own messages

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    def __bool__(self) -> bool:
        raise RuntimeError("no truth")

    def __float__(self) -> float:
        raise RuntimeError("no number")

    def model_dump(self, mode: str) -> object:
        raise RuntimeError("no model")

    __hash__ = None  # type: ignore[assignment]


class Endless:
    """An object that converts itself to itself."""

    def model_dump(self, mode: str) -> object:
        return self


def cycle() -> list[Any]:
    """Return a list that contains itself."""
    items: list[Any] = []
    items.append(items)
    return items


def grown() -> list[Any]:
    """Return a small list whose text is larger than any memory."""
    items: list[Any] = ["x" * 100]
    for _ in range(60):
        items = [items, items]
    return items


@pytest.mark.parametrize(
    "value",
    [Raises(), Endless(), cycle(), grown(), "x" * 2 * 1024 * 1024, "a\0b", 10**5000],
    ids=["raises", "endless", "cycle", "grown", "two mebibytes", "nul", "digits"],
)
def test_what_cannot_be_stored_is_none_and_counted(value: Any, captured: Captured) -> None:
    assert EventLogger().log_error(BOM, "org", "m", error_details={"value": value}) is None
    assert (captured.refused, captured.events) == (1, [])


def test_an_interrupt_passes(captured: Captured) -> None:
    class Interrupts:
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        EventLogger().log_error(BOM, "org", "m", error_details={"value": Interrupts()})
    assert EventLogger().log_error(BOM, "org", "m") is not None


junk = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters(codec=None, categories=None), max_size=20),
        st.binary(max_size=20),
        st.decimals(),
        st.dates(),
        st.datetimes(),
        st.uuids(),
        st.builds(object),
        st.builds(Raises),
        st.just(int),
        st.functions(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=5), inner, max_size=4),
        st.tuples(inner, inner),
    ),
    max_leaves=10,
)


@pytest.mark.parametrize("name", [call[0] for call in CALLS])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_argument_raises(name: str, data: st.DataObject) -> None:
    method = getattr(EventLogger(), name)
    parameters = [of for of in inspect.signature(method).parameters.values() if of.kind is not of.VAR_KEYWORD]
    arguments = {of.name: data.draw(junk) for of in parameters if of.default is of.empty or data.draw(st.booleans())}
    common = ["event_id", "user_id", "project_id", "tenant_id", "state", "created_at", "routing_key", "traceparent"]
    for keyword in [*common, "further"]:
        if data.draw(st.booleans()):
            arguments.setdefault(keyword, data.draw(junk))
    with capture(strict=False) as captured:
        event = method(**arguments)
        counted = captured.refused + len(captured.events)
        assert counted == 1
        assert (event is None) == (captured.refused == 1)


@pytest.mark.parametrize("name", ["get_events_by_bom", "get_events_by_workflow", "get_recent_errors"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_argument_of_a_query_raises(name: str, data: st.DataObject) -> None:
    with capture(strict=False):
        logger = EventLogger(data.draw(junk), tenant_id=data.draw(junk), read_wait=0)
        parameters = inspect.signature(getattr(logger, name)).parameters
        assert getattr(logger, name)(**{of: data.draw(junk) for of in parameters}) == []


plain_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(payload=st.dictionaries(st.text(), plain_json, max_size=5))
def test_json_is_written_as_json(payload: dict[str, Any]) -> None:
    if "\0" in repr(payload) or "\\x00" in repr(payload):
        return  # refused, as every writer's
    with capture(strict=False) as captured:
        event = EventLogger().log_event("anything", BOM, "org", payload)
        if event is not None:
            assert captured.one("anything").payload == payload
            assert event.payload == payload
        else:  # a number beyond what the database can hold
            assert captured.refused == 1
