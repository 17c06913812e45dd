"""Which hosts are alive: decides from heartbeats, probes and the connection, and does nothing itself.

No clock, no I/O: the shell hands in what happened and carries out the actions that come back.
"""

from __future__ import annotations

import enum
import heapq
from dataclasses import dataclass
from typing import TypeAlias

from berth.scheduler.liveness_options import LivenessOptions

TICK_S = 0.05
"""How often `Tick` is due."""


class Health(enum.Enum):
    """How a host does, as far as can be known from here."""

    ALIVE = "alive"
    """Heard of lately."""
    SUSPECT = "suspect"
    """Something is wrong; nothing is to be concluded yet."""
    LOST = "lost"
    """Taken for gone. Its workloads may be placed elsewhere, within the rules of fencing."""


class Reason(enum.Enum):
    """Why a host is suspect or lost."""

    NO_RESPONDERS = "no responders"
    """The broker says that nobody listens under its id: the process is gone or cut off."""
    SILENT = "silent"
    """It listens but says nothing: frozen, or busy."""
    RESTARTED = "restarted"
    """Another process has taken its id: everything that ran in the earlier one is gone."""


# --- what happened


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A heartbeat arrived."""

    host: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A probe was answered, with whatever."""

    host: str


@dataclass(frozen=True, slots=True)
class NobodyListens:
    """The broker answered a probe: nobody listens."""

    host: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """A probe has no answer."""

    host: str


@dataclass(frozen=True, slots=True)
class BusyUntil:
    """The host has been given a start that it may be silent over until then."""

    host: str
    until_s: float


@dataclass(frozen=True, slots=True)
class Idle:
    """The host has answered all starts that it was given."""

    host: str


@dataclass(frozen=True, slots=True)
class LinkDown:
    """Our own connection is gone."""


@dataclass(frozen=True, slots=True)
class LinkUp:
    """Our own connection is made, for the first time or again."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event: TypeAlias = Heartbeat | Answered | NobodyListens | NoAnswer | BusyUntil | Idle | LinkDown | LinkUp | Tick


# --- what is to be done


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask for the `status` of any id, and tell how that went."""

    host: str


@dataclass(frozen=True, slots=True)
class Tell:
    """The host's health has changed."""

    host: str
    health: Health
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class Forget:
    """The host was lost for so long that it is forgotten."""

    host: str


Action: TypeAlias = Probe | Tell | Forget


@dataclass(slots=True)
class _Host:
    heard_s: float
    health: Health = Health.ALIVE
    # When it last answered a probe.
    answered_s: float | None = None
    busy_until_s: float = 0.0
    # Whether it was heard since the connection was last made: only then does its silence tell anything before
    # the connection has settled.
    heard_on_link: bool = False
    # When nobody listened for the first time since it was last heard, and how often since.
    deaf_since_s: float | None = None
    deaf_times: int = 0
    probe_at_s: float | None = None
    look_at_s: float = 0.0


class Liveness:
    """The fleet's pulse."""

    def __init__(self, options: LivenessOptions) -> None:
        self._options = options
        self._probe_cost_s = 1.0 / max(options.probes_per_second, 1)
        self._hosts: dict[str, _Host] = {}
        # Probes by time; those that a host has no longer set are skipped.
        self._probes: list[tuple[float, str]] = []
        # When to look whether a host has been silent for too long: once for each host, not moved when it is
        # heard, so that hearing costs nothing. Those that a host has no longer set are skipped.
        self._looks: list[tuple[float, str]] = []
        # When the broker was last suspected of having lost a crowd.
        self._crowd_at_s: float | None = None
        self._link_up = False
        self._settled_at_s = 0.0
        self._probed_until_s = 0.0

    def __len__(self) -> int:
        """How many hosts are known, lost ones included."""
        return len(self._hosts)

    def step(self, now_s: float, event: Event) -> list[Action]:
        """Takes in one event at `now_s`, of any clock that never goes back, and says what to do."""
        actions: list[Action] = []
        match event:
            case Heartbeat(host):
                self._beat(now_s, host, actions)
            case Answered(host):
                self._answered(now_s, host, actions)
            case NobodyListens(host):
                self._nobody_listens(now_s, host, actions)
            case NoAnswer(host):
                self._probe_again(host, now_s + self._options.silent_probe_interval_s)
            case BusyUntil(host, until_s):
                if host in self._hosts:
                    known = self._hosts[host]
                    known.busy_until_s = max(known.busy_until_s, until_s)
            case Idle(host):
                if host in self._hosts:
                    self._hosts[host].busy_until_s = now_s
                    # The next look may have been put off to the end of the start.
                    self._look_again(host, self._hosts[host], now_s)
            case LinkDown():
                self._link_up = False
            case LinkUp():
                self._link_is_up(now_s)
            case Tick():
                self._look_for_silence(now_s, actions)
                self._probe(now_s, actions)
        return actions

    def _beat(self, now_s: float, host_id: str, actions: list[Action]) -> None:
        host = self._hosts.get(host_id)
        if host is None:
            host = self._hosts[host_id] = _Host(heard_s=now_s, heard_on_link=self._link_up)
            self._look_again(host_id, host, now_s + self._options.suspect_after_s)
            self._probe_again(host_id, now_s + self._probe_interval_s())
            return
        was = host.health
        self._heard(now_s, host_id, host, actions)
        # A heartbeat does not put the probe off, or a host that beats and dies is found late.
        if was is not Health.ALIVE:
            self._probe_again(host_id, now_s + self._probe_interval_s())

    def _answered(self, now_s: float, host_id: str, actions: list[Action]) -> None:
        host = self._hosts.get(host_id)
        # A late answer does not raise the dead: only a heartbeat does.
        if host is None or host.health is Health.LOST:
            return
        host.answered_s = now_s
        self._heard(now_s, host_id, host, actions)
        self._probe_again(host_id, now_s + self._probe_interval_s())

    def _heard(self, now_s: float, host_id: str, host: _Host, actions: list[Action]) -> None:
        was, host.health = host.health, Health.ALIVE
        host.heard_s, host.heard_on_link = now_s, self._link_up
        host.deaf_since_s, host.deaf_times = None, 0
        if was is not Health.ALIVE:
            self._look_again(host_id, host, now_s + self._options.suspect_after_s)
            actions.append(Tell(host_id, Health.ALIVE, None))

    def _nobody_listens(self, now_s: float, host_id: str, actions: list[Action]) -> None:
        host = self._hosts.get(host_id)
        if host is None or host.health is Health.LOST:
            return
        # A host that was heard since has come back already: if nobody listens now, it has gone.
        if not (self._is_settled(now_s) or (self._link_up and host.heard_on_link)):
            self._probe_again(host_id, max(self._settled_at_s, now_s + self._options.deaf_probe_interval_s))
            return
        if host.deaf_since_s is None:
            host.deaf_since_s = now_s
        host.deaf_times += 1
        if host.health is Health.ALIVE:
            host.health = Health.SUSPECT
            actions.append(Tell(host_id, Health.SUSPECT, Reason.NO_RESPONDERS))
        self._probe_again(host_id, now_s + self._options.deaf_probe_interval_s)
        if self._is_confirmed_deaf(now_s, host):
            self._lose(host_id, host, Reason.NO_RESPONDERS, actions)

    def _is_confirmed_deaf(self, now_s: float, host: _Host) -> bool:
        """Nobody listened often enough for long enough, and the broker is not to blame."""
        since_s = host.deaf_since_s
        if since_s is None or host.deaf_times < self._options.deaf_times:
            return False
        deaf_for_s = now_s - since_s
        if deaf_for_s < self._options.deaf_for_s:
            return False
        if self._broker_is_suspect(since_s):
            self._crowd_at_s = now_s
            return False
        # A crowd comes back one by one: the last of it must not be judged by the first (SCHED-CONT-006).
        in_crowd = self._crowd_at_s is not None and self._crowd_at_s >= since_s
        return not in_crowd or deaf_for_s >= self._options.settle_s

    def _broker_is_suspect(self, since_s: float) -> bool:
        """Whether a large part of the hosts that were probed since then seem gone.

        It is more likely that a broker lost them, and that they are on their way to another, than that they
        all died at once. Heartbeats do not count here: they come from all, and probes have reached but some.
        """
        deaf = well = 0
        for host in self._hosts.values():
            if host.deaf_since_s is not None:
                deaf += 1
            elif host.answered_s is not None and host.answered_s >= since_s:
                well += 1
        if deaf < max(self._options.mass_vanish_from, 1):
            return False
        return deaf * 100 // (deaf + well) >= self._options.mass_vanish_share_percent

    def _look_for_silence(self, now_s: float, actions: list[Action]) -> None:
        """Suspects hosts that listen and say nothing, and gives up on them at the end of their time."""
        if not self._link_up:
            return
        while self._looks and self._looks[0][0] <= now_s:
            at_s, host_id = heapq.heappop(self._looks)
            host = self._hosts.get(host_id)
            if host is None or host.look_at_s != at_s:
                continue
            next_s = self._look(now_s, host_id, host, actions)
            if next_s is not None:
                self._look_again(host_id, host, max(next_s, now_s + TICK_S))

    def _look(self, now_s: float, host_id: str, host: _Host, actions: list[Action]) -> float | None:
        """Judges the silence of one host, and says when to do so again."""
        options = self._options
        if not (self._is_settled(now_s) or host.heard_on_link):
            return self._settled_at_s
        # Silence counts only while we could have heard something: a host that was heard has come back.
        heard_s = host.heard_s if host.heard_on_link else max(host.heard_s, self._settled_at_s)
        suspect_s, lost_s = heard_s + options.suspect_after_s, heard_s + options.lost_after_s
        match host.health:
            case Health.ALIVE:
                if now_s < suspect_s:
                    return suspect_s
                host.health = Health.SUSPECT
                actions.append(Tell(host_id, Health.SUSPECT, Reason.SILENT))
                return lost_s
            case Health.SUSPECT:
                if now_s < lost_s:
                    return lost_s
                # Nobody listening is proof enough by now; one that listens may be busy.
                deaf = host.deaf_since_s is not None
                if not deaf and now_s < host.busy_until_s:
                    return host.busy_until_s
                self._lose(host_id, host, Reason.NO_RESPONDERS if deaf else Reason.SILENT, actions)
                return heard_s + options.forget_after_s
            case Health.LOST:
                if now_s < heard_s + options.forget_after_s:
                    return heard_s + options.forget_after_s
                del self._hosts[host_id]
                actions.append(Forget(host_id))
                return None

    def _look_again(self, host_id: str, host: _Host, at_s: float) -> None:
        host.look_at_s = at_s
        heapq.heappush(self._looks, (at_s, host_id))

    @staticmethod
    def _lose(host_id: str, host: _Host, reason: Reason, actions: list[Action]) -> None:
        host.health = Health.LOST
        host.answered_s = None
        host.deaf_since_s, host.deaf_times = None, 0
        host.probe_at_s = None
        actions.append(Tell(host_id, Health.LOST, reason))

    def _probe(self, now_s: float, actions: list[Action]) -> None:
        """Sends the probes that are due, as far as the budget goes."""
        if not self._link_up:
            return
        # What was not used in the last moments is not saved up: probes come evenly.
        self._probed_until_s = max(self._probed_until_s, now_s - TICK_S * 2)
        while self._probes and self._probes[0][0] <= now_s:
            if self._probed_until_s + self._probe_cost_s > now_s:
                return
            at_s, host_id = heapq.heappop(self._probes)
            host = self._hosts.get(host_id)
            if host is None or host.probe_at_s != at_s:
                continue
            # The next one is set when this one is answered: one at a time for each host.
            host.probe_at_s = None
            self._probed_until_s += self._probe_cost_s
            actions.append(Probe(host_id))

    def _probe_again(self, host_id: str, at_s: float) -> None:
        host = self._hosts.get(host_id)
        if host is None or host.health is Health.LOST or host.probe_at_s == at_s:
            return
        host.probe_at_s = at_s
        heapq.heappush(self._probes, (at_s, host_id))

    def _probe_interval_s(self) -> float:
        """In a small fleet the chosen one; in a large one what the budget allows."""
        return max(self._options.probe_interval_s, self._probe_cost_s * len(self._hosts))

    def _link_is_up(self, now_s: float) -> None:
        self._link_up = True
        self._settled_at_s = now_s + self._options.settle_s
        for host in self._hosts.values():
            host.deaf_since_s, host.deaf_times = None, 0
            host.heard_on_link = False

    def _is_settled(self, now_s: float) -> bool:
        return self._link_up and now_s >= self._settled_at_s
