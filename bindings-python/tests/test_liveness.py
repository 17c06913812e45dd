"""The rules of liveness, played through in simulated time with simulated hosts."""

from __future__ import annotations

import enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.scheduler import _liveness as l
from berth.scheduler._liveness import Health, Liveness, Reason
from berth.scheduler.liveness_options import LivenessOptions


class Kind(enum.Enum):
    WELL = enum.auto()
    DEAD = enum.auto()
    FROZEN = enum.auto()


class World:
    """Hosts, a broker and a scheduler's view of them, in simulated time, counted in ticks."""

    def __init__(self, hosts: int) -> None:
        self.liveness = Liveness(LivenessOptions())
        self.ticks = 0
        self.hosts = [Kind.WELL] * hosts
        self.beats = True
        self.probes = 0
        self.told: list[tuple[float, int, Health, Reason | None]] = []
        self.forgotten: list[str] = []
        self.step(l.LinkUp())
        for host in range(hosts):
            self.step(l.Heartbeat(str(host)))
        self.run(15)
        assert self.told == []

    @property
    def now_s(self) -> float:
        return self.ticks * l.TICK_S

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / l.TICK_S)):
            self.ticks += 1
            self.step(l.Tick())
            if self.beats and self.ticks % 300 == 0:
                for host, kind in enumerate(self.hosts):
                    if kind is Kind.WELL:
                        self.step(l.Heartbeat(str(host)))

    def step(self, event: l.Event) -> None:
        for action in self.liveness.step(self.now_s, event):
            match action:
                case l.Probe(host):
                    self.probes += 1
                    self.step(self.answer(host))
                case l.Tell(host, health, reason):
                    self.told.append((self.now_s, int(host), health, reason))
                case l.Forget(host):
                    self.forgotten.append(host)

    def answer(self, host: str) -> l.Event:
        match self.hosts[int(host)]:
            case Kind.WELL:
                return l.Answered(host)
            case Kind.DEAD:
                return l.NobodyListens(host)
            case Kind.FROZEN:
                return l.NoAnswer(host)

    def told_at(self, host: int, health: Health) -> float | None:
        """When this host was first told to be so."""
        return next((at for at, which, what, _ in self.told if (which, what) == (host, health)), None)

    def lost_at(self, host: int) -> float:
        at = self.told_at(host, Health.LOST)
        assert at is not None, self.told
        return at


def test_a_dead_host_in_a_small_fleet_is_lost_within_two_seconds() -> None:
    world = World(3)
    died = world.now_s
    world.hosts[1] = Kind.DEAD
    world.run(3)
    assert 1 <= world.lost_at(1) - died <= 2
    assert world.told[-1][3] is Reason.NO_RESPONDERS
    assert all(told[1] == 1 for told in world.told)


def test_a_dead_host_among_thousands_is_lost_within_ten_seconds_and_within_the_budget() -> None:
    world = World(3000)
    world.hosts[1234] = Kind.DEAD
    died, probes = world.now_s, world.probes
    world.run(10)
    assert world.lost_at(1234) - died <= 10
    assert 300 <= (world.probes - probes) / 10 <= 400


def test_a_frozen_host_is_suspect_and_then_lost_at_the_deadline() -> None:
    world = World(3)
    world.hosts[0] = Kind.FROZEN
    world.run(90)
    suspect = world.told_at(0, Health.SUSPECT)
    assert suspect is not None
    assert 13 <= world.lost_at(0) - suspect <= 17
    assert world.told[-1][3] is Reason.SILENT


def test_a_busy_host_is_not_lost_before_its_start_deadline() -> None:
    world = World(3)
    world.hosts[0] = Kind.FROZEN
    until = world.now_s + 120
    world.step(l.BusyUntil("0", until))
    world.run(150)
    assert world.lost_at(0) >= until


def test_a_host_that_has_answered_its_starts_is_busy_no_longer() -> None:
    world = World(3)
    world.hosts[0] = Kind.FROZEN
    frozen = world.now_s
    world.step(l.BusyUntil("0", frozen + 120))
    world.run(70)
    assert world.told_at(0, Health.LOST) is None
    world.step(l.Idle("0"))
    world.run(1)
    assert world.lost_at(0) - frozen < 72


def test_a_host_that_came_back_and_dies_while_the_connection_settles_is_lost_at_once() -> None:
    world = World(3)
    world.step(l.LinkDown())
    world.step(l.LinkUp())
    world.step(l.Heartbeat("1"))
    world.hosts[:2] = [Kind.DEAD, Kind.DEAD]
    died = world.now_s
    world.run(4)
    assert world.told_at(0, Health.LOST) is None, "it may be on its way"
    assert world.lost_at(1) - died <= 2


def test_silence_counts_from_when_a_host_was_heard_on_this_connection_or_from_when_that_settled() -> None:
    world = World(3)
    world.step(l.LinkDown())
    world.step(l.LinkUp())
    world.step(l.Heartbeat("1"))
    world.hosts[:2] = [Kind.FROZEN, Kind.FROZEN]
    froze = world.now_s
    world.run(60)
    assert 35 <= world.lost_at(1) - froze <= 36
    assert 47 <= world.lost_at(0) - froze <= 48


def test_a_host_that_reconnects_quickly_is_not_lost() -> None:
    world = World(3)
    world.hosts[2] = Kind.DEAD
    world.run(0.9)
    world.hosts[2] = Kind.WELL
    world.run(5)
    assert world.told_at(2, Health.LOST) is None
    assert world.told[-1][2] is Health.ALIVE


def test_nothing_is_concluded_while_the_connection_is_away_or_settles() -> None:
    world = World(3)
    world.step(l.LinkDown())
    world.hosts = [Kind.DEAD] * 3
    world.beats = False
    world.run(180)
    assert world.told == []
    world.step(l.LinkUp())
    world.run(4)
    world.hosts = [Kind.WELL] * 3
    world.run(10)
    assert world.told == []


@pytest.mark.parametrize("hosts", [9, 900])
def test_when_a_third_of_the_hosts_vanish_the_broker_is_suspected_first(hosts: int) -> None:
    world = World(hosts)
    vanished = world.now_s
    world.hosts = [Kind.WELL if host % 3 else Kind.DEAD for host in range(hosts)]
    world.run(20)
    assert [told for told in world.told if told[2] is Health.LOST] == []
    # Those that come back prove the broker well; those that do not are lost at once.
    world.hosts = [Kind.DEAD] + [Kind.WELL] * (hosts - 1)
    world.run(10)
    assert world.lost_at(0) - vanished < 30


def test_a_crowd_that_comes_back_one_by_one_is_waited_for() -> None:
    world = World(6)
    vanished = world.now_s
    world.hosts[:5] = [Kind.DEAD] * 5
    world.run(3)
    for host in range(4):
        world.hosts[host] = Kind.WELL
        world.run(1.5)
    assert [told for told in world.told if told[2] is Health.LOST] == []
    # The one that does not come with them is given up when they had their time.
    world.run(4)
    assert 12 <= world.lost_at(4) - vanished <= 14


def test_a_mass_death_is_believed_at_the_deadline() -> None:
    world = World(6)
    world.hosts = [Kind.DEAD] * 6
    world.run(80)
    for host in range(6):
        world.lost_at(host)


def test_a_lost_host_returns_with_a_heartbeat_only() -> None:
    world = World(3)
    world.hosts[0] = Kind.DEAD
    world.run(3)
    world.step(l.Answered("0"))
    assert world.told[-1][2] is Health.LOST
    assert len(world.told) == 2
    world.step(l.Heartbeat("0"))
    assert world.told[2][2] is Health.ALIVE


def test_a_host_that_stays_lost_is_forgotten() -> None:
    world = World(3)
    world.hosts[0] = Kind.DEAD
    world.run(610)
    assert world.forgotten == ["0"]
    assert len(world.liveness) == 2


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(1, 39)), max_size=30))
def test_a_well_host_is_never_lost_and_no_host_changes_to_what_it_is(
    changes: list[tuple[int, int, int]],
) -> None:
    world = World(8)
    for host, change, tenths in changes:
        if change < 3:
            world.hosts[host] = (Kind.DEAD, Kind.FROZEN, Kind.WELL)[change]
        else:
            world.step(l.LinkDown())
            world.run(tenths / 10)
            world.step(l.LinkUp())
        world.run(tenths / 5)
    assert world.told_at(7, Health.LOST) is None, "number 7 is always well"
    health = [Health.ALIVE] * 8
    for _, host, now, _ in world.told:
        before, health[host] = health[host], now
        assert before is not now
        assert before is not Health.LOST or now is Health.ALIVE
