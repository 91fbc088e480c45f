"""The cost of a call, beside the original's way: an insert with a commit for each event.

    make python-bench                           # everything, against private servers
    python benches/call.py --only tight --check

Prints one line of JSON for each measurement; with ``--check`` it fails where a bound does not hold.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import sys
import time
import uuid
from collections.abc import Callable

import original_style

import cns_events
from cns_events import EventLogger

STATE = {"status": "running", "current_stage": "enrichment", "total_items": 66, "completed_items": 21, "percent": 31.8}
DETAILS = {
    "manufacturer": "Texas Instruments",
    "package": "SOIC-8",
    "lifecycle": "active",
    "alternatives": ["LM358P", "LM358N"],
}
NOWHERE = "amqp://127.0.0.1:1/%2f"

# Bounds in microseconds: p50 and p99.
BOUNDS = {"paced, broker there": (12.0, 60.0), "tight loop, broker away": (12.0, 60.0)}
CHEAPER = 50
MOST_MEMORY_BYTES = 24 * 1024 * 1024


def call(logger: EventLogger, bom_id: uuid.UUID) -> object:
    """Make the call that is measured: an event with state and details."""
    return logger.log_enrichment_progress(
        bom_id,
        "org-bench",
        "LM358DR",
        "matched",
        0.97,
        supplier="DigiKey",
        match_details=DETAILS,
        workflow_id="w",
        state=STATE,
    )


def measured(act: Callable[[], object], calls: int, per_second: float | None = None) -> dict[str, float]:
    """Return the percentiles of the times of calls in microseconds."""
    times = []
    due = time.perf_counter()
    for _ in range(calls):
        if per_second is not None:
            due += 1 / per_second
            if (wait := due - time.perf_counter()) > 0:
                time.sleep(wait)  # the pace of the measurement
        began = time.perf_counter_ns()
        act()
        times.append(time.perf_counter_ns() - began)
    times.sort()
    return {f"p{at}": round(times[min(int(calls * at / 100), calls - 1)] / 1000, 2) for at in (50, 90, 99, 99.9)}


def resident_bytes() -> int:
    """Return the resident memory."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def memory(calls: int) -> dict[str, float]:
    """Return the growth of memory by calls with the broker away and a buffer of 16 MiB."""
    cns_events.configure(NOWHERE, buffer_bytes=16 * 1024 * 1024, shutdown_timeout=0)
    logger, bom_id = EventLogger(), uuid.uuid4()
    for _ in range(100):
        call(logger, bom_id)
    gc.collect()
    before = resident_bytes()
    for _ in range(calls):
        call(logger, bom_id)
    grown = resident_bytes() - before
    counts = cns_events.stats()
    assert counts.accepted + counts.dropped == calls + 100, counts
    return {"grown_mib": round(grown / 1024 / 1024, 1), "accepted": counts.accepted, "dropped": counts.dropped}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="measurements whose name contains this")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--calls", type=int, default=50_000)
    arguments = parser.parse_args()
    amqp_url = os.environ["AMQP_URL"]
    logger, bom_id, failed = EventLogger(), uuid.uuid4(), []
    results: dict[str, dict[str, float]] = {}

    def report(name: str, measure: Callable[[], dict[str, float]]) -> None:
        if arguments.only and arguments.only not in name:
            return
        results[name] = measure()
        print(json.dumps({"name": name, **results[name]}), flush=True)
        bound = BOUNDS.get(name)
        if bound and (results[name]["p50"] > bound[0] or results[name]["p99"] > bound[1]):
            failed.append(f"{name}: more than p50 {bound[0]} us or p99 {bound[1]} us")

    def away(calls: int) -> dict[str, float]:
        cns_events.configure(NOWHERE, shutdown_timeout=0)
        return measured(lambda: call(logger, bom_id), calls)

    def there(calls: int, per_second: float | None) -> dict[str, float]:
        cns_events.configure(amqp_url)
        measured(lambda: call(logger, bom_id), 1000)
        cns_events.flush(10)
        found = measured(lambda: call(logger, bom_id), calls, per_second)
        if not cns_events.flush(60):
            failed.append(f"not confirmed: {cns_events.outage()}")
        return found

    # A yardstick: where the paced one takes much longer than the tight one, the machine is busy, and so are the figures.
    document = {"mpn": "LM358DR", "state": STATE, "match_details": DETAILS}
    report("json.dumps, tight loop", lambda: measured(lambda: json.dumps(document), arguments.calls))
    report("json.dumps, paced", lambda: measured(lambda: json.dumps(document), arguments.calls // 5, 2000))
    report("tight loop, broker away", lambda: away(arguments.calls))
    report("paced, broker there", lambda: there(arguments.calls // 2, 2000))
    report("tight loop, broker there", lambda: there(arguments.calls, None))
    database_url = os.environ.get("DATABASE_URL")
    if database_url is not None:
        report(
            "original: insert and commit", lambda: measured(original_style.Way(database_url).insert, arguments.calls // 50)
        )
        if (original := results.get("original: insert and commit")) and (ours := results.get("paced, broker there")):
            times = original["p50"] / ours["p50"]
            print(json.dumps({"name": "times cheaper", "p50": round(times, 1)}), flush=True)
            if times < CHEAPER:
                failed.append(f"only {times:.0f} times cheaper than the original's way, not {CHEAPER}")
    report("memory of a million calls", lambda: memory(1_000_000))
    grown = results.get("memory of a million calls", {}).get("grown_mib", 0)
    if grown * 1024 * 1024 > MOST_MEMORY_BYTES:
        failed.append(f"{grown} MiB more")
    if arguments.check and failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
