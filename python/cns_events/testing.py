"""Events of a test: captured instead of published, each checked by the code that the workers run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cns_events._native import Event
from cns_events._process import Process, swap
from cns_events._settings import settings


class Captured:
    """The events that were logged, in order."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._events: list[Event] = []
        self._violations: list[str] = []

    @property
    def events(self) -> list[Event]:
        """Every event so far."""
        self._take()
        return list(self._events)

    @property
    def violations(self) -> list[str]:
        """Problems of payloads that do not match the schema of their type."""
        self._take()
        return list(self._violations)

    @property
    def refused(self) -> int:
        """Number of calls that were no event: their log lines have the reasons."""
        return self._process.publisher.stats()["invalid"]

    def of(self, event_type: str) -> list[Event]:
        """Return the events of a type."""
        return [event for event in self.events if event.event_type == event_type]

    def one(self, event_type: str) -> Event:
        """Return the only event of a type."""
        found = self.of(event_type)
        if len(found) != 1:
            types = [event.event_type for event in self.events]
            raise AssertionError(f"{len(found)} events of type {event_type}, expected 1; captured: {types}")
        return found[0]

    def check(self) -> None:
        """Raise where a payload does not match its schema, or a call was no event."""
        if self.violations:
            raise AssertionError("payloads do not match their schemas: " + "; ".join(self.violations))
        if self.refused:
            raise AssertionError(f"{self.refused} calls were refused: a worker could not store the events")

    def _take(self) -> None:
        for event, violation in self._process.publisher.captured():
            self._events.append(event)
            if violation is not None:
                self._violations.append(f"{event.event_type}: {violation}")


@contextmanager
def capture(*, strict: bool = True) -> Iterator[Captured]:
    """Capture the events that are logged inside. At the end `Captured.check` raises, unless not ``strict``."""
    process = Process(settings(enabled=False, variables={}), mode="capture")
    before = swap(process)
    try:
        captured = Captured(process)
        yield captured
    finally:
        swap(before)
    if strict:
        captured.check()
