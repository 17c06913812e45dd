"""The lifecycle core: each rule on its own, and its invariants for arbitrary sequences of events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from berth._reply import ErrorCode, Reply
from berth.errors import StartError
from berth.host import _lifecycle as lc
from berth.host._lifecycle import MAX_ENDED, REPLY_STARTING_AFTER_S, Lifecycle
from berth.host.status_reporter import StatusReport
from berth.state import WorkloadState as S


class Harness:
    """A lifecycle together with all its actions so far."""

    def __init__(self) -> None:
        self.lifecycle = Lifecycle()
        self.now_s = 0.0
        self.last_request = 0
        self.replies: dict[int, Reply] = {}
        self.started: list[int] = []
        self.stopped: list[int] = []

    def step(self, event: lc.Event) -> None:
        for action in self.lifecycle.step(self.now_s, event):
            match action:
                case lc.SendReply(request, reply):
                    assert request not in self.replies, "one reply per request"
                    self.replies[request] = reply
                case lc.StartRun(_, run, _):
                    self.started.append(run)
                case lc.StopRun(run):
                    self.stopped.append(run)

    def request(self, event: Callable[[int, str], lc.Event], workload_id: str = "a") -> int:
        self.last_request += 1
        self.step(event(self.last_request, workload_id))
        return self.last_request

    def start(self, workload_id: str = "a") -> int:
        return self.request(lc.StartRequested, workload_id)

    def stop(self, workload_id: str = "a") -> S:
        return self.replies[self.request(lc.StopRequested, workload_id)].state

    def status(self, workload_id: str = "a") -> tuple[S, str]:
        reply = self.replies[self.request(lc.StatusRequested, workload_id)]
        return reply.state, reply.message

    def report(self, state: S, message: str = "", has_run: bool = True) -> None:
        self.step(lc.Reported(self.started[-1], StatusReport(state, message, has_run)))

    def finish_start(self) -> None:
        self.step(lc.Started(self.started[-1]))

    def fail_start(self, non_retryable: bool = False, message: str = "no") -> None:
        self.step(lc.StartFailed(self.started[-1], StartError(message, non_retryable=non_retryable)))

    def release(self, run: int | None = None) -> None:
        self.step(lc.Released(self.started[-1] if run is None else run))


def test_id_is_free_after_stop_and_release() -> None:
    harness = Harness()
    assert harness.status() == (S.NOT_FOUND, "no workload has this ID")
    assert harness.stop() is S.NOT_FOUND
    request = harness.start()
    assert harness.status() == (S.STARTING, "starting")
    assert request not in harness.replies
    harness.finish_start()
    assert harness.replies[request] == Reply("a", S.RUNNING, "running")
    assert harness.lifecycle.workload_count() == 1
    assert harness.stop() is S.STOPPING
    assert harness.stop() is S.STOPPING
    assert harness.stopped == [1]
    harness.release()
    assert harness.status()[0] is S.NOT_FOUND
    assert harness.lifecycle.is_idle()
    assert harness.lifecycle.workload_count() == 0


def test_accepts_one_of_two_starts() -> None:
    harness = Harness()
    first, second = harness.start(), harness.start()
    assert harness.started == [1]
    assert first not in harness.replies
    assert harness.replies[second].code is ErrorCode.CONFLICT


def test_replies_starting_once_if_start_is_slow() -> None:
    harness = Harness()
    request = harness.start()
    assert harness.lifecycle.next_tick_at_s() == REPLY_STARTING_AFTER_S
    harness.report(S.STARTING, "pulling", has_run=False)
    harness.now_s = REPLY_STARTING_AFTER_S
    harness.step(lc.Tick())
    assert harness.replies[request] == Reply("a", S.STARTING, "pulling")
    assert harness.lifecycle.next_tick_at_s() is None
    harness.finish_start()
    assert harness.status() == (S.RUNNING, "running")


def test_failed_start_is_restartable_unless_non_retryable() -> None:
    harness = Harness()
    request = harness.start()
    harness.fail_start(message="no such image")
    assert harness.replies[request] == Reply("a", S.ERROR, "no such image")
    retry = harness.start()
    harness.release(run=1)
    harness.finish_start()
    assert harness.replies[retry].state is S.RUNNING
    request = harness.start("b")
    harness.fail_start(non_retryable=True)
    harness.release()
    assert harness.replies[request].code is None
    assert harness.replies[harness.start("b")].code is ErrorCode.CONFLICT


def test_failed_start_is_not_restartable_after_running_report() -> None:
    harness = Harness()
    harness.start()
    harness.report(S.RUNNING)
    harness.fail_start()
    assert harness.replies[harness.start()].code is ErrorCode.CONFLICT


def test_keeps_completed_report_made_during_start() -> None:
    harness = Harness()
    request = harness.start()
    harness.report(S.COMPLETED, "done")
    harness.finish_start()
    assert harness.replies[request] == Reply("a", S.COMPLETED, "done")
    assert harness.stopped == [1]
    harness.release()
    assert harness.status() == (S.COMPLETED, "done")
    assert harness.replies[harness.start()].code is ErrorCode.CONFLICT
    assert harness.stop() is S.STOPPING
    assert harness.status()[0] is S.NOT_FOUND


def test_reports_service_restarts_and_failure() -> None:
    harness = Harness()
    harness.start()
    harness.finish_start()
    harness.report(S.STARTING, "attempt 2 of 3")
    assert harness.status() == (S.STARTING, "attempt 2 of 3")
    harness.report(S.RUNNING)
    assert harness.status() == (S.RUNNING, "running")
    harness.report(S.ERROR)
    assert harness.status() == (S.ERROR, "failed, no reason given")
    harness.report(S.RUNNING)
    assert harness.status()[0] is S.ERROR, "an ended workload stays ended"


def test_stop_cancels_start_and_replies_to_it() -> None:
    harness = Harness()
    request = harness.start()
    assert harness.stop() is S.STOPPING
    assert harness.replies[request].state is S.STOPPING
    assert harness.stopped == [1]
    harness.release()
    harness.start()
    assert harness.started == [1, 2]


def test_replies_error_if_run_is_released_unexpectedly() -> None:
    harness = Harness()
    request = harness.start()
    harness.release()
    assert harness.replies[request].state is S.ERROR
    assert harness.replies[harness.start()].code is ErrorCode.CONFLICT, (
        "the ID stays in use, because guest code may have run"
    )


def test_forgets_oldest_ended_workload() -> None:
    harness = Harness()
    for number in range(MAX_ENDED + 1):
        harness.start(str(number))
        harness.fail_start()
        harness.release()
    assert harness.status("0")[0] is S.NOT_FOUND
    assert harness.status("1")[0] is S.ERROR
    assert harness.status(str(MAX_ENDED))[0] is S.ERROR


def test_stopped_workloads_do_not_count_as_ended() -> None:
    harness = Harness()
    for number in range(MAX_ENDED + 1):
        harness.start(str(number))
        harness.fail_start()
        harness.release()
        if number < 2:
            harness.stop(str(number))
    assert harness.status("0")[0] is S.NOT_FOUND
    assert harness.status("2")[0] is S.ERROR
    for number in range(2):
        harness.start(str(number))
        harness.fail_start()
        harness.release()
    assert harness.status("2")[0] is S.NOT_FOUND, "the oldest is forgotten when the limit is exceeded"
    assert harness.status("3")[0] is S.ERROR


def test_shutdown_stops_all_runs_and_refuses_starts() -> None:
    harness = Harness()
    harness.start("running")
    harness.finish_start()
    request = harness.start("starting")
    harness.step(lc.Shutdown())
    assert harness.stopped == [1, 2]
    assert harness.replies[request].state is S.STOPPING
    assert harness.replies[harness.start("new")].code is ErrorCode.UNAVAILABLE


# --- invariants for arbitrary sequences of requests and host events

IDS = ("0", "1", "2")
ALLOWED_TRANSITIONS = {
    S.NOT_FOUND: {S.NOT_FOUND, S.STARTING},
    S.STARTING: set(S) - {S.NOT_FOUND, S.UNSPECIFIED},
    S.RUNNING: set(S) - {S.NOT_FOUND, S.UNSPECIFIED},
    S.COMPLETED: {S.COMPLETED, S.STOPPING, S.NOT_FOUND},
    S.ERROR: {S.ERROR, S.STARTING, S.STOPPING, S.NOT_FOUND},
    S.STOPPING: {S.STOPPING, S.NOT_FOUND},
}
STEPS = st.one_of(
    st.tuples(st.sampled_from(["start", "start", "stop", "status"]), st.sampled_from(IDS)),
    st.tuples(st.sampled_from(["started", "release", "fail", "fail non-retryably"]), st.integers(0, 9)),
    st.tuples(
        st.sampled_from(["report"]),
        st.integers(0, 9),
        st.sampled_from([S.STARTING, S.RUNNING, S.COMPLETED, S.ERROR]),
    ),
    st.tuples(st.sampled_from(["wait"]), st.integers(0, 6000)),
)


@dataclass
class Run:
    id: str
    started: bool = False
    failed: bool = False
    stopped: bool = False


class Simulation:
    """A simulated executor and host, with all their actions so far."""

    def __init__(self) -> None:
        self.lifecycle = Lifecycle()
        self.now_s = 0.0
        self.last_request = 0
        self.requests: dict[int, tuple[float, bool]] = {}
        self.runs: dict[int, Run] = {}
        self.non_restartable: set[str] = set()
        self.states = dict.fromkeys(IDS, S.NOT_FOUND)

    def perform(self, step: tuple[object, ...]) -> None:
        match step:
            case ("start", str(workload_id)):
                self.request(lc.StartRequested, workload_id)
            case ("stop", str(workload_id)):
                self.non_restartable.discard(workload_id)
                assert self.request(lc.StopRequested, workload_id), "immediate reply to a stop"
            case ("status", str(workload_id)):
                assert self.request(lc.StatusRequested, workload_id), "immediate reply to a status request"
            case ("started", int(index)):
                run = self.choose(index, lambda run: not run.started and not run.failed)
                if run is not None:
                    self.runs[run].started = True
                    self.mark_guest_ran(run)
                    self.step(lc.Started(run))
            case ("fail" | "fail non-retryably" as how, int(index)):
                run = self.choose(index, lambda run: not run.started and not run.failed)
                if run is not None:
                    self.runs[run].failed = True
                    if how == "fail non-retryably":
                        self.mark_guest_ran(run)
                    self.step(lc.StartFailed(run, StartError("no", non_retryable=how == "fail non-retryably")))
            case ("report", int(index), S() as state):
                run = self.choose(index, lambda _: True)
                if run is not None:
                    has_run = state is not S.STARTING
                    if has_run and not self.runs[run].failed:
                        self.mark_guest_ran(run)
                    self.step(lc.Reported(run, StatusReport(state, "", has_run)))
            case ("release", int(index)):
                run = self.choose(index, lambda run: run.failed or run.stopped)
                if run is not None:
                    del self.runs[run]
                    self.step(lc.Released(run))
            case ("wait", int(ms)):
                self.wait(ms / 1000)

    def mark_guest_ran(self, run: int) -> None:
        """Keeps the ID from being started again until it is stopped."""
        if not self.runs[run].stopped:
            self.non_restartable.add(self.runs[run].id)

    def choose(self, index: int, predicate: Callable[[Run], bool]) -> int | None:
        candidates = [number for number, run in self.runs.items() if predicate(run)]
        return candidates[index % len(candidates)] if candidates else None

    def request(self, event: Callable[[int, str], lc.Event], workload_id: str) -> bool:
        self.last_request += 1
        request = self.last_request
        self.requests[request] = (self.now_s, False)
        self.step(event(request, workload_id))
        return self.requests[request][1]

    def wait(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while (due := self.lifecycle.next_tick_at_s()) is not None and due <= until_s:
            self.now_s = due
            self.step(lc.Tick())
        self.now_s = until_s

    def step(self, event: lc.Event) -> None:
        for action in self.lifecycle.step(self.now_s, event):
            match action:
                case lc.SendReply(request, reply):
                    self.on_reply(request, reply)
                case lc.StartRun(_, run, workload_id):
                    others = [other for other in self.runs.values() if other.id == workload_id]
                    assert all(other.failed for other in others), "one active run per ID"
                    assert workload_id not in self.non_restartable, (
                        "a workload whose guest code ran is not restarted"
                    )
                    assert run not in self.runs
                    self.runs[run] = Run(workload_id)
                case lc.StopRun(run):
                    assert not self.runs[run].stopped, "a run is stopped once"
                    self.runs[run].stopped = True
        for workload_id, before in self.states.items():
            [action] = self.lifecycle.step(self.now_s, lc.StatusRequested(0, workload_id))
            assert isinstance(action, lc.SendReply)
            after = action.reply.state
            assert after in ALLOWED_TRANSITIONS[before], f"{before.name} -> {after.name}"
            self.states[workload_id] = after

    def on_reply(self, request: int, reply: Reply) -> None:
        sent_s, replied = self.requests[request]
        assert not replied, "one reply per request"
        assert self.now_s - sent_s <= REPLY_STARTING_AFTER_S + 1e-6, "reply in time"
        assert reply.state is not S.UNSPECIFIED
        assert reply.message, "each reply has a message"
        self.requests[request] = (sent_s, True)

    def stop_all(self) -> None:
        """Stops all workloads, and lets the host release all runs."""
        for workload_id in IDS:
            self.perform(("stop", workload_id))
        for _ in range(len(self.runs)):
            self.perform(("release", 0))
        self.wait(REPLY_STARTING_AFTER_S)
        assert not self.runs, "no stop is lost"
        assert self.lifecycle.is_idle()
        assert self.lifecycle.workload_count() == 0
        assert self.lifecycle.next_tick_at_s() is None
        assert set(self.states.values()) == {S.NOT_FOUND}
        assert all(replied for _, replied in self.requests.values())


@given(st.lists(STEPS, max_size=60))
def test_invariants_hold_for_any_sequence_of_events(steps: list[tuple[object, ...]]) -> None:
    simulation = Simulation()
    for step in steps:
        simulation.perform(step)
    simulation.stop_all()
