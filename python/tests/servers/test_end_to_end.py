"""From a call to a row."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import uuid
from datetime import datetime, timezone

from pool import Pool, Relay, eventually

import cns_events
from cns_events import EventLogger

FIELDS = (
    "event_id",
    "event_type",
    "routing_key",
    "bom_id",
    "tenant_id",
    "organization_id",
    "project_id",
    "user_id",
    "source",
)


def test_an_event_is_stored_as_it_was_returned(configured: Pool, organization: str, bom_id: uuid.UUID) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
    state = {"status": "running", "percent": 12.5, "odd": "a\U0001f600\u2028"}
    events = EventLogger(source="staff", project_id=uuid.uuid4()).bind(bom_id, organization, "w-1")
    logged = [
        events.log_processing_started(100, message="from a file", state=state),
        events.log_risk_alert("LM358", 84.5, [{"factor": "single source"}], user_id=uuid.uuid4(), created_at=at),
        events.log_event("price_checked", {"price": 2.5e-7, "count": 10**30, "none": None}),
    ]
    assert cns_events.flush(10)
    rows = {row["event_id"]: row for row in configured.stored(organization, 3)}
    for event in logged:
        assert event is not None
        row = rows[event.event_id]
        for field in (*FIELDS, "workflow_id", "state", "payload", "created_at"):
            assert row[field] == getattr(event, field), field
    assert rows[str(logged[0])]["state"] == state and rows[str(logged[1])]["created_at"] == at


def test_a_retried_step_is_stored_once(configured: Pool, organization: str, bom_id: uuid.UUID) -> None:
    for attempt in range(3):
        event = EventLogger().log_error(bom_id, organization, "m", event_id=f"{organization}/step/error")
        assert event is not None, attempt
    assert cns_events.flush(10)
    configured.stored(organization, 1)
    time.sleep(0.3)  # a second row would come now
    assert configured.count(organization) == 1


def test_an_outage_is_ridden_out_in_order(pool: Pool, relay: Relay, organization: str, bom_id: uuid.UUID) -> None:
    code = """
import sys, json, cns_events
events = cns_events.EventLogger().bind(sys.argv[1], sys.argv[2], "w")
logged = [events.log_event("step", {"number": n}) for n in range(500)]
print("ready", flush=True)
sys.stdin.readline()
logged += [events.log_event("step", {"number": n}) for n in range(500, 1000)]
print("logged", flush=True)
assert all(logged)
assert not cns_events.flush(0.3) and cns_events.outage()
print("outage", flush=True)
assert cns_events.flush(30) and cns_events.outage() is None
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(bom_id), organization],
        env=pool.env(AMQP_URL=relay.url),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    pool.stored(organization, 500)
    relay.cut()
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "logged\n"
    assert process.stdout.readline() == "outage\n"
    relay.restore()
    assert process.wait(40) == 0
    numbers = [row["payload"]["number"] for row in pool.stored(organization, 1000)]
    assert numbers == list(range(1000))


def test_the_exit_keeps_its_timeout_and_says_what_is_lost(pool: Pool, relay: Relay, organization: str) -> None:
    relay.cut()
    code = """
import logging, sys, time, uuid, cns_events
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
cns_events.configure(shutdown_timeout=0.5)
for n in range(10):
    assert cns_events.EventLogger().log_event("step", uuid.uuid4(), sys.argv[1], {"n": n})
"""
    began = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code, organization],
        env=pool.env(AMQP_URL=relay.url),
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert time.monotonic() - began < 5
    assert "10 events are lost" in ran.stdout and ran.stderr == "", ran


def test_events_of_every_exit_are_sent(pool: Pool, organization: str) -> None:
    code = """
import atexit, sys, threading, uuid, cns_events
def log(name):
    assert cns_events.EventLogger().log_event("step", uuid.uuid4(), sys.argv[1], {"name": name})
atexit.register(log, "atexit")
if sys.argv[2] == "thread":
    threading.Thread(target=lambda: log("thread")).start()
elif sys.argv[2] == "main":
    log("main")
"""
    for how in ("main", "thread", "atexit only"):
        pool.python(code, f"{organization}-{how}", how, flags=("-X", "dev", "-W", "error"))
    for how, names in (("main", ["main", "atexit"]), ("thread", ["thread", "atexit"]), ("atexit only", ["atexit"])):
        rows = pool.stored(f"{organization}-{how}", len(names))
        assert [row["payload"]["name"] for row in rows] == names


def test_asyncio_is_not_blocked(configured: Pool, organization: str, bom_id: uuid.UUID) -> None:
    async def main() -> float:
        gaps = [0.0]

        async def tick() -> None:
            before = time.monotonic()
            while True:
                await asyncio.sleep(0.001)
                gaps.append(time.monotonic() - before)
                before = time.monotonic()

        ticking = asyncio.create_task(tick())
        for number in range(2000):
            EventLogger().log_event("step", bom_id, organization, {"number": number})
            if number % 100 == 0:
                await asyncio.sleep(0)
        assert await cns_events.aflush(20)
        closed = await cns_events.aclose(5)
        assert closed.left == 0
        ticking.cancel()
        return max(gaps)

    assert asyncio.run(main()) < 0.5
    configured.stored(organization, 2000)
    assert EventLogger().log_event("step", bom_id, organization, {"number": 2000})  # the next event starts anew
    assert cns_events.flush(10) and cns_events.stats().accepted == 2001
    configured.stored(organization, 2001)


def test_what_the_broker_refuses_is_counted(configured: Pool, organization: str, bom_id: uuid.UUID) -> None:
    before = cns_events.stats()
    assert EventLogger().log_error(bom_id, organization, "m") is not None
    eventually("it is confirmed", lambda: cns_events.stats().confirmed > before.confirmed)
    assert cns_events.stats().left == 0 and cns_events.stats().connected
