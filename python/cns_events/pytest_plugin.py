"""The pytest fixture ``cns_events_captured``: no event of the test is published."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cns_events.testing import Captured


@pytest.fixture
def cns_events_captured() -> Iterator[Captured]:
    """Events that the test logs. A payload that does not match its schema fails the test, and so does a refused call."""
    from cns_events.testing import capture

    with capture() as captured:
        yield captured
