"""The API's page says what is there."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

import cns_events
from cns_events import EventLogger, Stats, WorkflowLogger

PAGE = (Path(__file__).parents[3] / "docs/reference/python.md").read_text()


def signature(function: object) -> str:
    """Return the arguments of a method as the page writes them."""
    of = inspect.signature(function)  # type: ignore[arg-type]
    kept = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in of.parameters.values()
        if parameter.name not in ("self", "more")
    ]
    return str(inspect.Signature(kept))


def test_every_method_is_on_the_page_with_its_arguments() -> None:
    for name, method in inspect.getmembers(EventLogger, inspect.isfunction):
        if not name.startswith("_"):
            assert f"{name}{signature(method)}" in PAGE, name


def test_every_name_of_the_module_and_every_count_is_on_the_page() -> None:
    for name in cns_events.__all__:
        assert re.search(rf"\b{name}\b", PAGE), name
    for field in dataclasses.fields(Stats):
        assert f"`{field.name}`" in PAGE, field.name


def test_a_bound_logger_has_every_method() -> None:
    logs = {name for name, _ in inspect.getmembers(EventLogger, inspect.isfunction) if name.startswith("log_")}
    bound = {name for name, _ in inspect.getmembers(WorkflowLogger, inspect.isfunction) if name.startswith("log_")}
    assert logs == bound
