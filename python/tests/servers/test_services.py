"""Servers and workers that fork: gunicorn, uvicorn and Celery, with nothing configured."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pool import Pool, eventually

APPS = Path(__file__).parents[1] / "apps"
REQUESTS = 200


@pytest.mark.parametrize(
    ("application", "worker"),
    [("wsgi:app", "sync"), ("wsgi:app", "gevent"), ("asgi:app", "uvicorn_worker.UvicornWorker")],
)
def test_gunicorn_that_loads_the_application_before_it_forks(
    application: str, worker: str, pool: Pool, organization: str, tmp_path: Path
) -> None:
    log = tmp_path / "gunicorn.log"
    command = [
        "-m",
        "gunicorn",
        "-c",
        "gunicorn_conf.py",
        "--preload",
        "-w",
        "4",
        "-k",
        worker,
        "-b",
        "127.0.0.1:0",
        application,
    ]
    service = subprocess.Popen(
        [sys.executable, "-W", "ignore", *command],
        cwd=APPS,
        env=pool.env(TEST_ORGANIZATION=organization),
        stderr=log.open("wb"),
        stdout=subprocess.DEVNULL,
    )
    try:
        eventually("it listens", lambda: "Listening at: " in log.read_text() and log.read_text().count("Worker ready") == 4)
        address = log.read_text().split("Listening at: ")[1].split()[0]

        def ask(_: int) -> int:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return answer.status

        with ThreadPoolExecutor(8) as executor:
            assert set(executor.map(ask, range(REQUESTS))) == {200}
    finally:
        service.send_signal(signal.SIGTERM)
        began = time.monotonic()
        service.wait(30)
    assert time.monotonic() - began < 10
    rows = pool.stored(organization, REQUESTS + 1)
    assert len({row["event_id"] for row in rows}) == REQUESTS + 1
    assert len({row["payload"]["pid"] for row in rows if row["event_type"] == "requested"}) > 1
    assert "Traceback" not in log.read_text()


@pytest.fixture
def celery_env(pool: Pool, organization: str) -> dict[str, str]:
    """The environment of a Celery application. Its tasks pass through the same broker."""
    broker = pool.amqp_url.replace("amqp://", "pyamqp://").replace("/%2f", "//")
    return pool.env(TEST_ORGANIZATION=organization, TEST_CELERY_BROKER=broker)


def celery(env: dict[str, str], log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a Celery worker."""
    command = ["-m", "celery", "-A", "tasks", "worker", "-c", "4", "--loglevel", "INFO", *arguments]
    return subprocess.Popen([sys.executable, *command], cwd=APPS, env=env, stderr=log.open("wb"), stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("arguments", [(), ("--max-tasks-per-child", "5")], ids=["prefork", "max-tasks-per-child"])
def test_celery_children_send_before_they_end(
    arguments: tuple[str, ...], pool: Pool, organization: str, celery_env: dict[str, str], tmp_path: Path
) -> None:
    log = tmp_path / "celery.log"
    worker = celery(celery_env, log, *arguments)
    try:
        sender = "import sys; from tasks import work; [work.delay(number) for number in range(50)]"
        subprocess.run(
            [sys.executable, "-c", sender],
            cwd=APPS,
            env={**celery_env, "CNS_EVENTS__PUBLISHER__ENABLED": "false"},
            check=True,
            timeout=60,
        )
        eventually("the tasks are done", lambda: log.read_text().count("succeeded in") == 50)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)
    rows = pool.stored(organization, 51)
    numbers = sorted(row["payload"]["number"] for row in rows if row["event_type"] == "worked")
    assert numbers == list(range(50))
    assert len({row["payload"]["pid"] for row in rows}) > 2


def test_celery_with_beat_in_the_worker(pool: Pool, organization: str, celery_env: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "celery.log"
    worker = celery({**celery_env, "TEST_BEAT": "1"}, log, "-B", "-s", str(tmp_path / "schedule"))
    try:
        eventually("tasks are done", lambda: log.read_text().count("succeeded in") >= 10)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)
    done = log.read_text().count("succeeded in")
    rows = pool.stored(organization, done + 1)
    assert sum(row["event_type"] == "imported" for row in rows) == 1
