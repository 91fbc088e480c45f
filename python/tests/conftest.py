"""Fixtures of the tests."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from pool import Pool, Relay

import cns_events
from cns_events._process import replace, swap


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """A worker of its own, with its database."""
    pool = Pool(tmp_path_factory.mktemp("pool"))
    yield pool
    pool.close()


@pytest.fixture
def relay(pool: Pool) -> Iterator[Relay]:
    """A way to the broker that can be cut."""
    relay = Relay(pool.amqp_url)
    yield relay
    relay.close()


@pytest.fixture
def organization() -> str:
    """An organization of the test's own: its events are told apart by it."""
    return f"org-{uuid.uuid4()}"


@pytest.fixture
def bom_id() -> uuid.UUID:
    """A BOM of the test's own."""
    return uuid.uuid4()


@pytest.fixture
def configured(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """This process publishes to the pool."""
    for name, value in pool.env().items():
        monkeypatch.setenv(name, value)
    before = swap(None)
    cns_events.configure()
    yield pool
    replace(None)
    swap(before)
