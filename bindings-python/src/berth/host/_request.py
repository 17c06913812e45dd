"""Decodes a request to the host, or refuses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from google.protobuf.message import Message

from berth import _subject, proto
from berth._reply import MAX_ID_BYTES, ErrorCode, Reply
from berth._subject import Command
from berth._text import shorten
from berth.encoding import decode
from berth.encoding.parser import parse
from berth.errors import DecodeError

M = TypeVar("M", bound=Message)

_MAX_RESTARTS = 2**32 - 1
_MAX_ECHOED_COMMAND_BYTES = 100


@dataclass(frozen=True, slots=True)
class HeartbeatCommand:
    """Request for a heartbeat, with any payload."""


@dataclass(frozen=True, slots=True)
class StartCommand:
    """Valid request to start a workload."""

    id: str
    workload: proto.Workload


@dataclass(frozen=True, slots=True)
class StopCommand:
    """Valid request to stop a workload."""

    id: str


@dataclass(frozen=True, slots=True)
class StatusCommand:
    """Valid request for the status of a workload."""

    id: str


DecodedCommand: TypeAlias = HeartbeatCommand | StartCommand | StopCommand | StatusCommand


def decode_request(host_id: str, subject: str, payload: bytes) -> DecodedCommand | Reply:
    """Returns the decoded command, or the reply that refuses it; never raises."""
    match _subject.parse_command(host_id, subject):
        case Command.HEARTBEAT:
            return HeartbeatCommand()
        case Command.START:
            return _decode_start(payload)
        case Command.STOP:
            stop = _decode(proto.WorkloadStopRequest, payload)
            return (
                stop
                if isinstance(stop, Reply)
                else _refuse_id(stop.workload_id) or StopCommand(stop.workload_id)
            )
        case Command.STATUS:
            status = _decode(proto.WorkloadStatusRequest, payload)
            if isinstance(status, Reply):
                return status
            return _refuse_id(status.workload_id) or StatusCommand(status.workload_id)
        case unknown:
            message = f"unknown command {shorten(str(unknown), _MAX_ECHOED_COMMAND_BYTES)!r}"
            return Reply.refused("", ErrorCode.NOT_FOUND, message)


def _decode_start(payload: bytes) -> StartCommand | Reply:
    request = _decode(proto.WorkloadStartRequest, payload)
    if isinstance(request, Reply):
        return request
    refusal = _refuse_id(request.workload_id)
    if refusal is not None:
        return refusal
    if not request.HasField("workload"):
        return Reply.refused(request.workload_id, ErrorCode.BAD_REQUEST, "field `workload` is missing")
    if request.workload.service.max_restarts > _MAX_RESTARTS:
        # Probably -1 cast to an unsigned integer, which would mean unlimited restarts (HOST-START-010).
        message = f"field `workload.service.maxRestarts`: exceeds {_MAX_RESTARTS}"
        return Reply.refused(request.workload_id, ErrorCode.BAD_REQUEST, message)
    return StartCommand(request.workload_id, request.workload)


def _decode(message_type: type[M], payload: bytes) -> M | Reply:
    try:
        return decode(message_type, payload)
    except DecodeError as error:
        return Reply.refused(_readable_id(payload), ErrorCode.BAD_REQUEST, str(error))


def _readable_id(payload: bytes) -> str:
    """Returns the ID in a request with another invalid field, or an empty text."""
    try:
        members = parse(payload)
    except DecodeError:
        return ""
    ids = [members[name] for name in ("workloadId", "workload_id") if members.get(name) is not None]
    if len(ids) != 1 or not isinstance(ids[0], str):
        return ""
    try:
        return ids[0] if len(ids[0].encode()) <= MAX_ID_BYTES else ""
    except UnicodeEncodeError:
        return ""


def _refuse_id(workload_id: str) -> Reply | None:
    size = len(workload_id.encode())
    if size == 0:
        return Reply.refused("", ErrorCode.BAD_REQUEST, "field `workloadId` is missing or empty")
    if size > MAX_ID_BYTES:
        message = f"field `workloadId` has {size} bytes; the maximum is {MAX_ID_BYTES}"
        return Reply.refused("", ErrorCode.TOO_LARGE, message)
    return None
