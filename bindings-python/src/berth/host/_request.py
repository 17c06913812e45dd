"""What a delivery asks for, or how it is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from google.protobuf.message import Message

from berth import _subject, proto
from berth._reply import MAX_ID_BYTES, Code, Reply
from berth._subject import Command
from berth._text import shorten
from berth.encoding import read
from berth.errors import ReadError

M = TypeVar("M", bound=Message)

_MAX_RESTARTS = 2**32 - 1
_MAX_SHOWN_COMMAND_BYTES = 100


@dataclass(frozen=True, slots=True)
class HeartbeatRequest:
    """Whatever its payload holds."""


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A well-formed start."""

    id: str
    workload: proto.Workload


@dataclass(frozen=True, slots=True)
class StopRequest:
    """A well-formed stop."""

    id: str


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """A well-formed status."""

    id: str


Request: TypeAlias = HeartbeatRequest | StartRequest | StopRequest | StatusRequest


def read_request(host_id: str, subject: str, payload: bytes) -> Request | Reply:
    """Reads whatever arrives; there is no failure, only a refusal."""
    match _subject.parse_command(host_id, subject):
        case Command.HEARTBEAT:
            return HeartbeatRequest()
        case Command.START:
            return _read_start(payload)
        case Command.STOP:
            stop = _read(proto.WorkloadStopRequest, payload)
            return (
                stop
                if isinstance(stop, Reply)
                else _refuse_id(stop.workload_id) or StopRequest(stop.workload_id)
            )
        case Command.STATUS:
            status = _read(proto.WorkloadStatusRequest, payload)
            if isinstance(status, Reply):
                return status
            return _refuse_id(status.workload_id) or StatusRequest(status.workload_id)
        case unknown:
            message = f"there is no command {shorten(str(unknown), _MAX_SHOWN_COMMAND_BYTES)!r}"
            return Reply.refused("", Code.NOT_FOUND, message)


def _read_start(payload: bytes) -> StartRequest | Reply:
    request = _read(proto.WorkloadStartRequest, payload)
    if isinstance(request, Reply):
        return request
    refused = _refuse_id(request.workload_id)
    if refused is not None:
        return refused
    if not request.HasField("workload"):
        return Reply.refused(request.workload_id, Code.BAD_REQUEST, "field `workload` is missing")
    if request.workload.service.max_restarts > _MAX_RESTARTS:
        # A -1 that somebody cast: it would mean for ever (HOST-START-010).
        message = f"field `workload.service.maxRestarts`: above {_MAX_RESTARTS}"
        return Reply.refused(request.workload_id, Code.BAD_REQUEST, message)
    return StartRequest(request.workload_id, request.workload)


def _read(message: type[M], payload: bytes) -> M | Reply:
    try:
        return read(message, payload)
    except ReadError as error:
        return Reply.refused("", Code.BAD_REQUEST, str(error))


def _refuse_id(workload_id: str) -> Reply | None:
    size = len(workload_id.encode())
    if size == 0:
        return Reply.refused("", Code.BAD_REQUEST, "field `workloadId` is missing or empty")
    if size > MAX_ID_BYTES:
        message = f"field `workloadId` has {size} bytes; this host takes {MAX_ID_BYTES}"
        return Reply.refused("", Code.TOO_LARGE, message)
    return None
