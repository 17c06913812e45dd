"""Liveness rules, with simulated time and simulated hosts."""

from __future__ import annotations

import enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.scheduler import _liveness as lv
from berth.scheduler._liveness import Health, Liveness, Reason
from berth.scheduler.liveness_options import LivenessOptions


class Behavior(enum.Enum):
    HEALTHY = enum.auto()
    DEAD = enum.auto()
    FROZEN = enum.auto()


class Simulation:
    """Simulated hosts, a broker and a scheduler. Time advances in ticks."""

    def __init__(self, hosts: int) -> None:
        self.liveness = Liveness(LivenessOptions())
        self.ticks = 0
        self.hosts = [Behavior.HEALTHY] * hosts
        self.send_heartbeats = True
        self.probes = 0
        self.reports: list[tuple[float, int, Health, Reason | None]] = []
        self.forgotten: list[str] = []
        self.step(lv.Connected())
        for host in range(hosts):
            self.step(lv.HeartbeatReceived(str(host)))
        self.run(15)
        assert self.reports == []

    @property
    def now_s(self) -> float:
        return self.ticks * lv.TICK_S

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / lv.TICK_S)):
            self.ticks += 1
            self.step(lv.Tick())
            if self.send_heartbeats and self.ticks % 300 == 0:
                for host, behavior in enumerate(self.hosts):
                    if behavior is Behavior.HEALTHY:
                        self.step(lv.HeartbeatReceived(str(host)))

    def step(self, event: lv.Event) -> None:
        for action in self.liveness.step(self.now_s, event):
            match action:
                case lv.Probe(host):
                    self.probes += 1
                    self.step(self.probe(host))
                case lv.SetHealth(host, health, reason):
                    self.reports.append((self.now_s, int(host), health, reason))
                case lv.Forget(host):
                    self.forgotten.append(host)

    def probe(self, host: str) -> lv.Event:
        match self.hosts[int(host)]:
            case Behavior.HEALTHY:
                return lv.ProbeReplied(host)
            case Behavior.DEAD:
                return lv.ProbeNoResponders(host)
            case Behavior.FROZEN:
                return lv.ProbeTimedOut(host)

    def first_report_at(self, host: int, health: Health) -> float | None:
        """Returns the time of the first report of this health for this host."""
        return next((at for at, other, state, _ in self.reports if (other, state) == (host, health)), None)

    def lost_at(self, host: int) -> float:
        at = self.first_report_at(host, Health.LOST)
        assert at is not None, self.reports
        return at


def test_dead_host_in_small_fleet_is_lost_within_two_seconds() -> None:
    simulation = Simulation(3)
    died_s = simulation.now_s
    simulation.hosts[1] = Behavior.DEAD
    simulation.run(3)
    assert 1 <= simulation.lost_at(1) - died_s <= 2
    assert simulation.reports[-1][3] is Reason.NO_RESPONDERS
    assert all(report[1] == 1 for report in simulation.reports)


def test_dead_host_in_large_fleet_is_lost_within_ten_seconds_and_probe_budget() -> None:
    simulation = Simulation(3000)
    simulation.hosts[1234] = Behavior.DEAD
    died_s, probes = simulation.now_s, simulation.probes
    simulation.run(10)
    assert simulation.lost_at(1234) - died_s <= 10
    assert 300 <= (simulation.probes - probes) / 10 <= 400


def test_frozen_host_is_suspect_then_lost_at_deadline() -> None:
    simulation = Simulation(3)
    simulation.hosts[0] = Behavior.FROZEN
    simulation.run(90)
    suspect_s = simulation.first_report_at(0, Health.SUSPECT)
    assert suspect_s is not None
    assert 13 <= simulation.lost_at(0) - suspect_s <= 17
    assert simulation.reports[-1][3] is Reason.SILENT


def test_busy_host_is_not_lost_before_start_deadline() -> None:
    simulation = Simulation(3)
    simulation.hosts[0] = Behavior.FROZEN
    until_s = simulation.now_s + 120
    simulation.step(lv.BusyUntil("0", until_s))
    simulation.run(150)
    assert simulation.lost_at(0) >= until_s


def test_idle_host_is_no_longer_busy() -> None:
    simulation = Simulation(3)
    simulation.hosts[0] = Behavior.FROZEN
    frozen_s = simulation.now_s
    simulation.step(lv.BusyUntil("0", frozen_s + 120))
    simulation.run(70)
    assert simulation.first_report_at(0, Health.LOST) is None
    simulation.step(lv.BusyUntil("0", simulation.now_s))
    simulation.run(1)
    assert simulation.lost_at(0) - frozen_s < 72


def test_host_seen_since_connect_is_lost_during_settling_period() -> None:
    simulation = Simulation(3)
    simulation.step(lv.Disconnected())
    simulation.step(lv.Connected())
    simulation.step(lv.HeartbeatReceived("1"))
    simulation.hosts[:2] = [Behavior.DEAD, Behavior.DEAD]
    died_s = simulation.now_s
    simulation.run(4)
    assert simulation.first_report_at(0, Health.LOST) is None, "it may be reconnecting"
    assert simulation.lost_at(1) - died_s <= 2


def test_silence_counts_from_last_seen_or_from_end_of_settling_period() -> None:
    simulation = Simulation(3)
    simulation.step(lv.Disconnected())
    simulation.step(lv.Connected())
    simulation.step(lv.HeartbeatReceived("1"))
    simulation.hosts[:2] = [Behavior.FROZEN, Behavior.FROZEN]
    froze_s = simulation.now_s
    simulation.run(60)
    assert 35 <= simulation.lost_at(1) - froze_s <= 36
    assert 47 <= simulation.lost_at(0) - froze_s <= 48


def test_host_that_reconnects_quickly_is_not_lost() -> None:
    simulation = Simulation(3)
    simulation.hosts[2] = Behavior.DEAD
    simulation.run(0.9)
    simulation.hosts[2] = Behavior.HEALTHY
    simulation.run(5)
    assert simulation.first_report_at(2, Health.LOST) is None
    assert simulation.reports[-1][2] is Health.ALIVE


def test_reports_nothing_while_disconnected_or_settling() -> None:
    simulation = Simulation(3)
    simulation.step(lv.Disconnected())
    simulation.hosts = [Behavior.DEAD] * 3
    simulation.send_heartbeats = False
    simulation.run(180)
    assert simulation.reports == []
    simulation.step(lv.Connected())
    simulation.run(4)
    simulation.hosts = [Behavior.HEALTHY] * 3
    simulation.run(10)
    assert simulation.reports == []


@pytest.mark.parametrize("hosts", [9, 900])
def test_mass_loss_is_first_attributed_to_broker(hosts: int) -> None:
    simulation = Simulation(hosts)
    vanished_s = simulation.now_s
    simulation.hosts = [Behavior.HEALTHY if host % 3 else Behavior.DEAD for host in range(hosts)]
    simulation.run(20)
    assert [report for report in simulation.reports if report[2] is Health.LOST] == []
    # Once the remaining hosts are back, the broker is not at fault, so the missing host is lost immediately.
    simulation.hosts = [Behavior.DEAD] + [Behavior.HEALTHY] * (hosts - 1)
    simulation.run(10)
    assert simulation.lost_at(0) - vanished_s < 30


def test_waits_for_hosts_that_reconnect_one_by_one() -> None:
    simulation = Simulation(6)
    vanished_s = simulation.now_s
    simulation.hosts[:5] = [Behavior.DEAD] * 5
    simulation.run(3)
    for host in range(4):
        simulation.hosts[host] = Behavior.HEALTHY
        simulation.run(1.5)
    assert [report for report in simulation.reports if report[2] is Health.LOST] == []
    # The host that does not reconnect is lost after the settling period.
    simulation.run(4)
    assert 12 <= simulation.lost_at(4) - vanished_s <= 14


def test_mass_loss_is_reported_at_deadline() -> None:
    simulation = Simulation(6)
    simulation.hosts = [Behavior.DEAD] * 6
    simulation.run(80)
    for host in range(6):
        simulation.lost_at(host)


def test_lost_host_recovers_only_with_heartbeat() -> None:
    simulation = Simulation(3)
    simulation.hosts[0] = Behavior.DEAD
    simulation.run(3)
    simulation.step(lv.ProbeReplied("0"))
    assert simulation.reports[-1][2] is Health.LOST
    assert len(simulation.reports) == 2
    simulation.step(lv.HeartbeatReceived("0"))
    assert simulation.reports[2][2] is Health.ALIVE


def test_forgets_host_that_stays_lost() -> None:
    simulation = Simulation(3)
    simulation.hosts[0] = Behavior.DEAD
    simulation.run(610)
    assert simulation.forgotten == ["0"]
    assert len(simulation.liveness) == 2


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(1, 39)), max_size=30))
def test_healthy_host_is_never_lost_and_each_report_changes_health(
    changes: list[tuple[int, int, int]],
) -> None:
    simulation = Simulation(8)
    for host, change, tenths in changes:
        if change < 3:
            simulation.hosts[host] = (Behavior.DEAD, Behavior.FROZEN, Behavior.HEALTHY)[change]
        else:
            simulation.step(lv.Disconnected())
            simulation.run(tenths / 10)
            simulation.step(lv.Connected())
        simulation.run(tenths / 5)
    assert simulation.first_report_at(7, Health.LOST) is None, "host 7 is always healthy"
    health = [Health.ALIVE] * 8
    for _, host, after, _ in simulation.reports:
        before, health[host] = health[host], after
        assert before is not after
        assert before is not Health.LOST or after is Health.ALIVE
