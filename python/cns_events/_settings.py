"""Settings of the process: arguments of ``configure``, else the environment, else defaults."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

SpoolWhen = Literal["outage", "always", "buffer_full"]
ReadToken = str | Callable[[], str]

_PREFIX = "CNS_EVENTS__"
_WORDS = {"true": True, "false": False}


class ConfigurationError(ValueError):
    """A configuration that cannot be used."""


@dataclass(frozen=True)
class Settings:
    """Settings of the process. ``None`` where the publisher has a default."""

    uri: str
    app_id: str
    exchange: str | None = None
    spool: str | None = None
    spool_when: str | None = None
    spool_bytes: int | None = None
    buffer_events: int | None = None
    buffer_bytes: int | None = None
    max_message_bytes: int | None = None
    shutdown_timeout: float = 2.0
    enabled: bool = True
    require_tls: bool = False
    write_database: bool = False
    read_url: str | None = None
    read_token: ReadToken | None = None


class Environment:
    """The environment's variables for the keys of the configuration."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def text(self, key: str, fallback: str | None = None) -> str | None:
        """Return the value of a key, from its variable, from the file that its variable names, or from ``fallback``."""
        name = _PREFIX + key.upper().replace(".", "__")
        value = self._variables.get(name)
        path = self._variables.get(name + "_FILE")
        if value is not None and path is not None:
            raise ConfigurationError(f"{name} is set, and so is {name}_FILE; unset one of them")
        if path is not None:
            try:
                value = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
            except OSError as error:
                raise ConfigurationError(f"{name}_FILE: cannot read the file: {error.strerror}") from None
        if value is None and fallback is not None:
            value = self._variables.get(fallback)
        return value or None

    def number(self, key: str) -> int | None:
        """Return a whole number."""
        text = self.text(key)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit()):
            raise ConfigurationError(f"{key} = {text}: is not a whole number, 0 or more")
        return int(text)

    def truth(self, key: str) -> bool | None:
        """Return ``true`` or ``false``."""
        text = self.text(key)
        if text is None:
            return None
        if text not in _WORDS:
            raise ConfigurationError(f"{key} = {text}: is neither true nor false")
        return _WORDS[text]

    def seconds(self, key_in_ms: str) -> float | None:
        """Return milliseconds as seconds."""
        number = self.number(key_in_ms)
        return None if number is None else number / 1000


def program_name(variables: Mapping[str, str]) -> str:
    """Return the name of this producer: OpenTelemetry's, else the program's."""
    program = Path(sys.argv[0]).stem if sys.argv and sys.argv[0] not in ("", "-c", "-m") else ""
    return variables.get("OTEL_SERVICE_NAME") or program or "python"


def settings(
    *,
    uri: str | None = None,
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
    variables: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings of the process: arguments first, then the environment."""
    variables = os.environ if variables is None else variables
    of = Environment(variables)
    enabled = _either(enabled, of.truth("publisher.enabled"), True)
    uri = uri or of.text("amqp.uri", "AMQP_URL")
    if uri is None and enabled:
        raise ConfigurationError("no broker: set AMQP_URL, or call configure(uri=...)")
    spool = os.fspath(spool) if spool is not None else of.text("publisher.spool")
    # A condition without a folder is an error where it was asked for, and no news in a shared environment.
    when = spool_when or (of.text("publisher.spool_when") if spool else None)
    return Settings(
        uri=uri or "amqp://127.0.0.1/%2f",
        app_id=app_id or of.text("publisher.app_id") or program_name(variables),
        exchange=exchange or of.text("amqp.exchange"),
        spool=spool,
        spool_when=when,
        spool_bytes=_either(spool_bytes, of.number("publisher.spool_bytes"), None),
        buffer_events=_either(buffer_events, of.number("publisher.buffer_events"), None),
        buffer_bytes=_either(buffer_bytes, of.number("publisher.buffer_bytes"), None),
        max_message_bytes=_either(max_message_bytes, of.number("publisher.max_message_bytes"), None),
        shutdown_timeout=_either(shutdown_timeout, of.seconds("publisher.shutdown_timeout_ms"), 2.0),
        enabled=enabled,
        require_tls=enabled and of.truth("amqp.require_tls") is True,
        write_database=_either(write_database, of.truth("publisher.write_database"), False),
        read_url=read_url or of.text("publisher.read_url"),
        read_token=read_token or of.text("publisher.read_token"),
    )


_T = TypeVar("_T")


def _either(argument: _T | None, variable: _T | None, default: _T) -> _T:
    """Return the first that is set."""
    if argument is not None:
        return argument
    return default if variable is None else variable
