"""On which host a workload goes. Pure: conditions first, then the host that has least to do."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from berth import Health, HostView, WitInterface
from berth.proto import HostHeartbeat

BASELINE = {"wasi:cli", "wasi:clocks", "wasi:random", "wasi:io", "wasi:filesystem", "wasi:sockets"}
"""Packages that every host has and none lists."""

RELEASE = re.compile(r"(\d+)\.(\d+)\.(\d+)")

HANDLERS = {"incoming-handler", "handler"}


@dataclass(frozen=True)
class Conditions:
    """What a workload asks of its host."""

    labels: Mapping[str, str] = field(default_factory=dict)
    environment: str = ""
    host_id: str = ""
    interfaces: tuple[WitInterface, ...] = ()


@dataclass(frozen=True)
class Placed:
    host_id: str


@dataclass(frozen=True)
class Waits:
    reason: str


def place(
    wanted: Conditions, hosts: Iterable[HostView], placed: Mapping[str, int], avoid: Iterable[str] = ()
) -> Placed | Waits:
    """The best host, or why there is none.

    `placed` says how many workloads this scheduler has on each host; heartbeats say so too late. Hosts to
    `avoid` are taken when no other fits.
    """
    hosts = list(hosts)
    reasons = Counter(filter(None, (misfit(wanted, host) for host in hosts)))
    fits = [host for host in hosts if misfit(wanted, host) is None]
    if not fits:
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        return Waits(f"0 of {len(hosts)} hosts fit: {why or 'there is none'}")
    avoided = set(avoid)

    def cost(host: HostView) -> tuple[object, ...]:
        doubtful = host.health is not Health.ALIVE or is_exhausted(host.heartbeat)
        return (host.id in avoided, doubtful, placed.get(host.id, 0), host.heartbeat.workload_count, host.id)

    return Placed(min(fits, key=cost).id)


def is_exhausted(heartbeat: HostHeartbeat) -> bool:
    """Out of memory or processor time, as far as it says."""
    out_of_memory = heartbeat.system_memory_free * 20 < heartbeat.system_memory_total
    return out_of_memory or heartbeat.system_cpu_usage > 95


def misfit(wanted: Conditions, host: HostView) -> str | None:
    """The first condition that the host does not meet."""
    heartbeat = host.heartbeat
    if host.health is Health.LOST:
        return "is lost"
    if wanted.host_id and heartbeat.id != wanted.host_id:
        return f"is not {wanted.host_id}"
    for key, value in wanted.labels.items():
        if heartbeat.labels.get(key) != value:
            return f"lacks the label {key}={value}"
    if wanted.environment and heartbeat.environment != wanted.environment:
        return f"is not of environment {wanted.environment}"
    for interface in wanted.interfaces:
        if not offers(heartbeat, interface):
            return f"does not offer {interface.namespace}:{interface.package}"
    return None


def offers(heartbeat: HostHeartbeat, wanted: WitInterface) -> bool:
    package = f"{wanted.namespace}:{wanted.package}"
    if package == "wasi:http":
        # Real hosts leave it out of their lists; whoever has a port serves it. Going out is baseline.
        return heartbeat.http_port != 0 or not HANDLERS & set(wanted.interfaces)
    if package in BASELINE:
        return True
    offered = [
        one
        for one in (*heartbeat.imports, *heartbeat.exports)
        if (one.namespace, one.package) == (wanted.namespace, wanted.package)
        and agree(one.version, wanted.version)
    ]
    return bool(offered) and set(wanted.interfaces) <= {name for one in offered for name in one.interfaces}


def agree(offered: str, declared: str) -> bool:
    """Whether semantic versioning calls two versions compatible; no version agrees with all."""
    if not offered or not declared or offered == declared:
        return True
    one, other = RELEASE.fullmatch(offered), RELEASE.fullmatch(declared)
    if one is None or other is None:
        return False
    # The first number that is not zero decides, and everything before it.
    for ours, theirs in zip(one.groups(), other.groups(), strict=True):
        if ours != theirs or int(ours) != 0:
            return ours == theirs
    return True
