"""Processes that fork: nothing to configure, every event once, distinct ids, no hang."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pool import Pool

PREAMBLE = """
import multiprocessing, os, sys, threading, time, uuid
import cns_events
from cns_events import EventLogger
BOM, ORGANIZATION = uuid.UUID(int=1), sys.argv[1]
def log(name, **more):
    assert EventLogger().log_event("step", BOM, ORGANIZATION, {"name": name, "pid": os.getpid(), **more}), name
"""


def test_three_hundred_forks_while_another_thread_logs(pool: Pool, organization: str) -> None:
    code = """
import signal
stop, count = threading.Event(), [0]
def noise():
    while not stop.is_set():
        log("noise")
        count[0] += 1
        time.sleep(0.0005)  # the parent logs all the time, and leaves the processor to its children
thread = threading.Thread(target=noise)
thread.start()
slowest = 0.0
for number in range(300):
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        for _ in range(5):
            log("child")
        os._exit(0 if cns_events.flush(20) else 3)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
    slowest = max(slowest, time.monotonic() - began)
stop.set()
thread.join()
assert cns_events.flush(20)
print([count[0], slowest])
"""
    noise, slowest = pool.python(PREAMBLE + code, organization, timeout=300, flags=("-W", "ignore::DeprecationWarning"))
    rows = pool.stored(organization, noise + 1500)
    assert len({row["event_id"] for row in rows}) == len(rows)
    assert len({row["payload"]["pid"] for row in rows}) == 301
    assert noise > 100 and slowest < 10


def test_children_of_every_start_method_send_before_they_end(pool: Pool, organization: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    code = """
def child(number):
    log("child", number=number)
if __name__ == "__main__":
    log("parent")
    context = multiprocessing.get_context(sys.argv[2])
    children = [context.Process(target=child, args=(number,)) for number in range(8)]
    for process in children: process.start()
    for process in children:
        process.join(10)
        assert process.exitcode == 0, process.exitcode
    from concurrent.futures import ProcessPoolExecutor
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        list(executor.map(child, range(8, 16)))
"""
    program.write_text(PREAMBLE + code)
    for method in ("fork", "spawn", "forkserver"):
        ran = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", str(program), f"{organization}-{method}", method],
            env=pool.env(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
        rows = pool.stored(f"{organization}-{method}", 17)
        numbers = sorted(row["payload"].get("number", -1) for row in rows)
        assert numbers == [-1, *range(16)]


def test_a_child_whose_descriptors_are_closed_sends(pool: Pool, organization: str) -> None:
    code = """
log("parent")
assert cns_events.flush(10)
pid = os.fork()
if pid == 0:
    os.closerange(3, 256)
    log("child")
    os._exit(0 if cns_events.flush(10) else 3)
assert os.waitpid(pid, 0)[1] == 0
log("parent again")
assert cns_events.flush(10)
"""
    pool.python(PREAMBLE + code, organization, flags=("-W", "ignore::DeprecationWarning"))
    names = [row["payload"]["name"] for row in pool.stored(organization, 3)]
    assert names == ["parent", "child", "parent again"]


def test_counts_and_ends_belong_to_one_process(pool: Pool, organization: str) -> None:
    code = """
for _ in range(10): log("parent")
pid = os.fork()
if pid == 0:
    assert cns_events.stats().accepted == 0 and cns_events.flush(0.1) and cns_events.close(0.1).confirmed == 0
    log("child")
    assert cns_events.stats().accepted == 1
    assert cns_events.close(10).left == 0
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert cns_events.stats().accepted == 10 and cns_events.close(10).left == 0
"""
    pool.python(PREAMBLE + code, organization, flags=("-W", "ignore::DeprecationWarning"))
    pool.stored(organization, 11)


def test_a_parent_that_logs_nothing_starts_no_thread(pool: Pool, organization: str) -> None:
    code = """
logger = EventLogger().bind(BOM, ORGANIZATION)
pid = os.fork()  # from Python 3.12 on a warning where there is another thread
if pid == 0:
    log("child")
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""
    pool.python(PREAMBLE + code, organization, flags=("-W", "error"))
    pool.stored(organization, 1)


def test_greenlets_run_while_a_flush_waits(pool: Pool, organization: str) -> None:
    code = (
        """
from gevent import monkey
monkey.patch_all()
import gevent
"""
        + PREAMBLE
        + """
gaps, before = [0.0], time.monotonic()
def tick():
    global before
    while True:
        gevent.sleep(0.005)
        gaps.append(time.monotonic() - before)
        before = time.monotonic()
ticking = gevent.spawn(tick)
log("one")
assert cns_events.flush(10)
cns_events.configure("amqp://127.0.0.1:1/%2f", shutdown_timeout=0.1)
log("lost")
before = time.monotonic()
began = len(gaps)
assert not cns_events.flush(1)
print([max(gaps[began:]), len(gaps) - began])
ticking.kill()
cns_events.close(0)
"""
    )
    gap, ticks = pool.python(code, organization)
    assert ticks > 50 and gap < 0.1
    pool.stored(organization, 1)
