"""The table of ids: each rule by itself, and what must hold whatever is asked in whatever order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from berth._reply import Code, Reply
from berth.errors import Refusal
from berth.host import _lifecycle as c
from berth.host._lifecycle import MAX_ENDED, STARTING_AFTER_S, Lifecycle
from berth.host.reporter import Report
from berth.state import WorkloadState as S


class Table:
    """A table and everything that came out of it."""

    def __init__(self) -> None:
        self.lifecycle = Lifecycle()
        self.now_s = 0.0
        self.requests = 0
        self.replies: dict[int, Reply] = {}
        self.begun: list[int] = []
        self.ended: list[int] = []

    def step(self, event: c.Event) -> None:
        for action in self.lifecycle.step(self.now_s, event):
            match action:
                case c.Answer(request, reply):
                    assert request not in self.replies, "one reply per request"
                    self.replies[request] = reply
                case c.Begin(_, run, _):
                    self.begun.append(run)
                case c.End(run):
                    self.ended.append(run)

    def ask(self, event: Callable[[int, str], c.Event], workload_id: str = "a") -> int:
        self.requests += 1
        self.step(event(self.requests, workload_id))
        return self.requests

    def start(self, workload_id: str = "a") -> int:
        return self.ask(c.StartAsked, workload_id)

    def stop(self, workload_id: str = "a") -> S:
        return self.replies[self.ask(c.StopAsked, workload_id)].state

    def status(self, workload_id: str = "a") -> tuple[S, str]:
        reply = self.replies[self.ask(c.StatusAsked, workload_id)]
        return reply.state, reply.message

    def report(self, state: S, message: str = "", was_up: bool = True) -> None:
        self.step(c.Reported(self.begun[-1], Report(state, message, was_up)))

    def up(self) -> None:
        self.step(c.Up(self.begun[-1]))

    def refuse(self, guest_ran: bool = False, message: str = "no") -> None:
        self.step(c.CouldNot(self.begun[-1], Refusal(message, guest_ran=guest_ran)))

    def gone(self, run: int | None = None) -> None:
        self.step(c.Gone(self.begun[-1] if run is None else run))


def test_from_start_to_not_found() -> None:
    table = Table()
    assert table.status() == (S.NOT_FOUND, "no workload has this id")
    assert table.stop() is S.NOT_FOUND
    request = table.start()
    assert table.status() == (S.STARTING, "starting")
    assert request not in table.replies
    table.up()
    assert table.replies[request] == Reply("a", S.RUNNING, "running")
    assert table.lifecycle.workload_count() == 1
    assert table.stop() is S.STOPPING
    assert table.stop() is S.STOPPING
    assert table.ended == [1]
    table.gone()
    assert table.status()[0] is S.NOT_FOUND
    assert table.lifecycle.is_idle()
    assert table.lifecycle.workload_count() == 0


def test_of_many_starts_one_wins() -> None:
    table = Table()
    first, second = table.start(), table.start()
    assert table.begun == [1]
    assert first not in table.replies
    assert table.replies[second].code is Code.CONFLICT


def test_a_slow_start_is_answered_with_starting_once() -> None:
    table = Table()
    request = table.start()
    assert table.lifecycle.next_tick_s() == STARTING_AFTER_S
    table.report(S.STARTING, "pulling", was_up=False)
    table.now_s = STARTING_AFTER_S
    table.step(c.Tick())
    assert table.replies[request] == Reply("a", S.STARTING, "pulling")
    assert table.lifecycle.next_tick_s() is None
    table.up()
    assert table.status() == (S.RUNNING, "running")


def test_a_failed_start_may_be_tried_again_unless_a_guest_ran() -> None:
    table = Table()
    request = table.start()
    table.refuse(message="no such image")
    assert table.replies[request] == Reply("a", S.ERROR, "no such image")
    again = table.start()
    table.gone(run=1)
    table.up()
    assert table.replies[again].state is S.RUNNING
    ran = table.start("b")
    table.refuse(guest_ran=True)
    table.gone()
    assert table.replies[ran].code is None
    assert table.replies[table.start("b")].code is Code.CONFLICT


def test_a_guest_that_was_reported_up_has_run() -> None:
    table = Table()
    table.start()
    table.report(S.RUNNING)
    table.refuse()
    assert table.replies[table.start()].code is Code.CONFLICT


def test_an_end_within_the_start_stands() -> None:
    table = Table()
    request = table.start()
    table.report(S.COMPLETED, "done")
    table.up()
    assert table.replies[request] == Reply("a", S.COMPLETED, "done")
    assert table.ended == [1]
    table.gone()
    assert table.status() == (S.COMPLETED, "done")
    assert table.replies[table.start()].code is Code.CONFLICT
    assert table.stop() is S.STOPPING
    assert table.status()[0] is S.NOT_FOUND


def test_a_service_restarts_and_fails() -> None:
    table = Table()
    table.start()
    table.up()
    table.report(S.STARTING, "attempt 2 of 3")
    assert table.status() == (S.STARTING, "attempt 2 of 3")
    table.report(S.RUNNING)
    assert table.status() == (S.RUNNING, "running")
    table.report(S.ERROR)
    assert table.status() == (S.ERROR, "failed and said no reason")
    table.report(S.RUNNING)
    assert table.status()[0] is S.ERROR, "what has ended stays ended"


def test_a_stop_cancels_a_start_and_answers_it() -> None:
    table = Table()
    request = table.start()
    assert table.stop() is S.STOPPING
    assert table.replies[request].state is S.STOPPING
    assert table.ended == [1]
    table.gone()
    table.start()
    assert table.begun == [1, 2]


def test_a_run_that_vanishes_is_told() -> None:
    table = Table()
    request = table.start()
    table.gone()
    assert table.replies[request].state is S.ERROR
    assert table.replies[table.start()].code is Code.CONFLICT, "a guest may have run"


def test_the_oldest_of_many_ends_is_forgotten() -> None:
    table = Table()
    for number in range(MAX_ENDED + 1):
        table.start(str(number))
        table.refuse()
        table.gone()
    assert table.status("0")[0] is S.NOT_FOUND
    assert table.status("1")[0] is S.ERROR
    assert table.status(str(MAX_ENDED))[0] is S.ERROR


def test_what_was_stopped_needs_no_room_among_the_ended() -> None:
    table = Table()
    for number in range(MAX_ENDED + 1):
        table.start(str(number))
        table.refuse()
        table.gone()
        if number < 2:
            table.stop(str(number))
    assert table.status("0")[0] is S.NOT_FOUND
    assert table.status("2")[0] is S.ERROR
    for number in range(2):
        table.start(str(number))
        table.refuse()
        table.gone()
    assert table.status("2")[0] is S.NOT_FOUND, "now there is one too many"
    assert table.status("3")[0] is S.ERROR


def test_shutdown_ends_everything_and_begins_nothing() -> None:
    table = Table()
    table.start("up")
    table.up()
    request = table.start("starting")
    table.step(c.Shutdown())
    assert table.ended == [1, 2]
    assert table.replies[request].state is S.STOPPING
    assert table.replies[table.start("new")].code is Code.UNAVAILABLE


# --- whatever is asked in whatever order, whatever the host does meanwhile

IDS = ("0", "1", "2")
LEGAL = {
    S.NOT_FOUND: {S.NOT_FOUND, S.STARTING},
    S.STARTING: set(S) - {S.NOT_FOUND, S.UNSPECIFIED},
    S.RUNNING: set(S) - {S.NOT_FOUND, S.UNSPECIFIED},
    S.COMPLETED: {S.COMPLETED, S.STOPPING, S.NOT_FOUND},
    S.ERROR: {S.ERROR, S.STARTING, S.STOPPING, S.NOT_FOUND},
    S.STOPPING: {S.STOPPING, S.NOT_FOUND},
}
TURNS = st.one_of(
    st.tuples(st.sampled_from(["start", "start", "stop", "status"]), st.sampled_from(IDS)),
    st.tuples(st.sampled_from(["up", "let go", "refuse", "refuse after"]), st.integers(0, 9)),
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
    up: bool = False
    over: bool = False
    told_to_end: bool = False


class World:
    """A shell and a host that take turns, and everything that was seen of them."""

    def __init__(self) -> None:
        self.lifecycle = Lifecycle()
        self.now_s = 0.0
        self.requests = 0
        self.asked: dict[int, tuple[float, bool]] = {}
        self.runs: dict[int, Run] = {}
        self.taken: set[str] = set()
        self.seen = dict.fromkeys(IDS, S.NOT_FOUND)

    def take(self, turn: tuple[object, ...]) -> None:
        match turn:
            case ("start", str(workload_id)):
                self.ask(c.StartAsked, workload_id)
            case ("stop", str(workload_id)):
                self.taken.discard(workload_id)
                assert self.ask(c.StopAsked, workload_id), "a stop is answered at once"
            case ("status", str(workload_id)):
                assert self.ask(c.StatusAsked, workload_id), "a status is answered at once"
            case ("up", int(which)):
                run = self.choose(which, lambda run: not run.up and not run.over)
                if run is not None:
                    self.runs[run].up = True
                    self.guest_ran(run)
                    self.step(c.Up(run))
            case ("refuse" | "refuse after" as how, int(which)):
                run = self.choose(which, lambda run: not run.up and not run.over)
                if run is not None:
                    self.runs[run].over = True
                    if how == "refuse after":
                        self.guest_ran(run)
                    self.step(c.CouldNot(run, Refusal("no", guest_ran=how == "refuse after")))
            case ("report", int(which), S() as state):
                run = self.choose(which, lambda _: True)
                if run is not None:
                    was_up = state is not S.STARTING
                    if was_up and not self.runs[run].over:
                        self.guest_ran(run)
                    self.step(c.Reported(run, Report(state, "", was_up)))
            case ("let go", int(which)):
                run = self.choose(which, lambda run: run.over or run.told_to_end)
                if run is not None:
                    del self.runs[run]
                    self.step(c.Gone(run))
            case ("wait", int(ms)):
                self.wait(ms / 1000)

    def guest_ran(self, run: int) -> None:
        """Its id is taken until it is stopped."""
        if not self.runs[run].told_to_end:
            self.taken.add(self.runs[run].id)

    def choose(self, which: int, fit: Callable[[Run], bool]) -> int | None:
        fits = [number for number, run in self.runs.items() if fit(run)]
        return fits[which % len(fits)] if fits else None

    def ask(self, event: Callable[[int, str], c.Event], workload_id: str) -> bool:
        self.requests += 1
        request = self.requests
        self.asked[request] = (self.now_s, False)
        self.step(event(request, workload_id))
        return self.asked[request][1]

    def wait(self, seconds: float) -> None:
        until = self.now_s + seconds
        while (due := self.lifecycle.next_tick_s()) is not None and due <= until:
            self.now_s = due
            self.step(c.Tick())
        self.now_s = until

    def step(self, event: c.Event) -> None:
        for action in self.lifecycle.step(self.now_s, event):
            match action:
                case c.Answer(request, reply):
                    self.answered(request, reply)
                case c.Begin(_, run, workload_id):
                    rivals = [other for other in self.runs.values() if other.id == workload_id]
                    assert all(rival.over for rival in rivals), "one winner"
                    assert workload_id not in self.taken, "a guest that ran is not run again"
                    assert run not in self.runs
                    self.runs[run] = Run(workload_id)
                case c.End(run):
                    assert not self.runs[run].told_to_end, "an instance is ended once"
                    self.runs[run].told_to_end = True
        for workload_id, before in self.seen.items():
            [answer] = self.lifecycle.step(self.now_s, c.StatusAsked(0, workload_id))
            assert isinstance(answer, c.Answer)
            now = answer.reply.state
            assert now in LEGAL[before], f"{before.name} -> {now.name}"
            self.seen[workload_id] = now

    def answered(self, request: int, reply: Reply) -> None:
        at, answered = self.asked[request]
        assert not answered, "one reply per request"
        assert self.now_s - at <= STARTING_AFTER_S + 1e-6, "in time"
        assert reply.state is not S.UNSPECIFIED
        assert reply.message, "a state has a reason"
        self.asked[request] = (at, True)

    def come_to_rest(self) -> None:
        """The host finishes what it has been told, and everything that is left is stopped."""
        for workload_id in IDS:
            self.take(("stop", workload_id))
        for _ in range(len(self.runs)):
            self.take(("let go", 0))
        self.wait(STARTING_AFTER_S)
        assert not self.runs, "no stop is lost"
        assert self.lifecycle.is_idle()
        assert self.lifecycle.workload_count() == 0
        assert self.lifecycle.next_tick_s() is None
        assert set(self.seen.values()) == {S.NOT_FOUND}
        assert all(answered for _, answered in self.asked.values())


@given(st.lists(TURNS, max_size=60))
def test_any_order_of_events_keeps_the_promises(turns: list[tuple[object, ...]]) -> None:
    world = World()
    for turn in turns:
        world.take(turn)
    world.come_to_rest()
