"""A spool survives a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from pool import Pool, Relay

CODE = """
import sys, time, uuid, cns_events
cns_events.configure(spool=sys.argv[2], spool_when="always", shutdown_timeout=20)
events = cns_events.EventLogger().bind(uuid.UUID(int=1), sys.argv[1])
numbers = range(int(sys.argv[3]), int(sys.argv[4]))
for number in numbers:
    while events.log_event("step", {"number": number}, event_id=f"{sys.argv[1]}/{number}") is None:
        time.sleep(0.001)  # no room until the disk has taken some
    if number % 100 == 0:
        while cns_events.stats().spooled < number - int(sys.argv[3]) - 1000:
            time.sleep(0.001)  # not far ahead of the disk, so that a kill comes in the middle
        print(cns_events.stats().spooled, flush=True)
cns_events.flush(30)
print(cns_events.stats().recovered)
"""


def test_a_killed_producer_loses_nothing_that_was_spooled(
    pool: Pool, relay: Relay, organization: str, tmp_path: Path
) -> None:
    relay.cut()

    def start(first: int, last: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", CODE, organization, str(tmp_path), str(first), str(last)],
            env=pool.env(AMQP_URL=relay.url),
            stdout=subprocess.PIPE,
            text=True,
        )

    producer = start(0, 20_000)
    assert producer.stdout is not None
    spooled = 0
    while spooled < 10_000:
        spooled = int(producer.stdout.readline())
    producer.send_signal(signal.SIGKILL)
    assert producer.wait(10) == -signal.SIGKILL
    spooled = max([spooled, *(int(line) for line in producer.stdout)])
    relay.restore()
    again = start(20_000, 20_001)
    said, _ = again.communicate(timeout=60)
    assert again.returncode == 0
    recovered = int(said.split()[-1])
    rows = pool.stored(organization, recovered + 1)
    numbers = sorted(row["payload"]["number"] for row in rows)
    assert numbers[-1] == 20_000
    # In order, without a gap: all that was reported, and what was written since.
    assert numbers[:-1] == list(range(len(numbers) - 1)) and len(numbers) - 1 >= spooled


def test_several_processes_share_a_spool(pool: Pool, relay: Relay, organization: str, tmp_path: Path) -> None:
    relay.cut()
    code = """
import os, sys, uuid, cns_events
cns_events.configure(spool=sys.argv[2], shutdown_timeout=0.2)
def log(): assert cns_events.EventLogger().log_event("step", uuid.UUID(int=1), sys.argv[1], {"pid": os.getpid()})
log()
children = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        for _ in range(10): log()
        closed = cns_events.close(0.2)
        os._exit(0 if (closed.left, closed.lost) == (closed.in_spool, []) and closed.in_spool >= 10 else 3)
    children.append(pid)
for pid in children: assert os.waitpid(pid, 0)[1] == 0
closed = cns_events.close(0.2)
assert closed.lost == [] and closed.in_spool >= 1
"""
    pool.python(code, organization, str(tmp_path), flags=("-W", "ignore::DeprecationWarning"), AMQP_URL=relay.url)
    relay.restore()
    finish = """
import sys, uuid, cns_events
cns_events.configure(spool=sys.argv[2], shutdown_timeout=20)
assert cns_events.EventLogger().log_event("step", uuid.UUID(int=1), sys.argv[1], {"pid": 0})
"""
    pool.python(finish, organization, str(tmp_path), AMQP_URL=relay.url)
    pool.stored(organization, 42)
