"""Commands to one host, with typed answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

from berth import _subject, proto
from berth._subject import Command
from berth.bus import Answer, Bus
from berth.encoding import read, write
from berth.errors import BadHostId, Malformed, ReadError, Refused, Unwritable, WriteError
from berth.state import WorkloadState

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """How long each command may take, in seconds. The defaults are those of deployed schedulers."""

    start_s: float = 60.0
    """By when a host must have answered a start."""
    stop_s: float = 30.0
    status_s: float = 5.0
    heartbeat_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Status:
    """What a host says of one id."""

    workload_id: str
    """The id that was asked for."""
    state: WorkloadState
    """Its state; never unspecified."""
    message: str
    """For people; may be empty."""


class HostClient:
    """Commands one host. All methods may be called at once; it costs nothing to make another.

    All commands raise `NoResponders`, `Timeout`, `Refused`, `Malformed` and `NotSent`, all of them
    `ClientError`, and `BusClosed`. A command that is cancelled may have been carried out or not, as after a
    timeout.
    """

    def __init__(self, bus: Bus, host_id: str, timeouts: Timeouts | None = None) -> None:
        """A client for the host with this id. Whether it exists is seen at the first command.

        Raises `BadHostId` for an id that cannot stand in a subject.
        """
        if not _subject.is_token(host_id):
            raise BadHostId(host_id)
        self._bus = bus
        self._host_id = host_id
        self._timeouts = timeouts or Timeouts()

    @property
    def host_id(self) -> str:
        """The id of the host."""
        return self._host_id

    def __repr__(self) -> str:
        return f"HostClient({self._host_id!r})"

    async def start(self, workload_id: str, workload: proto.Workload) -> Status:
        """Starts a workload. It returns when the host has it: RUNNING, or STARTING and to be asked for.

        Not idempotent by itself: after a timeout send the same again or ask `status`; a refusal with code 409
        then says that the first one arrived.

        Raises `Refused` when the answer is ERROR, with or without a code.
        """
        request = proto.WorkloadStartRequest(workload=workload, workload_id=workload_id)
        answer = await self._ask(Command.START, request, self._timeouts.start_s)
        response = _read(proto.WorkloadStartResponse, answer)
        return _not_error(_understood(workload_id, response, answer))

    async def stop(self, workload_id: str) -> Status:
        """Stops a workload. STOPPING acknowledges; NOT_FOUND, here or from `status`, proves the end.

        May be sent as often as one likes.

        Raises `Refused` when the answer is ERROR.
        """
        request = proto.WorkloadStopRequest(workload_id=workload_id)
        answer = await self._ask(Command.STOP, request, self._timeouts.stop_s)
        response = _read(proto.WorkloadStopResponse, answer)
        return _not_error(_understood(workload_id, response, answer))

    async def status(self, workload_id: str) -> Status:
        """Asks for the state of a workload. ERROR and NOT_FOUND are states, not errors.

        Raises `Refused` only when the host refuses the question.
        """
        request = proto.WorkloadStatusRequest(workload_id=workload_id)
        answer = await self._ask(Command.STATUS, request, self._timeouts.status_s)
        return _understood(workload_id, _read(proto.WorkloadStatusResponse, answer), answer)

    async def heartbeat(self) -> proto.HostHeartbeat:
        """Asks for a heartbeat now.

        A `wash host` measures its load between two of them, so that asking often spoils the measure.

        Raises `Malformed` also when the heartbeat is that of another host.
        """
        answer = await self._ask(Command.HEARTBEAT, None, self._timeouts.heartbeat_s)
        heartbeat = _read(proto.HostHeartbeat, answer)
        if heartbeat.id != self._host_id:
            raise Malformed(f"it is the heartbeat of {heartbeat.id!r}")
        return heartbeat

    async def _ask(self, command: Command, request: Message | None, timeout_s: float) -> Answer:
        try:
            payload = b"{}" if request is None else write(request)
        except WriteError as error:
            raise Unwritable from error
        return await self._bus.request(_subject.command(self._host_id, command), payload, timeout_s)


def _read(message: type[M], answer: Answer) -> M:
    try:
        return read(message, answer.payload)
    except ReadError as error:
        raise Malformed(str(error)) from error


_Response = proto.WorkloadStartResponse | proto.WorkloadStopResponse | proto.WorkloadStatusResponse


def _understood(workload_id: str, response: _Response, answer: Answer) -> Status:
    """The status in an answer, checked to be one and to be that of the id."""
    if not response.HasField("workload_status"):
        raise Malformed("it has no workloadStatus")
    status = response.workload_status
    state = WorkloadState(status.workload_state)
    if answer.error_code is not None:
        raise Refused(answer.error_code, state, status.message)
    if state is WorkloadState.UNSPECIFIED:
        raise Malformed("it has no workloadState")
    if status.workload_id != workload_id:
        raise Malformed("it is about another workload")
    return Status(workload_id, state, status.message)


def _not_error(status: Status) -> Status:
    """ERROR in answer to a start or a stop is a refusal, also without a code."""
    if status.state is WorkloadState.ERROR:
        raise Refused(None, status.state, status.message)
    return status
