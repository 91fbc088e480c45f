"""The servers of the tests: a worker of its own on a database and names of its own, and a relay that cuts the broker off."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg.rows import dict_row

TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.02


def eventually(what: str, test: Callable[[], object], timeout: float = TIMEOUT_SECONDS) -> None:
    """Wait until a test holds. It is asked at intervals: a row in a table sends no signal."""
    deadline = time.monotonic() + timeout
    while not test():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(_POLL_SECONDS)


class Pool:
    """A worker, its database and its names on the broker."""

    def __init__(self, folder: Path) -> None:
        self.name = f"cns_py_{uuid.uuid4().hex[:12]}"
        self.amqp_url = os.environ["AMQP_URL"]
        self._admin_url = os.environ["DATABASE_URL"]
        self.database_url = on_database(self._admin_url, self.name)
        self.folder = folder
        self._sql(self._admin_url, f"create database {self.name}")
        self._run("migrate")
        self.worker: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start the worker, and wait until its queue takes events."""
        log = self.folder / "worker.log"
        with log.open("ab") as stderr:
            self.worker = subprocess.Popen(
                [os.environ["CNS_EVENTS_BIN"], "worker"],
                env=self._service_env(),
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        eventually("the worker consumes", lambda: "consuming" in log.read_text())

    def stop(self) -> None:
        """Stop the worker."""
        if self.worker is not None:
            self.worker.terminate()
            self.worker.wait(TIMEOUT_SECONDS)
            self.worker = None

    def close(self) -> None:
        """Stop the worker, and remove the database and the names."""
        import pika

        self.stop()
        self._sql(self._admin_url, f"drop database {self.name} with (force)")
        connection = pika.BlockingConnection(pika.URLParameters(self.amqp_url))
        channel = connection.channel()
        for queue in ("persist", "dead"):
            channel.queue_delete(f"{self.name}.{queue}")
        for exchange in ("events", "dlx"):
            channel.exchange_delete(f"{self.name}.{exchange}")
        connection.close()

    def _names(self) -> dict[str, str]:
        return {
            "CNS_EVENTS__AMQP__EXCHANGE": f"{self.name}.events",
            "CNS_EVENTS__AMQP__QUEUE": f"{self.name}.persist",
            "CNS_EVENTS__AMQP__DEAD_LETTER_EXCHANGE": f"{self.name}.dlx",
            "CNS_EVENTS__AMQP__DEAD_LETTER_QUEUE": f"{self.name}.dead",
        }

    def _service_env(self) -> dict[str, str]:
        return {
            **os.environ,
            **self._names(),
            "AMQP_URL": self.amqp_url,
            "DATABASE_URL": self.database_url,
            "CNS_EVENTS__HTTP__LISTEN": "127.0.0.1:0",
        }

    def _run(self, *arguments: str) -> str:
        ran = subprocess.run(
            [os.environ["CNS_EVENTS_BIN"], *arguments], env=self._service_env(), capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    @staticmethod
    def _sql(url: str, statement: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement)

    def sql(self, statement: str) -> None:
        """Run a statement as the owner of the table."""
        self._sql(self.database_url, statement)

    def env(self, **more: str) -> dict[str, str]:
        """Return the environment of a producer: what a service has, and nothing of these tests."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CNS_EVENTS", "PYTEST"))}
        return {
            **kept,
            "AMQP_URL": self.amqp_url,
            "DATABASE_URL": self.database_url,
            "CNS_EVENTS__AMQP__EXCHANGE": f"{self.name}.events",
            **more,
        }

    def rows(self, organization: str) -> list[dict[str, Any]]:
        """Return the stored events of an organization, oldest first."""
        with psycopg.connect(self.database_url, row_factory=dict_row) as connection:
            query = "select * from enrichment_events where organization_id = %s order by created_at, id"
            return connection.execute(query, (organization,)).fetchall()

    def count(self, organization: str) -> int:
        """Return the number of stored events of an organization."""
        with psycopg.connect(self.database_url) as connection:
            query = "select count(*) from enrichment_events where organization_id = %s"
            return int(connection.execute(query, (organization,)).fetchone()[0])  # type: ignore[index]

    def stored(self, organization: str, events: int, timeout: float = TIMEOUT_SECONDS) -> list[dict[str, Any]]:
        """Wait until as many events of an organization are stored, and return them."""
        eventually(f"{events} events are stored", lambda: self.count(organization) >= events, timeout)
        rows = self.rows(organization)
        assert len(rows) == events, f"{len(rows)} rows for {events} events"
        return rows

    def python(self, code: str, *arguments: str, timeout: float = 60, flags: tuple[str, ...] = (), **env: str) -> Any:
        """Run a program, and return what it prints as JSON. It has to end well, with nothing on stderr."""
        ran = subprocess.run(
            [sys.executable, *flags, "-c", code, *arguments],
            env=self.env(**env),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr + ran.stdout
        assert ran.stderr == "", ran.stderr
        return json.loads(ran.stdout) if ran.stdout.strip() else None


def on_database(url: str, name: str, user: str | None = None) -> str:
    """Return a URL with another database, and another user with the password ``p``."""
    parts = urlsplit(url)
    netloc = parts.netloc if user is None else f"{user}:p@{parts.hostname}:{parts.port}"
    return urlunsplit(parts._replace(netloc=netloc, path=f"/{name}"))


class Relay:
    """A way to the broker that can be cut."""

    def __init__(self, amqp_url: str, *, up: bool = True) -> None:
        parts = urlsplit(amqp_url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 5672)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._up = up
        port = self._listener.getsockname()[1]
        self.url = urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}"))
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Cut every connection, and let no new one through."""
        self._up = False
        for connection in self._connections:
            # Not close: another thread reads from it.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def restore(self) -> None:
        """Let connections through."""
        self._up = True

    def close(self) -> None:
        """End the relay."""
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self._up:
                client.close()
                continue
            server = socket.create_connection(self._target)
            self._connections += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
