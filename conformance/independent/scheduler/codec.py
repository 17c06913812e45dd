"""Encoding of commands, and tolerant decoding of heartbeats and replies."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from violation import violates

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
EXPORT_FIELDS = ("namespace", "package", "version", "interfaces", "config", "name")
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
    imports: tuple[Interface, ...]
    exports: tuple[Interface, ...]
    http_port: int
    cpu_percent: float
    memory_total: int
    memory_free: int
    workloads: int


def subject(host_id: str, command: str) -> str:
    """Returns the subject of a command to a host."""
    if violates("host-id-lowercased-in-subject"):
        host_id = host_id.lower()
    return f"runtime.host.{host_id}.{command}"


def valid_host_id(host_id: str) -> bool:
    if violates("non-ascii-host-id-accepted"):
        return re.fullmatch(r"[\w-]+", host_id) is not None
    return HOST_ID.fullmatch(host_id) is not None


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
        if isinstance(error, RecursionError) and violates("deep-heartbeat-ends-connection"):
            raise
        raise Undecodable("the payload is not JSON") from error
    if not isinstance(value, dict):
        raise Undecodable("the payload is not an object")
    return value


def decode_status(payload: bytes, workload_id: str, command: str) -> Status:
    """Returns the status in the reply to a command about an id."""
    try:
        reply = parse(payload)
    except Undecodable:
        if command == "start" and violates("undecodable-start-reply-is-refusal"):
            return Status("ERROR", "the reply is not valid JSON")
        raise
    status = _message(reply, "workloadStatus")
    if violates("reads-first-field-of-reply"):
        status = next(iter(reply.values()), None)
        if not isinstance(status, dict):
            raise Undecodable("the first field is not an object")
    if status is None:
        raise Undecodable("workloadStatus is missing")
    state = _status_state(status, command)
    if _is_other_id(_text(status, "workloadId"), workload_id, command, state):
        raise Undecodable("the reply is about another id")
    return Status(state, _text(status, "message"))


def _is_other_id(found: str, workload_id: str, command: str, state: str) -> bool:
    if command == "status" and violates("reply-id-compared-ignoring-case"):
        found, workload_id = found.lower(), workload_id.lower()
    if violates("stop-reply-about-other-id-accepted") and command == "stop":
        return state != "NOT_FOUND" and found not in ("", workload_id)
    return found not in ("", workload_id)


def _status_state(status: dict[str, Any], command: str) -> str:
    value = _field(status, "workloadState")
    if violates("proto-name-of-state-not-read"):
        value = status.get("workloadState")
    if command == "stop" and value == 6 and violates("state-number-in-stop-reply-not-read"):
        raise Undecodable("the state is a number")
    unspecified = command == "status" and value in ("WORKLOAD_STATE_UNSPECIFIED", 0)
    if unspecified and violates("unspecified-state-is-a-failure"):
        return "ERROR"
    only_id = command == "start" and value is None and _text(status, "workloadId") != ""
    if only_id and violates("start-reply-without-state-is-running"):
        return "RUNNING"
    return _state(value)


def decode_heartbeat(payload: bytes) -> Heartbeat:
    """Returns the heartbeat in a payload, after a check of every field that the schema defines."""
    value = parse(payload)
    _drop_on_purpose(value)
    for name in ("hostname", "version", "osArch", "osName", "osKernel"):
        _text(value, name)
    _integer(value, "componentCount", 64)
    return Heartbeat(
        id=_text(value, "id"),
        name=_text(value, "friendlyName"),
        labels=_map(value, "labels"),
        environment=_text(value, "environment"),
        process=_timestamp(value, "startedAt"),
        imports=_interfaces(value, "imports"),
        exports=_interfaces(value, "exports"),
        http_port=_http_port(value),
        cpu_percent=_float(value, "systemCpuUsage"),
        memory_total=_integer(value, "systemMemoryTotal", 64),
        memory_free=_integer(value, "systemMemoryFree", 64),
        workloads=_integer(value, "workloadCount", 64),
    )


def _drop_on_purpose(value: dict[str, Any]) -> None:
    if violates("numeric-memory-drops-heartbeat"):
        for name in ("systemMemoryTotal", "systemMemoryFree", "workloadCount"):
            if isinstance(_field(value, name), int):
                raise Undecodable(f"{name} is a number")
    if violates("null-imports-drop-heartbeat"):
        for name in ("imports", "labels"):
            if name in value and value[name] is None:
                raise Undecodable(f"{name} is null")
    if violates("unknown-field-in-export-drops-beat"):
        for entry in _list(value, "exports", dict):
            if not set(entry) <= set(EXPORT_FIELDS):
                raise Undecodable("exports[] has an unknown field")


def _http_port(value: dict[str, Any]) -> int:
    port = _integer(value, "httpPort", 32)
    written = _field(value, "httpPort")
    if isinstance(written, str) and violates("http-port-as-text-is-unset"):
        return 0
    if port == 0 and written is not None and violates("http-port-zero-counts-as-set"):
        return -1
    return port


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
    if violates("started-at-compared-as-text"):
        return text
    day, clock, fraction, offset = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=UTC)
        if offset not in "Zz":
            sign = -1 if offset[0] == "-" else 1
            moment -= sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[4:6]))
    except (ValueError, OverflowError) as error:
        raise Undecodable(f"{name} is not a timestamp") from error
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{(fraction or '').ljust(9, '0')}"
