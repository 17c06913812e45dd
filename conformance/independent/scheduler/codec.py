"""Encoding of commands, and tolerant decoding of heartbeats and replies."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

STATES = (
    "UNSPECIFIED",
    "STARTING",
    "RUNNING",
    "COMPLETED",
    "STOPPING",
    "ERROR",
    "NOT_FOUND",
)
HOST_ID = re.compile(r"[A-Za-z0-9_-]+")
TIMESTAMP = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?([Zz]|[+-]\d{2}:\d{2})"
)


class Undecodable(Exception):
    """A payload that is not a valid message of the schema."""


@dataclass(frozen=True)
class Status:
    """State of one id on a host, without the prefix `WORKLOAD_STATE_`."""

    state: str
    message: str


@dataclass(frozen=True)
class Interface:
    """An entry of the imports or exports of a host, or a declaration of a workload."""

    namespace: str
    package: str
    version: str
    interfaces: tuple[str, ...]


@dataclass(frozen=True)
class Heartbeat:
    """Fields of a HostHeartbeat on which the scheduler bases decisions."""

    id: str
    name: str
    labels: dict[str, str]
    environment: str
    process: str
    offers: tuple[Interface, ...]
    http_port: int
    cpu_percent: float
    memory_total: int
    memory_free: int
    workloads: int


def encode(message: dict[str, Any]) -> bytes:
    """Returns the payload of a command; raises Undecodable if a text is not valid Unicode."""
    try:
        return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise Undecodable("a text contains half of a surrogate pair") from error


def parse(payload: bytes) -> dict[str, Any]:
    """Returns the JSON object in a payload."""
    try:
        value = json.loads(payload.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Undecodable("the payload is not JSON") from error
    if not isinstance(value, dict):
        raise Undecodable("the payload is not an object")
    return value


def decode_status(payload: bytes, workload_id: str) -> Status:
    """Returns the status in the reply to a command about an id."""
    status = _message(parse(payload), "workloadStatus")
    if status is None:
        raise Undecodable("workloadStatus is missing")
    if _text(status, "workloadId") not in ("", workload_id):
        raise Undecodable("the reply is about another id")
    return Status(_state(_field(status, "workloadState")), _text(status, "message"))


def decode_heartbeat(payload: bytes) -> Heartbeat:
    """Returns the heartbeat in a payload, after a check of every field that the schema defines."""
    value = parse(payload)
    for name in ("hostname", "version", "osArch", "osName", "osKernel"):
        _text(value, name)
    _integer(value, "componentCount", 64)
    return Heartbeat(
        id=_text(value, "id"),
        name=_text(value, "friendlyName"),
        labels=_map(value, "labels"),
        environment=_text(value, "environment"),
        process=_timestamp(value, "startedAt"),
        offers=_interfaces(value, "imports") + _interfaces(value, "exports"),
        http_port=_integer(value, "httpPort", 32),
        cpu_percent=_float(value, "systemCpuUsage"),
        memory_total=_integer(value, "systemMemoryTotal", 64),
        memory_free=_integer(value, "systemMemoryFree", 64),
        workloads=_integer(value, "workloadCount", 64),
    )


def _field(message: dict[str, Any], name: str) -> Any:
    value = message.get(name)
    if value is None:
        value = message.get(re.sub(r"([A-Z])", lambda m: "_" + m.group(1).lower(), name))
    return value


def _text(message: dict[str, Any], name: str) -> str:
    value = _field(message, name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Undecodable(f"{name} is not a string")
    return value


def _message(message: dict[str, Any], name: str) -> dict[str, Any] | None:
    value = _field(message, name)
    if value is not None and not isinstance(value, dict):
        raise Undecodable(f"{name} is not an object")
    return value


def _state(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < len(STATES):
        return STATES[value]
    if isinstance(value, str) and value.startswith("WORKLOAD_STATE_"):
        state = value.removeprefix("WORKLOAD_STATE_")
        if state in STATES[1:]:
            return state
    raise Undecodable("workloadState is missing or unknown")


def _integer(message: dict[str, Any], name: str, bits: int) -> int:
    value = _field(message, name)
    if value is None:
        return 0
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,20}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**bits:
        raise Undecodable(f"{name} is not an integer of {bits} bits")
    return value


def _float(message: dict[str, Any], name: str) -> float:
    value = _field(message, name)
    if value is None:
        return 0.0
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Undecodable(f"{name} is not a finite number")
    return float(value)


def _map(message: dict[str, Any], name: str) -> dict[str, str]:
    entries = _message(message, name) or {}
    if not all(isinstance(value, str) for value in entries.values() if value is not None):
        raise Undecodable(f"{name} is not a map of strings")
    return {key: value for key, value in entries.items() if value is not None}


def _list(message: dict[str, Any], name: str, kind: type) -> list[Any]:
    value = _field(message, name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
        raise Undecodable(f"{name} is not a list of {kind.__name__}")
    return value


def _interfaces(message: dict[str, Any], name: str) -> tuple[Interface, ...]:
    return tuple(
        Interface(
            _text(entry, "namespace"),
            _text(entry, "package"),
            _text(entry, "version"),
            tuple(_list(entry, "interfaces", str)),
        )
        for entry in _list(message, name, dict)
        if _map(entry, "config") is not None and _text(entry, "name") is not None
    )


def _timestamp(message: dict[str, Any], name: str) -> str:
    """Returns an instant in a form in which equal instants are equal texts."""
    text = _text(message, name)
    if not text:
        return ""
    match = TIMESTAMP.fullmatch(text)
    if match is None:
        raise Undecodable(f"{name} is not a timestamp")
    day, clock, fraction, offset = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=UTC)
        if offset not in "Zz":
            sign = -1 if offset[0] == "-" else 1
            moment -= sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[4:6]))
    except (ValueError, OverflowError) as error:
        raise Undecodable(f"{name} is not a timestamp") from error
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{(fraction or '').ljust(9, '0')}"
