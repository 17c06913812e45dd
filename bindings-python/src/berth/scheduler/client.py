"""Commands to one host, with typed responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

from berth import _subject, proto
from berth._subject import Command
from berth._text import shorten
from berth.bus import Bus, RawReply
from berth.encoding import decode, encode
from berth.errors import (
    DecodeError,
    EncodeError,
    InvalidHostIdError,
    InvalidOptionError,
    InvalidResponseError,
    RefusedError,
)
from berth.state import WorkloadState

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """Timeouts of the commands, in seconds. The defaults are those of the wasmCloud operator."""

    start_s: float = 60.0
    """Timeout of a start; a host must reply within this time."""
    stop_s: float = 30.0
    status_s: float = 5.0
    heartbeat_s: float = 5.0

    def __post_init__(self) -> None:
        """Raises `InvalidOptionError` for a timeout that is not longer than 0 s."""
        for name in ("start_s", "stop_s", "status_s", "heartbeat_s"):
            if not getattr(self, name) > 0:
                raise InvalidOptionError(f"Timeouts.{name}", "must be a number of seconds above 0")


@dataclass(frozen=True, slots=True)
class Status:
    """Status of one workload, as reported by the host."""

    workload_id: str
    """ID of the workload."""
    state: WorkloadState
    """State of the workload; never UNSPECIFIED."""
    message: str
    """Human-readable detail; may be empty."""


class HostClient:
    """Sends commands to one host. Safe for concurrent calls, and cheap to create.

    All commands raise `NoRespondersError`, `RequestTimeoutError`, `RefusedError`, `InvalidResponseError` and
    `NotSentError`, all of which are `ClientError`, and `BusClosedError`. After a cancellation, as after a
    timeout, the command may or may not have been executed.
    """

    def __init__(self, bus: Bus, host_id: str, timeouts: Timeouts | None = None) -> None:
        """Creates a client for the host with this ID. The first command shows whether the host exists.

        Raises `InvalidHostIdError` if the ID is not a valid subject token.
        """
        if not _subject.is_token(host_id):
            raise InvalidHostIdError(host_id)
        self._bus = bus
        self._host_id = host_id
        self._timeouts = timeouts or Timeouts()

    @property
    def host_id(self) -> str:
        """ID of the host."""
        return self._host_id

    def __repr__(self) -> str:
        return f"HostClient({self._host_id!r})"

    async def start(self, workload_id: str, workload: proto.Workload) -> Status:
        """Starts a workload. Returns RUNNING or COMPLETED, or STARTING if the start takes longer.

        In state STARTING, poll `status`.

        Not idempotent. After a timeout, send the same request again or call `status`. If the retry is
        refused with code 409, the first request arrived.

        Raises `RefusedError` if the host replies with ERROR, with or without a code.
        """
        request = proto.WorkloadStartRequest(workload=workload, workload_id=_encodable(workload_id))
        reply = await self._request(Command.START, request, self._timeouts.start_s)
        response = _decode(proto.WorkloadStartResponse, reply)
        return _reject_error(_parse_status(workload_id, response, reply))

    async def stop(self, workload_id: str) -> Status:
        """Stops a workload. STOPPING acknowledges the stop; NOT_FOUND, here or from `status`, proves its end.

        Idempotent.

        Raises `RefusedError` if the host replies with ERROR.
        """
        request = proto.WorkloadStopRequest(workload_id=_encodable(workload_id))
        reply = await self._request(Command.STOP, request, self._timeouts.stop_s)
        response = _decode(proto.WorkloadStopResponse, reply)
        return _reject_error(_parse_status(workload_id, response, reply))

    async def status(self, workload_id: str) -> Status:
        """Returns the status of a workload. ERROR and NOT_FOUND are returned as states.

        Raises `RefusedError` only if the host refuses the request itself.
        """
        request = proto.WorkloadStatusRequest(workload_id=_encodable(workload_id))
        reply = await self._request(Command.STATUS, request, self._timeouts.status_s)
        return _parse_status(workload_id, _decode(proto.WorkloadStatusResponse, reply), reply)

    async def heartbeat(self) -> proto.HostHeartbeat:
        """Requests a heartbeat and returns it.

        A `wash host` measures its load between two heartbeats, so frequent requests distort the measurement.

        Raises `InvalidResponseError` also if the heartbeat belongs to another host.
        """
        reply = await self._request(Command.HEARTBEAT, None, self._timeouts.heartbeat_s)
        heartbeat = _decode(proto.HostHeartbeat, reply)
        if heartbeat.id != self._host_id:
            raise InvalidResponseError(f"heartbeat of host {shorten(heartbeat.id, 256)!r}")
        return heartbeat

    async def _request(self, command: Command, request: Message | None, timeout_s: float) -> RawReply:
        """Raises `EncodeError` in addition to the errors of `Bus.request`."""
        payload = b"{}" if request is None else encode(request)
        return await self._bus.request(_subject.command(self._host_id, command), payload, timeout_s)


def _encodable(workload_id: str) -> str:
    try:
        workload_id.encode()
    except UnicodeEncodeError:  # its text would quote the whole ID
        raise EncodeError("workloadId", "contains an unpaired surrogate") from None
    return workload_id


def _decode(message_type: type[M], reply: RawReply) -> M:
    try:
        return decode(message_type, reply.payload)
    except DecodeError as error:
        raise InvalidResponseError(str(error)) from error


_Response = proto.WorkloadStartResponse | proto.WorkloadStopResponse | proto.WorkloadStatusResponse


def _parse_status(workload_id: str, response: _Response, reply: RawReply) -> Status:
    """Returns the status in a response, after checking that it is complete and belongs to the workload."""
    if not response.HasField("workload_status"):
        raise InvalidResponseError("field `workloadStatus` is missing")
    status = response.workload_status
    state = WorkloadState(status.workload_state)
    if reply.error_code is not None:
        raise RefusedError(reply.error_code, state, status.message)
    if state is WorkloadState.UNSPECIFIED:
        raise InvalidResponseError("field `workloadState` is missing")
    if status.workload_id != workload_id:
        raise InvalidResponseError("field `workloadId` names another workload")
    return Status(workload_id, state, status.message)


def _reject_error(status: Status) -> Status:
    """Raises `RefusedError` for ERROR in reply to a start or a stop, which is a refusal even without a code."""
    if status.state is WorkloadState.ERROR:
        raise RefusedError(None, status.state, status.message)
    return status
