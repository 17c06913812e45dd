"""Views of hosts, and the events that report changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from berth.proto import HostHeartbeat, WitInterface
from berth.scheduler._liveness import Health, Reason


@dataclass(frozen=True, slots=True)
class HostView:
    """State of one host, as known to the scheduler."""

    heartbeat: HostHeartbeat
    """Latest heartbeat. Do not modify it: all readers share it."""
    health: Health
    """Health of the host."""
    reason: Reason | None
    """Reason why the host is suspect or lost; otherwise `None`."""
    last_heartbeat_at: float
    """Arrival time of the latest heartbeat, on the clock of the event loop."""

    @property
    def id(self) -> str:
        """ID of the host."""
        return self.heartbeat.id


@dataclass(frozen=True, slots=True)
class HostJoined:
    """An unknown or restarted host sent its first heartbeat, or it was there before a new reader."""

    host: HostView


@dataclass(frozen=True, slots=True)
class HostChanged:
    """The description of a host changed: labels, interfaces or ports. Load and counts are ignored."""

    host: HostView
    """The host after the change."""


@dataclass(frozen=True, slots=True)
class HostSuspect:
    """A host may be lost. Do not replace its workloads yet."""

    host_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class HostLost:
    """A host is lost."""

    host_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class HostRecovered:
    """A suspect or lost host is alive again."""

    host: HostView
    previous_health: Health
    """Health before the recovery."""


@dataclass(frozen=True, slots=True)
class EventsMissed:
    """The reader was too slow and missed events: read `Fleet.hosts` again."""

    count: int
    """Number of missed events."""


FleetEvent: TypeAlias = HostJoined | HostChanged | HostSuspect | HostLost | HostRecovered | EventsMissed
"""A change in the fleet."""


class FleetState:
    """Views of all hosts; reports each change to `notify`."""

    def __init__(self, notify: Callable[[FleetEvent], None]) -> None:
        self.hosts: dict[str, HostView] = {}
        self._notify = notify

    def record_heartbeat(self, heartbeat: HostHeartbeat, now_s: float) -> None:
        """Records a heartbeat and reports the changes."""
        previous = self.hosts.get(heartbeat.id)
        if previous is None:
            host = self.hosts[heartbeat.id] = HostView(heartbeat, Health.ALIVE, None, now_s)
            self._notify(HostJoined(host))
            return
        if previous.heartbeat.started_at != heartbeat.started_at:
            host = self.hosts[heartbeat.id] = HostView(heartbeat, Health.ALIVE, None, now_s)
            self._notify(HostLost(heartbeat.id, Reason.RESTARTED))
            self._notify(HostJoined(host))
            return
        host = self.hosts[heartbeat.id] = replace(previous, heartbeat=heartbeat, last_heartbeat_at=now_s)
        if without_volatile_fields(previous.heartbeat) != without_volatile_fields(heartbeat):
            self._notify(HostChanged(host))

    def record_health(self, host_id: str, health: Health, reason: Reason | None) -> None:
        """Records a health change and reports it."""
        previous = self.hosts.get(host_id)
        # The restart of a lost host has been reported already.
        if previous is None or previous.health is health:
            return
        host = self.hosts[host_id] = replace(previous, health=health, reason=reason)
        if health is Health.SUSPECT and reason is not None:
            self._notify(HostSuspect(host_id, reason))
        elif health is Health.LOST and reason is not None:
            self._notify(HostLost(host_id, reason))
        else:
            self._notify(HostRecovered(host, previous.health))

    def present_hosts(self) -> list[FleetEvent]:
        """Returns the events that describe the hosts that are not lost, for a new reader."""
        events: list[FleetEvent] = []
        for host_id, host in sorted(self.hosts.items()):
            if host.health is not Health.LOST:
                events.append(HostJoined(host))
            if host.health is Health.SUSPECT and host.reason is not None:
                events.append(HostSuspect(host_id, host.reason))
        return events


def without_volatile_fields(heartbeat: HostHeartbeat) -> HostHeartbeat:
    """Returns a copy of a heartbeat without the fields that change from one heartbeat to the next.

    The interfaces are sorted, because a `wash host` does not keep their order.
    """
    stable = HostHeartbeat()
    stable.CopyFrom(heartbeat)
    for field in ("system_cpu_usage", "system_memory_free", "component_count", "workload_count"):
        stable.ClearField(field)
    for interfaces in (stable.imports, stable.exports):
        for interface in interfaces:
            interface.interfaces.sort()
        interfaces.sort(key=_sort_key)
    return stable


def _sort_key(interface: WitInterface) -> tuple[str, str, str, str, list[str]]:
    return (
        interface.namespace,
        interface.package,
        interface.version,
        interface.name,
        list(interface.interfaces),
    )
