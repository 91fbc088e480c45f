"""Cost of calls: memory is bounded, and no call waits. `make python-bench` has the figures of a quiet machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from pool import Pool

BENCH = Path(__file__).parents[2] / "benches" / "call.py"
# A machine that runs tests is busy: only a wait would take longer.
LONGEST_P50_US = 200


def measure(pool: Pool, *arguments: str) -> dict[str, float]:
    """Run one measurement."""
    ran = subprocess.run(
        [sys.executable, str(BENCH), *arguments], env=pool.env(), capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr + ran.stdout
    return json.loads(ran.stdout.splitlines()[0])


def test_a_million_calls_with_the_broker_away_take_bounded_memory(pool: Pool) -> None:
    found = measure(pool, "--only", "memory of a million calls", "--check")
    assert found["accepted"] + found["dropped"] == 1_000_100 and found["dropped"] > 0


def test_no_call_waits_for_the_broker(pool: Pool) -> None:
    for name in ("tight loop, broker away", "tight loop, broker there"):
        assert measure(pool, "--only", name, "--calls", "5000")["p50"] < LONGEST_P50_US
