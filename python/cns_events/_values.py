"""Values of other types as plain ones: what JSON has, or a container of what this function is called for again."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any

# Exponents of which a whole number is written out; beyond them it is a float.
_MAX_EXPONENT = 30


def plain(value: Any) -> object:
    """Return a plain value for one that is not of a type that JSON has."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)) or (
        isinstance(value, Iterable) and hasattr(value, "__len__") and not hasattr(value, "dtype")
    ):
        return list(value)
    if isinstance(value, type):
        return str(value)
    return _converted(value)


def _converted(value: Any) -> object:
    """Return an object of a class as what it converts itself to, or as a text."""
    if hasattr(value, "model_dump"):  # pydantic
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # NumPy
        return value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    return str(value)


def _number(value: Decimal) -> object:
    """Return a decimal as the number that JSON can hold."""
    if not value.is_finite():
        return float("nan")
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and 0 <= exponent <= _MAX_EXPONENT:
        return int(value)
    return float(value)
