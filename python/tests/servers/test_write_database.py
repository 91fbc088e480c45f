"""The move over: inserted by the service and published under the same id, without any conflict."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import time
import urllib.request
import uuid
from collections.abc import Iterator

import pytest
from pool import Pool, eventually
from sqlalchemy import create_engine, select, text
from sqlalchemy.orm import Session

import cns_events
from cns_events import EnrichmentEvent, EventLogger


@pytest.fixture
def db(configured: Pool) -> Iterator[Session]:
    """A session of the service's, as the owner of the table."""
    engine = create_engine(configured.database_url.replace("postgres://", "postgresql+psycopg://"))
    with Session(engine) as session:
        yield session
    engine.dispose()


def metric(pool: Pool, name: str) -> int:
    """Return the value of a worker's metric."""
    log = (pool.folder / "worker.log").read_text()
    address = re.findall(r"http=?\S*?(127\.0\.0\.1:\d+)", log)[-1]
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        found = re.search(rf"^{name} (\d+)", answer.read().decode(), re.M)
    assert found is not None, name
    return int(found.group(1))


def test_every_event_is_a_duplicate_and_none_a_conflict(
    db: Session, configured: Pool, organization: str, bom_id: uuid.UUID
) -> None:
    duplicates, conflicts = (metric(configured, f"cns_events_{of}_total") for of in ("duplicates", "conflicts"))
    logger = EventLogger(db, write_database=True, source="staff")
    odd = {"float": 0.1, "big": 10**25, "nan": float("nan"), "text": "a\u2028\ud800", "nested": {"keys": {1: [1.5e300]}}}
    for number in range(50):
        event = logger.log_event("odd", bom_id, organization, {**odd, "number": number}, state=odd, user_id=uuid.uuid4())
        assert event is not None
        if number % 10 == 9:
            db.commit()
    assert cns_events.flush(10)
    eventually("all are duplicates", lambda: metric(configured, "cns_events_duplicates_total") == duplicates + 50)
    assert metric(configured, "cns_events_conflicts_total") == conflicts
    rows = configured.stored(organization, 50)
    assert [row["payload"]["number"] for row in rows] == list(range(50))


def test_an_open_transaction_delays_no_other_event(
    db: Session, configured: Pool, organization: str, bom_id: uuid.UUID
) -> None:
    held = EventLogger(db, write_database=True)
    assert held.log_error(bom_id, organization, "held") is not None
    slowest = 0.0
    deadline = time.monotonic() + float(os.environ.get("OPEN_SECONDS", "5"))
    sent = 0
    while time.monotonic() < deadline:
        began = time.monotonic()
        assert EventLogger().log_error(bom_id, f"{organization}-other", "m") is not None
        sent += 1
        eventually("it is stored", lambda: configured.count(f"{organization}-other") == sent)
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 1.0
    assert configured.count(organization) == 0
    db.commit()
    assert cns_events.flush(10)
    configured.stored(organization, 1)


def test_a_rolled_back_insert_is_stored_by_the_worker(
    db: Session, configured: Pool, organization: str, bom_id: uuid.UUID
) -> None:
    logger = EventLogger(db, write_database=True)
    assert logger.log_error(bom_id, organization, "m") is not None
    db.rollback()
    assert cns_events.flush(10)
    configured.stored(organization, 1)


def test_savepoints_hold_events_until_the_outermost_end(
    db: Session, configured: Pool, organization: str, bom_id: uuid.UUID
) -> None:
    logger = EventLogger(db, write_database=True)
    with db.begin_nested():
        assert logger.log_error(bom_id, organization, "kept") is not None
    inner = db.begin_nested()
    assert logger.log_error(bom_id, organization, "rolled back") is not None
    inner.rollback()
    assert cns_events.stats().accepted == 0
    db.commit()
    assert cns_events.flush(10) and cns_events.stats().accepted == 2
    configured.stored(organization, 2)


def test_a_session_that_is_closed_or_dropped_publishes_too(configured: Pool, organization: str, bom_id: uuid.UUID) -> None:
    engine = create_engine(configured.database_url.replace("postgres://", "postgresql+psycopg://"))
    with Session(engine) as closed:
        assert EventLogger(closed, write_database=True).log_error(bom_id, organization, "closed") is not None
    dropped = Session(engine)
    assert EventLogger(dropped, write_database=True).log_error(bom_id, organization, "dropped") is not None
    del dropped
    gc.collect()
    assert cns_events.flush(10)
    configured.stored(organization, 2)
    engine.dispose()


def test_the_callers_objects_are_not_flushed(db: Session, configured: Pool, organization: str, bom_id: uuid.UUID) -> None:
    db.add(EnrichmentEvent(event_id="incomplete"))  # would fail
    assert EventLogger(db, write_database=True).log_error(bom_id, organization, "m") is not None
    db.rollback()
    assert cns_events.flush(10)
    configured.stored(organization, 1)


def test_a_database_that_refuses_the_insert_costs_nothing_but_a_log_line(
    db: Session, configured: Pool, organization: str, bom_id: uuid.UUID, caplog: pytest.LogCaptureFixture
) -> None:
    db.execute(text("set local role authenticated"))  # may not insert
    assert EventLogger(db, write_database=True).log_error(bom_id, organization, "m") is not None
    assert db.execute(select(1)).scalar() == 1  # the caller's transaction goes on
    db.commit()
    assert "not inserted, only published" in caplog.text
    assert cns_events.flush(10)
    configured.stored(organization, 1)


def test_the_exit_publishes_what_an_open_transaction_holds(pool: Pool, organization: str) -> None:
    code = """
import sys, uuid, cns_events
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
import os
db = Session(create_engine(os.environ["DATABASE_URL"].replace("postgres://", "postgresql+psycopg://")))
logger = cns_events.EventLogger(db)
assert logger.log_error(uuid.uuid4(), sys.argv[1], "m")
assert cns_events.stats().accepted == 0
"""
    pool.python(code, organization, CNS_EVENTS__PUBLISHER__WRITE_DATABASE="true")
    pool.stored(organization, 1)


def test_an_async_close_sends_what_an_open_transaction_holds(
    db: Session, configured: Pool, organization: str, bom_id: uuid.UUID
) -> None:
    assert EventLogger(db, write_database=True).log_error(bom_id, organization, "m") is not None
    closed = asyncio.run(cns_events.aclose(10))
    assert (closed.confirmed, closed.lost) == (1, [])
    db.rollback()
    configured.stored(organization, 1)
