"""The subjects of the protocol; nothing else in this package builds or takes apart a subject."""

from __future__ import annotations

import enum
import re

# One token, nothing that a broker reads in its own way.
_TOKEN = re.compile(r"[^.*>\s\x00-\x1f\x7f-\x9f]+")
_HOST_ID = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_MAX_TOKEN_BYTES = 256

_HEARTBEATS = "runtime.operator.heartbeat."


class Command(enum.Enum):
    """What a host can be asked; the value is the end of the subject."""

    HEARTBEAT = "heartbeat"
    START = "workload.start"
    STOP = "workload.stop"
    STATUS = "workload.status"


def is_token(text: str) -> bool:
    """Whether an id can stand in a subject."""
    if not _TOKEN.fullmatch(text):
        return False
    return len(text.encode(errors="replace")) <= _MAX_TOKEN_BYTES


def is_host_id(text: str) -> bool:
    """Whether a host may use an id as its own (HOST-WIRE-012)."""
    return is_token(text) and _HOST_ID.fullmatch(text) is not None


def is_of_the_protocol(subject: str) -> bool:
    """Whether a subject is one of those that commands and heartbeats take."""
    return subject.startswith("runtime.")


def commands_of(host_id: str) -> str:
    """Everything that is asked of one host."""
    return f"runtime.host.{host_id}.>"


def command(host_id: str, what: Command) -> str:
    """One command to one host."""
    return f"runtime.host.{host_id}.{what.value}"


def parse_command(host_id: str, subject: str) -> Command | str:
    """The command in a subject under `commands_of`, or the tokens that are none."""
    rest = subject.removeprefix(f"runtime.host.{host_id}.")
    if rest == subject:
        return subject
    try:
        return Command(rest)
    except ValueError:
        return rest


def heartbeat_of(host_id: str) -> str:
    """Where one host publishes its heartbeats."""
    return f"{_HEARTBEATS}{host_id}"


def all_heartbeats() -> str:
    """The heartbeats of all hosts."""
    return f"{_HEARTBEATS}>"


def parse_heartbeat(subject: str) -> str | None:
    """The host that published on a subject under `all_heartbeats`, if that can be the id of one."""
    host_id = subject.removeprefix(_HEARTBEATS)
    return host_id if host_id != subject and is_host_id(host_id) else None
