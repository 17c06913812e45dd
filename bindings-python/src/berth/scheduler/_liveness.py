"""Liveness core: decides from heartbeats, probes and the connection which hosts are alive, and performs no I/O.

The core has no clock: the caller passes in events and executes the returned actions. Times are in seconds since
an arbitrary start.
"""

from __future__ import annotations

import enum
import heapq
from dataclasses import dataclass
from typing import TypeAlias

from berth.scheduler.liveness_options import LivenessOptions

TICK_S = 0.05
"""Interval between `Tick` events."""


class Health(enum.Enum):
    """Health of a host, as known to the scheduler."""

    ALIVE = "alive"
    """The host sent a heartbeat or answered a probe recently."""
    SUSPECT = "suspect"
    """The host may be lost. Do not replace its workloads yet."""
    LOST = "lost"
    """The host is lost. Its workloads may be placed elsewhere, subject to fencing."""


class Reason(enum.Enum):
    """Reason why a host is suspect or lost."""

    NO_RESPONDERS = "no responders"
    """The broker reports no responders under the host ID: the process ended or is cut off."""
    SILENT = "silent"
    """The host listens but does not reply: it is frozen or busy."""
    RESTARTED = "restarted"
    """Another process uses the host ID: all workloads of the earlier process are gone."""


# --- events


@dataclass(frozen=True, slots=True)
class HeartbeatReceived:
    """A heartbeat arrived."""

    host: str


@dataclass(frozen=True, slots=True)
class ProbeReplied:
    """A probe got a reply of any kind."""

    host: str


@dataclass(frozen=True, slots=True)
class ProbeNoResponders:
    """A probe found no responders."""

    host: str


@dataclass(frozen=True, slots=True)
class ProbeTimedOut:
    """A probe got no reply."""

    host: str


@dataclass(frozen=True, slots=True)
class BusyUntil:
    """The host has starts in flight and may be silent until `until_s`, the latest of their deadlines.

    The event replaces an earlier one for the same host. The deadline has passed if no start is in flight.
    """

    host: str
    until_s: float


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection to the broker broke."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection to the broker was established or re-established."""


@dataclass(frozen=True, slots=True)
class Tick:
    """`TICK_S` has passed."""


Event: TypeAlias = (
    HeartbeatReceived
    | ProbeReplied
    | ProbeNoResponders
    | ProbeTimedOut
    | BusyUntil
    | Disconnected
    | Connected
    | Tick
)


# --- actions


@dataclass(frozen=True, slots=True)
class Probe:
    """Request the `status` of any workload ID from the host, and report the outcome as an event."""

    host: str


@dataclass(frozen=True, slots=True)
class SetHealth:
    """Report a health change of the host."""

    host: str
    health: Health
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class Forget:
    """Forget the host: it has been lost for too long."""

    host: str


Action: TypeAlias = Probe | SetHealth | Forget


@dataclass(slots=True)
class _Host:
    last_seen_s: float
    health: Health = Health.ALIVE
    # Time of the most recent reply to a probe.
    last_reply_s: float | None = None
    # Deadline of the latest start in flight; before it, silence alone does not make the host lost.
    busy_until_s: float = 0.0
    # Whether the host was seen since the last (re)connect. During the settling period, only the silence of such
    # a host counts.
    seen_since_connect: bool = False
    # Time of the first probe with no responders since the host was last seen, and the number of such probes.
    no_responders_since_s: float | None = None
    no_responders_count: int = 0
    next_probe_at_s: float | None = None
    next_silence_check_at_s: float = 0.0


class Liveness:
    """Liveness of all hosts in the fleet."""

    def __init__(self, options: LivenessOptions) -> None:
        self._options = options
        self._suspect_after_s = options.effective_suspect_after_s()
        self._forget_after_s = max(options.forget_after_s, options.lost_after_s)
        self._probe_cost_s = 1.0 / options.probes_per_second
        self._hosts: dict[str, _Host] = {}
        # Heap of scheduled probes; entries that differ from the host's `next_probe_at_s` are stale and skipped.
        self._probes: list[tuple[float, str]] = []
        # Heap of silence checks, one per host. Heartbeats do not reschedule the check, so they cost nothing
        # here. Entries that differ from the host's `next_silence_check_at_s` are stale and skipped.
        self._silence_checks: list[tuple[float, str]] = []
        # Time of the most recent mass loss that was attributed to the broker.
        self._mass_loss_at_s: float | None = None
        self._connected = False
        # End of the settling period.
        self._settled_at_s = 0.0
        # Time up to which the probe budget is used up.
        self._budget_used_until_s = 0.0

    def __len__(self) -> int:
        """Returns the number of known hosts, including lost ones."""
        return len(self._hosts)

    def step(self, now_s: float, event: Event) -> list[Action]:
        """Processes one event and returns the resulting actions."""
        actions: list[Action] = []
        match event:
            case HeartbeatReceived(host):
                self._on_heartbeat(now_s, host, actions)
            case ProbeReplied(host):
                self._on_probe_replied(now_s, host, actions)
            case ProbeNoResponders(host):
                self._on_no_responders(now_s, host, actions)
            case ProbeTimedOut(host):
                self._schedule_probe(host, now_s + self._options.silent_probe_interval_s)
            case BusyUntil(host, until_s):
                if host in self._hosts:
                    self._hosts[host].busy_until_s = until_s
                    # The next check may have been postponed to the previous deadline.
                    self._schedule_silence_check(host, self._hosts[host], now_s)
            case Disconnected():
                self._connected = False
            case Connected():
                self._on_connected(now_s)
            case Tick():
                self._check_silence(now_s, actions)
                self._send_probes(now_s, actions)
        return actions

    def _on_heartbeat(self, now_s: float, host_id: str, actions: list[Action]) -> None:
        host = self._hosts.get(host_id)
        if host is None:
            host = self._hosts[host_id] = _Host(last_seen_s=now_s, seen_since_connect=self._connected)
            self._schedule_silence_check(host_id, host, now_s + self._suspect_after_s)
            self._schedule_probe(host_id, now_s + self._probe_interval_s())
            return
        previous = host.health
        self._mark_seen(now_s, host_id, host, actions)
        # A heartbeat of a live host does not postpone the next probe; otherwise, a host that dies after a
        # heartbeat would be detected late.
        if previous is not Health.ALIVE:
            self._schedule_probe(host_id, now_s + self._probe_interval_s())

    def _on_probe_replied(self, now_s: float, host_id: str, actions: list[Action]) -> None:
        host = self._hosts.get(host_id)
        # Only a heartbeat recovers a lost host; a late reply to a probe does not.
        if host is None or host.health is Health.LOST:
            return
        host.last_reply_s = now_s
        self._mark_seen(now_s, host_id, host, actions)
        self._schedule_probe(host_id, now_s + self._probe_interval_s())

    def _mark_seen(self, now_s: float, host_id: str, host: _Host, actions: list[Action]) -> None:
        previous, host.health = host.health, Health.ALIVE
        host.last_seen_s, host.seen_since_connect = now_s, self._connected
        host.no_responders_since_s, host.no_responders_count = None, 0
        if previous is not Health.ALIVE:
            self._schedule_silence_check(host_id, host, now_s + self._suspect_after_s)
            actions.append(SetHealth(host_id, Health.ALIVE, None))

    def _on_no_responders(self, now_s: float, host_id: str, actions: list[Action]) -> None:
        host = self._hosts.get(host_id)
        if host is None or host.health is Health.LOST:
            return
        # A host that was seen since the connect has reconnected. No responders then mean that it is gone.
        if not (self._is_settled(now_s) or (self._connected and host.seen_since_connect)):
            retry_s = now_s + self._options.no_responders_probe_interval_s
            self._schedule_probe(host_id, max(self._settled_at_s, retry_s))
            return
        if host.no_responders_since_s is None:
            host.no_responders_since_s = now_s
        host.no_responders_count += 1
        if host.health is Health.ALIVE:
            host.health = Health.SUSPECT
            actions.append(SetHealth(host_id, Health.SUSPECT, Reason.NO_RESPONDERS))
        self._schedule_probe(host_id, now_s + self._options.no_responders_probe_interval_s)
        if self._confirm_loss(now_s, host):
            self._mark_lost(host_id, host, Reason.NO_RESPONDERS, actions)

    def _confirm_loss(self, now_s: float, host: _Host) -> bool:
        """Returns whether probes found no responders long enough, unless the broker is the likely cause.

        If the broker is the likely cause, records a mass loss.
        """
        since_s = host.no_responders_since_s
        if since_s is None or host.no_responders_count < self._options.no_responders_count:
            return False
        elapsed_s = now_s - since_s
        if elapsed_s < self._options.no_responders_for_s:
            return False
        if self._is_mass_loss(since_s):
            self._mass_loss_at_s = now_s
            return False
        # Hosts return from a mass loss one by one. The first ones lower the share of missing hosts below the
        # threshold, but the remaining ones must not be declared lost because of that (SCHED-CONT-006).
        in_mass_loss = self._mass_loss_at_s is not None and self._mass_loss_at_s >= since_s
        return not in_mass_loss or elapsed_s >= self._options.settling_period_s

    def _is_mass_loss(self, since_s: float) -> bool:
        """Returns whether a large part of the hosts probed since `since_s` has no responders.

        It is then more likely that a broker failed and its hosts are reconnecting to another one than that all
        these hosts died at once. Heartbeats do not count: all hosts send them, whereas probes have reached only
        some.
        """
        unresponsive = responsive = 0
        for host in self._hosts.values():
            if host.no_responders_since_s is not None:
                unresponsive += 1
            elif host.last_reply_s is not None and host.last_reply_s >= since_s:
                responsive += 1
        if unresponsive < self._options.mass_loss_threshold:
            return False
        return unresponsive * 100 // (unresponsive + responsive) >= self._options.mass_loss_percent

    def _check_silence(self, now_s: float, actions: list[Action]) -> None:
        """Marks silent hosts as suspect, then lost, and finally forgets them."""
        if not self._connected:
            return
        while self._silence_checks and self._silence_checks[0][0] <= now_s:
            at_s, host_id = heapq.heappop(self._silence_checks)
            host = self._hosts.get(host_id)
            if host is None or host.next_silence_check_at_s != at_s:
                continue
            next_s = self._check_silence_of(now_s, host_id, host, actions)
            if next_s is not None:
                self._schedule_silence_check(host_id, host, max(next_s, now_s + TICK_S))

    def _check_silence_of(self, now_s: float, host_id: str, host: _Host, actions: list[Action]) -> float | None:
        """Checks one host and returns the time of its next check, if any."""
        options = self._options
        if not (self._is_settled(now_s) or host.seen_since_connect):
            return self._settled_at_s
        # Silence counts from the time at which the host was last seen on this connection, or else from the end
        # of the settling period.
        seen_s = host.last_seen_s if host.seen_since_connect else max(host.last_seen_s, self._settled_at_s)
        suspect_s, lost_s = seen_s + self._suspect_after_s, seen_s + options.lost_after_s
        match host.health:
            case Health.ALIVE:
                if now_s < suspect_s:
                    return suspect_s
                host.health = Health.SUSPECT
                actions.append(SetHealth(host_id, Health.SUSPECT, Reason.SILENT))
                return lost_s
            case Health.SUSPECT:
                if now_s < lost_s:
                    return lost_s
                # A busy host still has a subscription, so that no responders prove the loss.
                no_responders = host.no_responders_since_s is not None
                if not no_responders and now_s < host.busy_until_s:
                    return host.busy_until_s
                reason = Reason.NO_RESPONDERS if no_responders else Reason.SILENT
                self._mark_lost(host_id, host, reason, actions)
                return seen_s + self._forget_after_s
            case Health.LOST:
                if now_s < seen_s + self._forget_after_s:
                    return seen_s + self._forget_after_s
                del self._hosts[host_id]
                actions.append(Forget(host_id))
                return None

    def _schedule_silence_check(self, host_id: str, host: _Host, at_s: float) -> None:
        host.next_silence_check_at_s = at_s
        heapq.heappush(self._silence_checks, (at_s, host_id))

    @staticmethod
    def _mark_lost(host_id: str, host: _Host, reason: Reason, actions: list[Action]) -> None:
        host.health = Health.LOST
        host.last_reply_s = None
        host.no_responders_since_s, host.no_responders_count = None, 0
        host.next_probe_at_s = None
        actions.append(SetHealth(host_id, Health.LOST, reason))

    def _send_probes(self, now_s: float, actions: list[Action]) -> None:
        """Sends the probes that are due, within the budget."""
        if not self._connected:
            return
        # Unused budget is not accumulated, so that probes are spread evenly.
        self._budget_used_until_s = max(self._budget_used_until_s, now_s - TICK_S * 2)
        while self._probes and self._probes[0][0] <= now_s:
            if self._budget_used_until_s + self._probe_cost_s > now_s:
                return
            at_s, host_id = heapq.heappop(self._probes)
            host = self._hosts.get(host_id)
            if host is None or host.next_probe_at_s != at_s:
                continue
            # At most one probe per host is in flight: its outcome schedules the next one.
            host.next_probe_at_s = None
            self._budget_used_until_s += self._probe_cost_s
            actions.append(Probe(host_id))

    def _schedule_probe(self, host_id: str, at_s: float) -> None:
        host = self._hosts.get(host_id)
        if host is None or host.health is Health.LOST or host.next_probe_at_s == at_s:
            return
        host.next_probe_at_s = at_s
        heapq.heappush(self._probes, (at_s, host_id))

    def _probe_interval_s(self) -> float:
        """Returns the configured interval, or the longer interval that the budget requires in a large fleet."""
        return max(self._options.probe_interval_s, self._probe_cost_s * len(self._hosts))

    def _on_connected(self, now_s: float) -> None:
        self._connected = True
        self._settled_at_s = now_s + self._options.settling_period_s
        for host in self._hosts.values():
            host.no_responders_since_s, host.no_responders_count = None, 0
            host.seen_since_connect = False

    def _is_settled(self, now_s: float) -> bool:
        return self._connected and now_s >= self._settled_at_s
