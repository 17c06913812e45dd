"""Placement: a pure function that filters hosts by constraints and prefers the least loaded host."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from berth import Health, HostView, WitInterface
from berth.proto import HostHeartbeat

BASELINE = {"wasi:cli", "wasi:clocks", "wasi:random", "wasi:io", "wasi:filesystem", "wasi:sockets"}
"""Packages that every host offers and none lists."""

RELEASE_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")

HTTP_HANDLERS = {"incoming-handler", "handler"}


@dataclass(frozen=True)
class Constraints:
    """Scheduling constraints of a workload."""

    labels: Mapping[str, str] = field(default_factory=dict)
    environment: str = ""
    host_id: str = ""
    interfaces: tuple[WitInterface, ...] = ()


@dataclass(frozen=True)
class Assignment:
    host_id: str


@dataclass(frozen=True)
class Unschedulable:
    reason: str


def place(
    constraints: Constraints,
    hosts: Iterable[HostView],
    assigned: Mapping[str, int],
    avoid: Iterable[str] = (),
) -> Assignment | Unschedulable:
    """Returns the best host, or the reason why no host is feasible.

    `assigned` is the number of this scheduler's workloads on each host, because the counts in heartbeats lag.
    Hosts in `avoid` are used only if no other host is feasible.
    """
    hosts = list(hosts)
    reasons = Counter(filter(None, (filter_reason(constraints, host) for host in hosts)))
    feasible = [host for host in hosts if filter_reason(constraints, host) is None]
    if not feasible:
        summary = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        return Unschedulable(f"0 of {len(hosts)} hosts fit: {summary or 'no hosts are known'}")
    avoided = set(avoid)

    def score(host: HostView) -> tuple[object, ...]:
        degraded = host.health is not Health.ALIVE or is_exhausted(host.heartbeat)
        workload_count = host.heartbeat.workload_count
        return (host.id in avoided, degraded, assigned.get(host.id, 0), workload_count, host.id)

    return Assignment(min(feasible, key=score).id)


def is_exhausted(heartbeat: HostHeartbeat) -> bool:
    """Returns whether the host reports that it is short of memory or processor time."""
    out_of_memory = heartbeat.system_memory_free * 20 < heartbeat.system_memory_total
    return out_of_memory or heartbeat.system_cpu_usage > 95


def filter_reason(constraints: Constraints, host: HostView) -> str | None:
    """Returns the first constraint that the host violates, if any."""
    heartbeat = host.heartbeat
    if host.health is Health.LOST:
        return "lost"
    if constraints.host_id and heartbeat.id != constraints.host_id:
        return f"without ID {constraints.host_id}"
    for key, value in constraints.labels.items():
        if heartbeat.labels.get(key) != value:
            return f"without label {key}={value}"
    if constraints.environment and heartbeat.environment != constraints.environment:
        return f"outside environment {constraints.environment}"
    for interface in constraints.interfaces:
        if not offers(heartbeat, interface):
            return f"without interface {interface.namespace}:{interface.package}"
    return None


def offers(heartbeat: HostHeartbeat, declared: WitInterface) -> bool:
    package = f"{declared.namespace}:{declared.package}"
    if package == "wasi:http":
        # A `wash host` does not list it. Each host with an HTTP port serves it; outgoing requests are baseline.
        return heartbeat.http_port != 0 or not HTTP_HANDLERS & set(declared.interfaces)
    if package in BASELINE:
        return True
    offered = [
        interface
        for interface in (*heartbeat.imports, *heartbeat.exports)
        if (interface.namespace, interface.package) == (declared.namespace, declared.package)
        and versions_compatible(interface.version, declared.version)
    ]
    if any(not interface.interfaces for interface in offered):
        return True  # An entry without names offers the whole package.
    names = {name for interface in offered for name in interface.interfaces}
    return bool(offered) and set(declared.interfaces) <= names


def versions_compatible(offered: str, declared: str) -> bool:
    """Returns whether two versions are semver compatible; an empty version is compatible with any other."""
    if not offered or not declared or offered == declared:
        return True
    offered_release, declared_release = RELEASE_VERSION.fullmatch(offered), RELEASE_VERSION.fullmatch(declared)
    if offered_release is None or declared_release is None:
        return False
    # All numbers up to and including the first nonzero one must be equal.
    for offered_part, declared_part in zip(offered_release.groups(), declared_release.groups(), strict=True):
        if offered_part != declared_part or int(offered_part) != 0:
            return offered_part == declared_part
    return True
