"""What is shown of each host, and the events that tell of changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from berth.proto import HostHeartbeat, WitInterface
from berth.scheduler._liveness import Health, Reason


@dataclass(frozen=True, slots=True)
class HostView:
    """One host as it is known."""

    heartbeat: HostHeartbeat
    """What it last said of itself. Leave it as it is: others look at the same one."""
    health: Health
    """How it does."""
    reason: Reason | None
    """Why it is not alive."""
    beat_at_s: float
    """When its last heartbeat arrived, by the clock of the event loop."""

    @property
    def id(self) -> str:
        """The id of the host."""
        return self.heartbeat.id


@dataclass(frozen=True, slots=True)
class Joined:
    """A host that was not known is there."""

    host: HostView


@dataclass(frozen=True, slots=True)
class Changed:
    """A host says something else of itself: labels, interfaces, ports. Load and counts do not count."""

    host: HostView
    """The host as it is now."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """Something is wrong with a host; nothing is to be concluded yet."""

    host_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Lost:
    """A host is taken for gone."""

    host_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Returned:
    """A suspect or lost host is well."""

    host: HostView
    was: Health
    """What it was taken for before."""


@dataclass(frozen=True, slots=True)
class Missed:
    """The reader was too slow for this many events: look at `Fleet.hosts` anew."""

    events: int


FleetEvent: TypeAlias = Joined | Changed | Suspect | Lost | Returned | Missed
"""A change in the fleet."""


class Views:
    """All views, and whoever is told of changes."""

    def __init__(self, tell: Callable[[FleetEvent], None]) -> None:
        self.hosts: dict[str, HostView] = {}
        self._tell = tell

    def beat(self, heartbeat: HostHeartbeat, now_s: float) -> None:
        """Takes in a heartbeat and tells of what it changes."""
        known = self.hosts.get(heartbeat.id)
        if known is None:
            host = self.hosts[heartbeat.id] = HostView(heartbeat, Health.ALIVE, None, now_s)
            self._tell(Joined(host))
            return
        host = self.hosts[heartbeat.id] = replace(known, heartbeat=heartbeat, beat_at_s=now_s)
        if known.heartbeat.started_at != heartbeat.started_at:
            self._tell(Lost(heartbeat.id, Reason.RESTARTED))
            self._tell(Joined(host))
        elif lasting(known.heartbeat) != lasting(heartbeat):
            self._tell(Changed(host))

    def judge(self, host_id: str, health: Health, reason: Reason | None) -> None:
        """Takes in what liveness has concluded."""
        known = self.hosts.get(host_id)
        if known is None:
            return
        host = self.hosts[host_id] = replace(known, health=health, reason=reason)
        if health is Health.SUSPECT and reason is not None:
            self._tell(Suspect(host_id, reason))
        elif health is Health.LOST and reason is not None:
            self._tell(Lost(host_id, reason))
        else:
            self._tell(Returned(host, known.health))


def lasting(heartbeat: HostHeartbeat) -> HostHeartbeat:
    """A heartbeat without what changes from one to the next.

    Also without the order of interfaces, which a `wash host` does not keep.
    """
    lasting = HostHeartbeat()
    lasting.CopyFrom(heartbeat)
    for field in ("system_cpu_usage", "system_memory_free", "component_count", "workload_count"):
        lasting.ClearField(field)
    for interfaces in (lasting.imports, lasting.exports):
        for interface in interfaces:
            interface.interfaces.sort()
        interfaces.sort(key=_identity)
    return lasting


def _identity(one: WitInterface) -> tuple[str, str, str, str, list[str]]:
    return (one.namespace, one.package, one.version, one.name, list(one.interfaces))
