"""The table of ids and their states: decides every reply and every piece of work, and does none.

No clock, no I/O: the shell hands in what happened and carries out the actions that come back.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeAlias

from berth._reply import Code, Reply
from berth._text import shorten
from berth.errors import Refusal
from berth.host.reporter import Report
from berth.state import WorkloadState

STARTING_AFTER_S = 4.5
"""A start is answered with STARTING when its outcome takes longer; inside the 5 s that schedulers are promised,
with room for the way to them."""

MAX_ENDED = 1024
"""How many ended workloads stay visible; a scheduler asks within minutes, and one entry is at most an id and a
message."""

MAX_WORKLOADS = 16_384
"""How many ids may be in use at once: a backstop against a scheduler run wild, far above what one machine can
run."""

MAX_MESSAGE_BYTES = 4096
"""Longest message that is kept for an id."""


# --- what happened


@dataclass(frozen=True, slots=True)
class StartAsked:
    """A well-formed start was received. Each request has a number of its own."""

    request: int
    id: str


@dataclass(frozen=True, slots=True)
class StopAsked:
    """A well-formed stop was received."""

    request: int
    id: str


@dataclass(frozen=True, slots=True)
class StatusAsked:
    """A well-formed status was received."""

    request: int
    id: str


@dataclass(frozen=True, slots=True)
class Up:
    """The host brought the workload up."""

    run: int


@dataclass(frozen=True, slots=True)
class CouldNot:
    """The host could not."""

    run: int
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Reported:
    """The workload told of its later life."""

    run: int
    report: Report


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing of this run is left in the host. The last event of each run."""

    run: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The host ends: nothing new is begun, everything is ended."""


Event: TypeAlias = StartAsked | StopAsked | StatusAsked | Up | CouldNot | Reported | Gone | Tick | Shutdown


# --- what is to be done


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer this request. Each request gets exactly one."""

    request: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class Begin:
    """Ask the host to bring a workload up; the workload is the one of this request.

    A run is one attempt to run one workload. Its number is never reused, so that late news of an earlier
    attempt with the same id is known as such.
    """

    request: int
    run: int
    id: str


@dataclass(frozen=True, slots=True)
class End:
    """Cancel the start if it is under way, else hand the instance to the host's stop."""

    run: int


Action: TypeAlias = Answer | Begin | End


# --- what is known of one id. Each run goes down this list and never up.


@dataclass(slots=True)
class _Starting:
    """The host is bringing it up; `waiting` is the start that has no answer yet."""

    waiting: int | None
    message: str = "starting"
    report: Report | None = None
    state = WorkloadState.STARTING


@dataclass(slots=True)
class _Up:
    """The host has an instance; STARTING (between two runs of a service) or RUNNING."""

    state: WorkloadState
    message: str


@dataclass(slots=True)
class _Ended:
    """Over by itself: COMPLETED or ERROR. `in_host` until the host has let go of it."""

    state: WorkloadState
    message: str
    guest_ran: bool
    in_host: bool = True


@dataclass(slots=True)
class _Stopping:
    """A stop was acknowledged; the id is free when the host has let go of it."""

    message: str = "stopping"
    state = WorkloadState.STOPPING


_Phase: TypeAlias = _Starting | _Up | _Ended | _Stopping


@dataclass(slots=True)
class _Entry:
    run: int
    phase: _Phase

    def may_start_again(self) -> bool:
        """An id in ERROR of which no guest code ever ran."""
        phase = self.phase
        return isinstance(phase, _Ended) and phase.state is WorkloadState.ERROR and not phase.guest_ran


_DEFAULT_MESSAGES = {
    WorkloadState.STARTING: "starting",
    WorkloadState.RUNNING: "running",
    WorkloadState.COMPLETED: "completed",
    WorkloadState.ERROR: "failed and said no reason",
}


class Lifecycle:
    """The table."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        # Every run that the host still has in hand.
        self._ids: dict[int, str] = {}
        # Starts that are owed an answer, by time; runs that need it no longer are skipped.
        self._overdue: list[tuple[float, int]] = []
        self._ended: OrderedDict[int, str] = OrderedDict()
        self._last_run = 0
        self._shutting_down = False

    def step(self, now_s: float, event: Event) -> list[Action]:
        """Takes in one event at `now_s`, of any clock that never goes back, and says what to do."""
        actions: list[Action] = []
        match event:
            case StartAsked(request, workload_id):
                self._start(now_s, request, workload_id, actions)
            case StopAsked(request, workload_id):
                self._stop(request, workload_id, actions)
            case StatusAsked(request, workload_id):
                actions.append(Answer(request, self._status(workload_id)))
            case Up(run):
                self._up(run, actions)
            case CouldNot(run, refusal):
                self._could_not(run, refusal, actions)
            case Reported(run, report):
                self._reported(run, report, actions)
            case Gone(run):
                self._gone(run, actions)
            case Tick():
                self._answer_overdue(now_s, actions)
            case Shutdown():
                self._shut_down(actions)
        return actions

    def next_tick_s(self) -> float | None:
        """When `Tick` is due next."""
        while self._overdue and not self._is_waiting(self._overdue[0][1]):
            heapq.heappop(self._overdue)
        return self._overdue[0][0] if self._overdue else None

    def workload_count(self) -> int:
        """Workloads that the host works for: starting, running or stopping."""
        return sum(not isinstance(entry.phase, _Ended) for entry in self._entries.values())

    def is_idle(self) -> bool:
        """Whether no run is left in the host."""
        return not self._ids

    def _start(self, now_s: float, request: int, workload_id: str, actions: list[Action]) -> None:
        refusal = self._refuse_start(workload_id)
        if refusal is not None:
            actions.append(Answer(request, refusal))
            return
        self._last_run += 1
        run = self._last_run
        earlier = self._entries.get(workload_id)
        if earlier is not None:
            self._ended.pop(earlier.run, None)
        self._entries[workload_id] = _Entry(run, _Starting(request))
        self._ids[run] = workload_id
        heapq.heappush(self._overdue, (now_s + STARTING_AFTER_S, run))
        actions.append(Begin(request, run, workload_id))

    def _refuse_start(self, workload_id: str) -> Reply | None:
        if self._shutting_down:
            return Reply.refused(workload_id, Code.UNAVAILABLE, "the host is shutting down")
        entry = self._entries.get(workload_id)
        if entry is None and len(self._entries) - len(self._ended) >= MAX_WORKLOADS:
            message = f"the host has {MAX_WORKLOADS} workloads and takes no more"
            return Reply.refused(workload_id, Code.UNAVAILABLE, message)
        if entry is None or entry.may_start_again():
            return None
        state = entry.phase.state.proto_name
        message = f"the workload id is in use, its state is {state}; stop it to use the id again"
        return Reply.refused(workload_id, Code.CONFLICT, message)

    def _stop(self, request: int, workload_id: str, actions: list[Action]) -> None:
        entry = self._entries.get(workload_id)
        if entry is None:
            actions.append(Answer(request, Reply.not_found(workload_id)))
            return
        match entry.phase:
            case _Starting() | _Up():
                self._end(workload_id, entry, "stopped while it was starting", actions)
            case _Ended(in_host=True):
                entry.phase = _Stopping()
            case _Ended():
                del self._entries[workload_id]
                self._ended.pop(entry.run, None)
            case _Stopping():
                pass
        actions.append(Answer(request, Reply(workload_id, WorkloadState.STOPPING, "stopping")))

    def _end(self, workload_id: str, entry: _Entry, why: str, actions: list[Action]) -> None:
        """Begins the end of a run that is starting or up, and answers a start that still waits."""
        if isinstance(entry.phase, _Starting) and entry.phase.waiting is not None:
            actions.append(Answer(entry.phase.waiting, Reply(workload_id, WorkloadState.STOPPING, why)))
        entry.phase = _Stopping()
        actions.append(End(entry.run))

    def _status(self, workload_id: str) -> Reply:
        entry = self._entries.get(workload_id)
        if entry is None:
            return Reply.not_found(workload_id)
        return Reply(workload_id, entry.phase.state, entry.phase.message)

    def _up(self, run: int, actions: list[Action]) -> None:
        workload_id, entry = self._entry_of(run)
        if entry is None or not isinstance(entry.phase, _Starting):
            return
        waiting, report = entry.phase.waiting, entry.phase.report
        entry.phase = _Up(WorkloadState.RUNNING, "running")
        if report is not None and report.was_up:
            self._reported(run, report, actions)
        if waiting is not None:
            actions.append(Answer(waiting, self._status(workload_id)))

    def _could_not(self, run: int, refusal: Refusal, actions: list[Action]) -> None:
        workload_id, entry = self._entry_of(run)
        if entry is None or not isinstance(entry.phase, _Starting):
            return
        waiting, report = entry.phase.waiting, entry.phase.report
        # ERROR without a reason helps nobody.
        message = refusal.message or "the host refused it and said no reason"
        guest_ran = refusal.guest_ran or (report is not None and report.was_up)
        entry.phase = _Ended(WorkloadState.ERROR, shorten(message, MAX_MESSAGE_BYTES), guest_ran)
        if waiting is not None:
            actions.append(Answer(waiting, self._status(workload_id)))

    def _reported(self, run: int, report: Report, actions: list[Action]) -> None:
        _, entry = self._entry_of(run)
        if entry is None:
            return
        message = shorten(report.message or _DEFAULT_MESSAGES[report.state], MAX_MESSAGE_BYTES)
        match entry.phase:
            case _Starting() as phase:
                if report.state is WorkloadState.STARTING:
                    phase.message = message
                phase.report = report
            case _Up() as phase if report.state in (WorkloadState.STARTING, WorkloadState.RUNNING):
                phase.state, phase.message = report.state, message
            case _Up():
                entry.phase = _Ended(report.state, message, guest_ran=True)
                actions.append(End(run))
            case _Stopping() | _Ended():
                pass

    def _gone(self, run: int, actions: list[Action]) -> None:
        self._lost(run, actions)
        workload_id, entry = self._entry_of(run)
        self._ids.pop(run, None)
        if entry is None:
            return
        if not isinstance(entry.phase, _Ended):
            del self._entries[workload_id]
            return
        entry.phase.in_host = False
        self._ended[run] = workload_id
        if len(self._ended) > MAX_ENDED:
            _, oldest = self._ended.popitem(last=False)
            del self._entries[oldest]

    def _lost(self, run: int, actions: list[Action]) -> None:
        """A run that is gone although nothing ended it: say so rather than lose its caller."""
        _, entry = self._entry_of(run)
        if entry is None:
            return
        message = "the host lost the workload"
        if isinstance(entry.phase, _Starting):
            self._could_not(run, Refusal(message, guest_ran=True), actions)
        elif isinstance(entry.phase, _Up):
            entry.phase = _Ended(WorkloadState.ERROR, message, guest_ran=True)

    def _answer_overdue(self, now_s: float, actions: list[Action]) -> None:
        while (due := self.next_tick_s()) is not None and due <= now_s:
            _, run = heapq.heappop(self._overdue)
            workload_id, entry = self._entry_of(run)
            if entry is not None and isinstance(entry.phase, _Starting) and entry.phase.waiting is not None:
                request, entry.phase.waiting = entry.phase.waiting, None
                actions.append(Answer(request, self._status(workload_id)))

    def _is_waiting(self, run: int) -> bool:
        _, entry = self._entry_of(run)
        return entry is not None and isinstance(entry.phase, _Starting) and entry.phase.waiting is not None

    def _shut_down(self, actions: list[Action]) -> None:
        self._shutting_down = True
        for workload_id in self._ids.values():
            entry = self._entries.get(workload_id)
            if entry is not None and isinstance(entry.phase, _Starting | _Up):
                self._end(workload_id, entry, "the host is shutting down", actions)

    def _entry_of(self, run: int) -> tuple[str, _Entry | None]:
        """What this run holds; nothing when another run has taken its id."""
        workload_id = self._ids.get(run, "")
        entry = self._entries.get(workload_id) if run in self._ids else None
        return workload_id, entry if entry is not None and entry.run == run else None
