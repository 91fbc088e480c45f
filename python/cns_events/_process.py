"""The publisher of this process: configured once, started at the first event, ended at the exit.

No lock is held here, and nothing is done in a hook of a fork: the native publisher knows its process by its id, and what a
parent left is forgotten.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cns_events import _native
from cns_events._settings import ConfigurationError, ReadToken, Settings, SpoolWhen, settings
from cns_events._values import plain

_log = logging.getLogger("cns_events")
if not _log.handlers:
    _log.addHandler(logging.NullHandler())

# Time after which the environment is read again, where it could not be used.
_READ_AGAIN_SECONDS = 30.0
_IMPORTED_BY = os.getpid()
_FIRST_PAUSE_SECONDS = 0.001
_LONGEST_PAUSE_SECONDS = 0.02


class Closed(NamedTuple):
    """Result of ``close``: counts of events, and the ids of those that are lost."""

    confirmed: int
    left: int
    in_spool: int
    lost: list[str]


@dataclass(frozen=True)
class Stats:
    """Counts of this process since its first event, and the current state."""

    accepted: int = 0
    invalid: int = 0
    violations: int = 0
    dropped: int = 0
    coerced: int = 0
    confirmed: int = 0
    rejected: int = 0
    returned: int = 0
    resent: int = 0
    spooled: int = 0
    recovered: int = 0
    damaged: int = 0
    waiting: int = 0
    in_flight: int = 0
    in_spool: int = 0
    left: int = 0
    connected: bool = False


class Process:
    """Settings and publisher of this process. Replaced as a whole by ``configure`` and by tests."""

    def __init__(self, of: Settings, mode: str | None = None) -> None:
        self.settings = of
        self.publisher = _native.Publisher(
            of.uri,
            of.app_id,
            plain,
            register_exits,
            give_out_notices,
            exchange=of.exchange,
            buffer_events=of.buffer_events,
            buffer_bytes=of.buffer_bytes,
            max_message_bytes=of.max_message_bytes,
            spool=of.spool,
            spool_when=of.spool_when,
            spool_bytes=of.spool_bytes,
            require_tls=of.require_tls,
            mode=mode or ("send" if of.enabled else "discard"),
        )


class _Current:
    process: Process | None = None
    failed_at: float | None = None
    # The interpreter has run the last hook of this module.
    exited = False
    # Events that wait for the end of a database transaction, given out at the exit: cns_events._write_database.
    before_close: Callable[[], None] | None = None


def configure(
    uri: str | None = None,
    *,
    app_id: str | None = None,
    exchange: str | None = None,
    spool: str | os.PathLike[str] | None = None,
    spool_when: SpoolWhen | None = None,
    spool_bytes: int | None = None,
    buffer_events: int | None = None,
    buffer_bytes: int | None = None,
    max_message_bytes: int | None = None,
    shutdown_timeout: float | None = None,
    enabled: bool | None = None,
    write_database: bool | None = None,
    read_url: str | None = None,
    read_token: ReadToken | None = None,
) -> None:
    """Configure this process, and check that the configuration can be used. Connects to nothing: the first event does.

    What is not given comes from the environment (``AMQP_URL``, ``CNS_EVENTS__PUBLISHER__*``). Raises `ConfigurationError`.
    """
    of = settings(
        uri=uri,
        app_id=app_id,
        exchange=exchange,
        spool=spool,
        spool_when=spool_when,
        spool_bytes=spool_bytes,
        buffer_events=buffer_events,
        buffer_bytes=buffer_bytes,
        max_message_bytes=max_message_bytes,
        shutdown_timeout=shutdown_timeout,
        enabled=enabled,
        write_database=write_database,
        read_url=read_url,
        read_token=read_token,
    )
    if of.spool is not None:
        _check_folder(of.spool)
    try:
        process = Process(of)
    except (ValueError, OverflowError, TypeError) as error:
        raise ConfigurationError(str(error)) from None
    replace(process)


def _check_folder(folder: str) -> None:
    """Create the spool folder, and check that files can be made in it."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot use the spool folder {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(f"cannot use the spool folder {folder}: it is not writable")


def replace(process: Process | None) -> Process | None:
    """Put another process state in place, and end the publisher of the one before. Return that one."""
    before, _Current.process = _Current.process, process
    _Current.failed_at = None
    if before is not None and before.publisher.is_started():
        before.publisher.close(before.settings.shutdown_timeout)
    return before


def swap(process: Process | None) -> Process | None:
    """Put another process state in place, and leave the one before as it is, to be put back. Return that one."""
    before, _Current.process = _Current.process, process
    return before


def current() -> Process | None:
    """Return the state of this process, configured from the environment where ``configure`` was not called."""
    process = _Current.process
    if process is not None:
        return process
    now = time.monotonic()
    if _Current.failed_at is not None and now - _Current.failed_at < _READ_AGAIN_SECONDS:
        return None
    try:
        configure()
    except ConfigurationError as error:
        _Current.failed_at = now
        _log.error("events are not published: %s", error)
        return None
    return _Current.process


def configured() -> Process | None:
    """Return the state of this process, where there is one."""
    return _Current.process


def before_close(act: Callable[[], None]) -> None:
    """Call ``act`` whenever the publisher is closed: it gives out the events that wait for a transaction's end."""
    _Current.before_close = act


def _give_out_held() -> None:
    """Publish the events that wait for a transaction's end: after this there is no publisher for them."""
    if _Current.before_close is not None:
        _Current.before_close()


def give_out_notices() -> None:
    """Hand the publisher's log lines to ``logging``."""
    for level, line in _native.notices():
        _log.log(level, "%s", line)


def register_exits() -> None:
    """Register the end of this process's publisher with every exit that there is. Called when a process starts it."""
    if _Current.exited:
        _at_exit()  # no other hook comes
        return
    if os.getpid() != _IMPORTED_BY:
        atexit.register(_at_exit)  # multiprocessing clears what was registered by the parent, from 3.13 on
    # Before that, its children end without atexit.
    if (util := sys.modules.get("multiprocessing.util")) is not None:
        util.Finalize(None, _at_exit, exitpriority=10)
    # Celery's children end with os._exit.
    if (signals := sys.modules.get("celery.signals")) is not None:
        signals.worker_process_shutdown.connect(_at_exit, weak=False)


def _at_exit(*_: object, **__: object) -> None:
    """End the publisher of this process."""
    process = _Current.process
    if process is None or not (process.publisher.is_started() or _Current.before_close is not None):
        return
    try:
        closed = close(process.settings.shutdown_timeout)
    except Exception:
        _log.exception("the publisher was not closed")
        return
    if closed.lost:
        _log.error("%d events are lost: the broker did not confirm them until the exit", len(closed.lost))


def _at_last_exit() -> None:
    """End the publisher at the end of the interpreter. Registered at the import, so that it runs after what came later."""
    _at_exit()
    _Current.exited = True


def _in_sandbox() -> bool:
    """Return whether Temporal imports this for one run of a workflow, which publishes nothing."""
    workflow = sys.modules.get("temporalio.workflow")
    return workflow is not None and bool(workflow.unsafe.in_sandbox())


if not _in_sandbox():
    atexit.register(_at_last_exit)


def _is_settled(process: Process, accepted: int) -> bool:
    """Return whether as many events are confirmed as were accepted. Those of the spool, found meanwhile, are sent first."""
    counts = process.publisher.stats()
    settled = counts["confirmed"] + counts["rejected"] + counts["damaged"]
    return settled >= accepted + counts["recovered"]


def _pauses(timeout: float) -> Iterator[float]:
    """Return the pauses between looks at the counts, until the timeout."""
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        yield min(pause, left)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


def flush(timeout: float = 5.0) -> bool:
    """Wait until the broker has confirmed every event that this process has logged. Return whether it has.

    The wait is made of sleeps: gevent runs other greenlets meanwhile, and Ctrl-C ends it.
    """
    process = _Current.process
    if process is None or not process.publisher.is_started():
        return True
    accepted = process.publisher.stats()["accepted"]
    settled = _is_settled(process, accepted)
    for pause in _pauses(timeout):
        if settled:
            break
        time.sleep(pause)
        settled = _is_settled(process, accepted)
    give_out_notices()
    return settled


async def aflush(timeout: float = 5.0) -> bool:
    """Do the same as ``flush``, for async code."""
    process = _Current.process
    if process is None or not process.publisher.is_started():
        return True
    accepted = process.publisher.stats()["accepted"]
    settled = _is_settled(process, accepted)
    for pause in _pauses(timeout):
        if settled:
            break
        await asyncio.sleep(pause)
        settled = _is_settled(process, accepted)
    give_out_notices()
    return settled


def close(timeout: float = 5.0) -> Closed:
    """Flush, and end the publisher of this process. The next event starts another."""
    process = _Current.process
    if process is None:
        return Closed(0, 0, 0, [])
    _give_out_held()
    flush(timeout)
    closed = Closed(*process.publisher.close(0.0))
    give_out_notices()
    return closed


async def aclose(timeout: float = 5.0) -> Closed:
    """Do the same as ``close``, for async code."""
    _give_out_held()
    await aflush(timeout)
    return await asyncio.to_thread(close, 0.0)


def stats() -> Stats:
    """Return the counts of this process."""
    process = _Current.process
    if process is None:
        return Stats()
    give_out_notices()
    publisher = process.publisher
    return Stats(**publisher.stats(), connected=publisher.is_started() and publisher.outage() is None)


def outage() -> str | None:
    """Return the reason why nothing can be sent; ``None`` while the broker takes events, and before the first event."""
    process = _Current.process
    return None if process is None else process.publisher.outage()
