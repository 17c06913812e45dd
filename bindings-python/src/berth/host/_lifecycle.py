"""Lifecycle of workload IDs: decides all replies and actions, and performs none of them.

The lifecycle has no clock and no I/O: the caller passes in events and executes the returned actions. Times are
in seconds since an arbitrary start.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeAlias

from berth._reply import ErrorCode, Reply
from berth._text import shorten
from berth.errors import StartError
from berth.host.status_reporter import StatusReport
from berth.state import WorkloadState

REPLY_STARTING_AFTER_S = 4.5
"""Time after a start request at which a start without an outcome is answered with STARTING: within the 5 s that
the protocol guarantees, with a margin for transport."""

MAX_ENDED = 1024
"""Maximum number of ended workloads that stay visible at a time.

Few need to stay visible, because schedulers poll within minutes; each entry is small, because it holds only an
ID and a message."""

MAX_WORKLOADS = 16_384
"""Maximum number of IDs in use at a time: a safeguard against a runaway scheduler, far above the capacity of a
machine."""

MAX_MESSAGE_BYTES = 4096
"""Maximum length of the message stored for an ID."""


# --- events


@dataclass(frozen=True, slots=True)
class StartRequested:
    """A valid start request arrived. Each request has a unique number."""

    request: int
    id: str


@dataclass(frozen=True, slots=True)
class StopRequested:
    """A valid stop request arrived."""

    request: int
    id: str


@dataclass(frozen=True, slots=True)
class StatusRequested:
    """A valid status request arrived."""

    request: int
    id: str


@dataclass(frozen=True, slots=True)
class Started:
    """The host started the workload."""

    run: int


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The host failed to start the workload."""

    run: int
    error: StartError


@dataclass(frozen=True, slots=True)
class Reported:
    """The workload reported a state change."""

    run: int
    report: StatusReport


@dataclass(frozen=True, slots=True)
class Released:
    """The host released all resources of the run. The last event of each run."""

    run: int


@dataclass(frozen=True, slots=True)
class Tick:
    """The time of `Lifecycle.next_tick_at_s` has come."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The host is shutting down: refuse starts and stop all workloads."""


Event: TypeAlias = (
    StartRequested
    | StopRequested
    | StatusRequested
    | Started
    | StartFailed
    | Reported
    | Released
    | Tick
    | Shutdown
)


# --- actions


@dataclass(frozen=True, slots=True)
class SendReply:
    """Reply to this request. Each request gets exactly one reply."""

    request: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class StartRun:
    """Call the host's `start` with the workload of this request.

    A run is one execution of a start, until the host has released the instance. Run numbers are never reused,
    so that a late event of an earlier run under the same ID is recognized as stale.
    """

    request: int
    run: int
    id: str


@dataclass(frozen=True, slots=True)
class StopRun:
    """Cancel the start if it is in flight, otherwise pass the instance to the host's `stop`."""

    run: int


Action: TypeAlias = SendReply | StartRun | StopRun


# --- phases of one ID. A run passes them in this order and may skip some.


@dataclass(slots=True)
class _Starting:
    """The start is in flight."""

    pending_request: int | None
    """Start request that has no reply yet, if any."""
    message: str = "starting"
    latest_report: StatusReport | None = None
    """Most recent report of the host."""
    state = WorkloadState.STARTING


@dataclass(slots=True)
class _Active:
    """The host has an instance: RUNNING, or STARTING while a failed service waits to be restarted."""

    state: WorkloadState
    message: str


@dataclass(slots=True)
class _Ended:
    """The workload ended by itself: COMPLETED or ERROR."""

    state: WorkloadState
    message: str
    guest_ran: bool
    """Whether guest code has run."""
    in_host: bool = True
    """True until the host has released the run."""


@dataclass(slots=True)
class _Stopping:
    """The stop was acknowledged; the ID becomes free when the host has released the run."""

    message: str = "stopping"
    state = WorkloadState.STOPPING


_Phase: TypeAlias = _Starting | _Active | _Ended | _Stopping


@dataclass(slots=True)
class _Entry:
    run: int
    phase: _Phase

    def is_restartable(self) -> bool:
        """Returns whether the ID is in ERROR and no guest code has run."""
        phase = self.phase
        return isinstance(phase, _Ended) and phase.state is WorkloadState.ERROR and not phase.guest_ran


_DEFAULT_MESSAGES = {
    WorkloadState.STARTING: "starting",
    WorkloadState.RUNNING: "running",
    WorkloadState.COMPLETED: "completed",
    WorkloadState.ERROR: "failed, no reason given",
}


class Lifecycle:
    """States of all workload IDs of one host."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        # Workload ID of each run that the host has not released.
        self._id_by_unreleased_run: dict[int, str] = {}
        # Heap of the deadlines of start replies; entries of runs without a pending request are skipped.
        self._reply_deadlines: list[tuple[float, int]] = []
        # Workload ID of each ended run that the host has released, oldest first.
        self._released_ended: OrderedDict[int, str] = OrderedDict()
        self._last_run = 0
        self._shutting_down = False

    def step(self, now_s: float, event: Event) -> list[Action]:
        """Processes one event and returns the resulting actions."""
        actions: list[Action] = []
        match event:
            case StartRequested(request, workload_id):
                self._on_start_requested(now_s, request, workload_id, actions)
            case StopRequested(request, workload_id):
                self._on_stop_requested(request, workload_id, actions)
            case StatusRequested(request, workload_id):
                actions.append(SendReply(request, self._status(workload_id)))
            case Started(run):
                self._on_started(run, actions)
            case StartFailed(run, error):
                self._on_start_failed(run, error, actions)
            case Reported(run, report):
                self._on_report(run, report, actions)
            case Released(run):
                self._on_released(run, actions)
            case Tick():
                self._on_tick(now_s, actions)
            case Shutdown():
                self._on_shutdown(actions)
        return actions

    def next_tick_at_s(self) -> float | None:
        """Returns the time of the next `Tick`, if any."""
        while self._reply_deadlines and not self._is_reply_pending(self._reply_deadlines[0][1]):
            heapq.heappop(self._reply_deadlines)
        return self._reply_deadlines[0][0] if self._reply_deadlines else None

    def workload_count(self) -> int:
        """Returns the number of workloads that are starting, running or stopping."""
        return sum(not isinstance(entry.phase, _Ended) for entry in self._entries.values())

    def is_idle(self) -> bool:
        """Returns whether the host has released all runs."""
        return not self._id_by_unreleased_run

    def _on_start_requested(self, now_s: float, request: int, workload_id: str, actions: list[Action]) -> None:
        refusal = self._refuse_start(workload_id)
        if refusal is not None:
            actions.append(SendReply(request, refusal))
            return
        self._last_run += 1
        run = self._last_run
        previous = self._entries.get(workload_id)
        if previous is not None:
            self._released_ended.pop(previous.run, None)
        self._entries[workload_id] = _Entry(run, _Starting(request))
        self._id_by_unreleased_run[run] = workload_id
        heapq.heappush(self._reply_deadlines, (now_s + REPLY_STARTING_AFTER_S, run))
        actions.append(StartRun(request, run, workload_id))

    def _refuse_start(self, workload_id: str) -> Reply | None:
        if self._shutting_down:
            return Reply.refused(workload_id, ErrorCode.UNAVAILABLE, "the host is shutting down")
        entry = self._entries.get(workload_id)
        if entry is None and len(self._entries) - len(self._released_ended) >= MAX_WORKLOADS:
            message = f"the host has reached its limit of {MAX_WORKLOADS} workloads"
            return Reply.refused(workload_id, ErrorCode.UNAVAILABLE, message)
        if entry is None or entry.is_restartable():
            return None
        state = entry.phase.state.proto_name
        message = f"the workload ID is in use in state {state}; stop it before starting it again"
        return Reply.refused(workload_id, ErrorCode.CONFLICT, message)

    def _on_stop_requested(self, request: int, workload_id: str, actions: list[Action]) -> None:
        entry = self._entries.get(workload_id)
        if entry is None:
            actions.append(SendReply(request, Reply.not_found(workload_id)))
            return
        match entry.phase:
            case _Starting() | _Active():
                # Only the reply to a start in flight contains the message.
                self._stop_run(workload_id, entry, "stopped while starting", actions)
            case _Ended(in_host=True):
                entry.phase = _Stopping()
            case _Ended():
                del self._entries[workload_id]
                self._released_ended.pop(entry.run, None)
            case _Stopping():
                pass
        actions.append(SendReply(request, Reply(workload_id, WorkloadState.STOPPING, "stopping")))

    def _stop_run(self, workload_id: str, entry: _Entry, message: str, actions: list[Action]) -> None:
        """Stops a run that is starting or active, and replies to its pending start request."""
        if isinstance(entry.phase, _Starting) and entry.phase.pending_request is not None:
            reply = Reply(workload_id, WorkloadState.STOPPING, message)
            actions.append(SendReply(entry.phase.pending_request, reply))
        entry.phase = _Stopping()
        actions.append(StopRun(entry.run))

    def _status(self, workload_id: str) -> Reply:
        entry = self._entries.get(workload_id)
        if entry is None:
            return Reply.not_found(workload_id)
        return Reply(workload_id, entry.phase.state, entry.phase.message)

    def _on_started(self, run: int, actions: list[Action]) -> None:
        workload_id, entry = self._entry_of(run)
        if entry is None or not isinstance(entry.phase, _Starting):
            return
        pending, report = entry.phase.pending_request, entry.phase.latest_report
        entry.phase = _Active(WorkloadState.RUNNING, "running")
        if report is not None and report.has_run:
            self._on_report(run, report, actions)
        if pending is not None:
            actions.append(SendReply(pending, self._status(workload_id)))

    def _on_start_failed(self, run: int, error: StartError, actions: list[Action]) -> None:
        workload_id, entry = self._entry_of(run)
        if entry is None or not isinstance(entry.phase, _Starting):
            return
        pending, report = entry.phase.pending_request, entry.phase.latest_report
        message = error.message or "the start failed, no reason given"
        # Guest code has run if the host says so or has reported a state other than STARTING.
        guest_ran = error.non_retryable or (report is not None and report.has_run)
        entry.phase = _Ended(WorkloadState.ERROR, shorten(message, MAX_MESSAGE_BYTES), guest_ran)
        if pending is not None:
            actions.append(SendReply(pending, self._status(workload_id)))

    def _on_report(self, run: int, report: StatusReport, actions: list[Action]) -> None:
        _, entry = self._entry_of(run)
        if entry is None:
            return
        message = shorten(report.message or _DEFAULT_MESSAGES[report.state], MAX_MESSAGE_BYTES)
        match entry.phase:
            case _Starting() as phase:
                if report.state is WorkloadState.STARTING:
                    phase.message = message
                phase.latest_report = report
            case _Active() as phase if report.state in (WorkloadState.STARTING, WorkloadState.RUNNING):
                phase.state, phase.message = report.state, message
            case _Active():
                entry.phase = _Ended(report.state, message, guest_ran=True)
                actions.append(StopRun(run))
            case _Stopping() | _Ended():
                pass

    def _on_released(self, run: int, actions: list[Action]) -> None:
        self._handle_unexpected_release(run, actions)
        workload_id, entry = self._entry_of(run)
        self._id_by_unreleased_run.pop(run, None)
        if entry is None:
            return
        if not isinstance(entry.phase, _Ended):
            del self._entries[workload_id]
            return
        entry.phase.in_host = False
        self._released_ended[run] = workload_id
        if len(self._released_ended) > MAX_ENDED:
            _, oldest = self._released_ended.popitem(last=False)
            del self._entries[oldest]

    def _handle_unexpected_release(self, run: int, actions: list[Action]) -> None:
        """Sets ERROR for a run that was released without a stop, and replies to its pending start request."""
        _, entry = self._entry_of(run)
        if entry is None:
            return
        message = "the workload ended unexpectedly"
        if isinstance(entry.phase, _Starting):
            self._on_start_failed(run, StartError(message, non_retryable=True), actions)
        elif isinstance(entry.phase, _Active):
            entry.phase = _Ended(WorkloadState.ERROR, message, guest_ran=True)

    def _on_tick(self, now_s: float, actions: list[Action]) -> None:
        while (due := self.next_tick_at_s()) is not None and due <= now_s:
            _, run = heapq.heappop(self._reply_deadlines)
            workload_id, entry = self._entry_of(run)
            phase = entry.phase if entry is not None else None
            if isinstance(phase, _Starting) and phase.pending_request is not None:
                request, phase.pending_request = phase.pending_request, None
                actions.append(SendReply(request, self._status(workload_id)))

    def _is_reply_pending(self, run: int) -> bool:
        _, entry = self._entry_of(run)
        return (
            entry is not None and isinstance(entry.phase, _Starting) and entry.phase.pending_request is not None
        )

    def _on_shutdown(self, actions: list[Action]) -> None:
        self._shutting_down = True
        for workload_id in self._id_by_unreleased_run.values():
            entry = self._entries.get(workload_id)
            if entry is not None and isinstance(entry.phase, _Starting | _Active):
                self._stop_run(workload_id, entry, "the host is shutting down", actions)

    def _entry_of(self, run: int) -> tuple[str, _Entry | None]:
        """Returns the ID and entry of a run; the entry is `None` if another run has claimed the ID."""
        workload_id = self._id_by_unreleased_run.get(run, "")
        entry = self._entries.get(workload_id) if run in self._id_by_unreleased_run else None
        return workload_id, entry if entry is not None and entry.run == run else None
