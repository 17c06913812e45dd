"""The hosts that a workload fits, and the choice among them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from codec import Heartbeat, Interface
from fleet import Host
from render import HTTP_HANDLERS, Template

BASELINE = ("cli", "clocks", "random", "io", "filesystem", "sockets")
RELEASE = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:\+[0-9A-Za-z.-]+)?")
# A host beyond these figures is about to slow down or to run out of memory.
BUSY_CPU_PERCENT = 90.0
BUSY_FREE_MEMORY = 0.05


def misfit(template: Template, host: Host, environment: str) -> str | None:
    """Returns the first condition that a host does not meet; `environment` is the isolated one."""
    heartbeat = host.heartbeat
    if host.lost:
        return "are lost"
    if template.host_id and template.host_id != heartbeat.id:
        return f"are not the host {template.host_id}"
    for key, value in template.selector.items():
        if heartbeat.labels.get(key) != value:
            return f"lack the label {key}={value}"
    if template.environment and template.environment != heartbeat.environment:
        return f"are not of the environment {template.environment}"
    if environment and environment not in (heartbeat.environment,):
        return f"are not of the environment {environment}, to which the workload is isolated"
    if environment and template.environment not in ("", environment):
        return f"are closed to workloads of another environment than {environment}"
    for declared in template.interfaces:
        if not offers(heartbeat, declared):
            return f"do not offer {_title(declared)}"
    if host.unreachable_since is not None:
        return "do not respond"
    return None


def offers(heartbeat: Heartbeat, declared: Interface) -> bool:
    """Returns whether a host offers every interface of a declaration."""
    if declared.namespace == "wasi" and declared.package in BASELINE:
        return True
    if (declared.namespace, declared.package) == ("wasi", "http"):
        serves = any(handler in declared.interfaces for handler in HTTP_HANDLERS)
        return heartbeat.http_port != 0 or not serves
    return all(
        any(_covers(offer, declared, interface) for offer in heartbeat.offers)
        for interface in declared.interfaces
    )


def _covers(offer: Interface, declared: Interface, interface: str) -> bool:
    return (
        (offer.namespace, offer.package) == (declared.namespace, declared.package)
        and (not offer.interfaces or interface in offer.interfaces)
        and compatible(offer.version, declared.version)
    )


def compatible(offered: str, declared: str) -> bool:
    """Returns whether two versions are compatible under semantic versioning."""
    if not offered or not declared or offered == declared:
        return True
    left, right = RELEASE.fullmatch(offered), RELEASE.fullmatch(declared)
    if left is None or right is None:
        return False
    first, second = (tuple(int(part) for part in match.groups()) for match in (left, right))
    leading = next((index for index, part in enumerate(first) if part), 2)
    return first[: leading + 1] == second[: leading + 1]


def _title(declared: Interface) -> str:
    version = f"@{declared.version}" if declared.version else ""
    return f"{declared.namespace}:{declared.package}/{','.join(declared.interfaces)}{version}"


def choose(
    template: Template,
    hosts: Iterable[Host],
    environment: str,
    failures: Mapping[str, int],
    siblings: Counter[str],
    placed: Counter[str],
) -> Host | None:
    """Returns the best host that fits: few failures, not busy, few replicas of the set, idle."""
    fitting = [host for host in hosts if misfit(template, host, environment) is None]

    def cost(host: Host) -> tuple[int, bool, int, int, float, str]:
        beat = host.heartbeat
        return (
            failures.get(beat.id, 0),
            busy(beat),
            siblings[beat.id],
            max(placed[beat.id], beat.workloads),
            beat.cpu_percent,
            beat.id,
        )

    return min(fitting, key=cost, default=None)


def busy(heartbeat: Heartbeat) -> bool:
    """Returns whether a host is out of processor time or memory."""
    free = heartbeat.memory_free
    short = heartbeat.memory_total and free < heartbeat.memory_total * BUSY_FREE_MEMORY
    return bool(short) or heartbeat.cpu_percent >= BUSY_CPU_PERCENT


def explain(template: Template, hosts: Iterable[Host], environment: str) -> str:
    """Returns why a workload fits no host: how many hosts fail each condition."""
    reasons = [misfit(template, host, environment) for host in hosts if not host.lost]
    counts = Counter(reason for reason in reasons if reason)
    parts = [f"{count} {reason}" for reason, count in counts.most_common(5)]
    details = f": {', '.join(parts)}" if parts else ""
    return f"0 of {len(reasons)} hosts fit{details}"
