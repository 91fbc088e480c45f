"""The examples run as they stand, and what they publish is stored."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from pool import Pool, eventually

FOLDER = Path(__file__).parents[2] / "examples"
ROOT = Path(__file__).parents[3]

# Rows of each example.
ROWS = {"lifecycle": 8, "enrichment": 7, "risks": 4, "control": 2, "errors": 2, "querying": 2, "end_to_end": 1000}


@pytest.mark.parametrize("name", ROWS)
def test_an_example_stores_its_events(name: str, pool: Pool, organization: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(FOLDER / f"{name}.py")],
        env=pool.env(ORGANIZATION=organization),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    rows = pool.stored(organization, ROWS[name])
    if "confirmed: " in ran.stdout:
        confirmed = int(re.findall(r"confirmed: (\d+)", ran.stdout)[0])
        assert confirmed == ROWS[name] + (2 if name == "errors" else 0)  # an event that was repeated is stored once
    if name == "querying":
        assert "selected: 1" in ran.stdout and "counted: 2" in ran.stdout and "errors: 1" in ran.stdout
    assert {row["organization_id"] for row in rows} == {organization}


def test_the_fastapi_example_publishes_from_a_handler(pool: Pool, organization: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path / "uvicorn.log"
    service = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "fastapi_service:app", "--port", str(port)],
        cwd=FOLDER,
        env=pool.env(ORGANIZATION=organization),
        stderr=log.open("wb"),
        stdout=subprocess.DEVNULL,
    )
    try:
        eventually("it runs", lambda: "running on" in log.read_text())
        url = f"http://127.0.0.1:{port}/boms/6f9619ff-8b86-4d01-b42d-00cf4fc964ff/pause?reason=lunch"
        with urllib.request.urlopen(urllib.request.Request(url, method="POST")) as answer:
            assert answer.status == 202
    finally:
        service.terminate()
        assert service.wait(20) in (0, -15)
    assert pool.stored(organization, 1)[0]["payload"] == {"reason": "lunch"}


@pytest.mark.parametrize("page", ["README.md", "python/README.md", "docs/how-to/publish-from-python.md"])
def test_the_programs_of_the_pages_run(page: str, pool: Pool, organization: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S)
    programs = [block for block in blocks if "# a program" in block]
    assert programs or page == "README.md"
    for number, program in enumerate(programs):
        file = tmp_path / f"program{number}.py"
        file.write_text(program.replace("org-123", organization))
        ran = subprocess.run(
            [sys.executable, str(file)], env=pool.env(), capture_output=True, text=True, timeout=60, check=False
        )
        assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    if programs:
        eventually("its events are stored", lambda: pool.count(organization) >= len(programs))
    for block in blocks:
        compile(block, page, "exec", flags=0x2000)  # top-level await
