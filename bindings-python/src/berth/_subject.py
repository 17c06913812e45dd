"""NATS subjects of the protocol. No other module builds or parses a subject."""

from __future__ import annotations

import enum
import re

# A single token without wildcards, separators and control characters.
_TOKEN = re.compile(r"[^.*>\s\x00-\x1f\x7f-\x9f]+")
_HOST_ID = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_MAX_TOKEN_BYTES = 256

DISCOVER = "berth.ext.v1.discover"
"""Subject of requests to all hosts, of the extension `discover`."""

_HEARTBEAT_PREFIX = "runtime.operator.heartbeat."


class Command(enum.Enum):
    """Command to a host; the value is the last part of the subject."""

    HEARTBEAT = "heartbeat"
    START = "workload.start"
    STOP = "workload.stop"
    STATUS = "workload.status"


def is_token(text: str) -> bool:
    """Returns whether an ID is a valid subject token."""
    try:
        return _TOKEN.fullmatch(text) is not None and len(text.encode()) <= _MAX_TOKEN_BYTES
    except UnicodeEncodeError:  # an unpaired surrogate
        return False


def is_subject(text: str) -> bool:
    """Returns whether a text is a valid subject without wildcards."""
    return all(is_token(token) for token in text.split("."))


def is_host_id(text: str) -> bool:
    """Returns whether a host may use this ID (HOST-WIRE-012)."""
    return is_token(text) and _HOST_ID.fullmatch(text) is not None


def is_protocol_subject(subject: str) -> bool:
    """Returns whether a subject is reserved for commands and heartbeats."""
    return subject.startswith("runtime.")


def all_commands(host_id: str) -> str:
    """Returns the wildcard subject of all commands to one host."""
    return f"runtime.host.{host_id}.>"


def command(host_id: str, command: Command) -> str:
    """Returns the subject of one command to one host."""
    return f"runtime.host.{host_id}.{command.value}"


def parse_command(host_id: str, subject: str) -> Command | str:
    """Returns the command in a subject under `all_commands`, or its last tokens if the command is unknown."""
    name = subject.removeprefix(f"runtime.host.{host_id}.")
    if name == subject:
        return subject
    try:
        return Command(name)
    except ValueError:
        return name


def heartbeat(host_id: str) -> str:
    """Returns the subject on which one host publishes its heartbeats."""
    return f"{_HEARTBEAT_PREFIX}{host_id}"


def all_heartbeats() -> str:
    """Returns the wildcard subject of the heartbeats of all hosts."""
    return f"{_HEARTBEAT_PREFIX}>"


def parse_heartbeat(subject: str) -> str | None:
    """Returns the host ID in a subject under `all_heartbeats`, or `None` if it is invalid."""
    host_id = subject.removeprefix(_HEARTBEAT_PREFIX)
    return host_id if host_id != subject and is_host_id(host_id) else None
