"""The hosts that a workload fits, and the choice among them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from codec import Heartbeat, Interface
from fleet import Host
from render import HTTP_HANDLERS, Template
from violation import violates

BASELINE = ("cli", "clocks", "random", "io", "filesystem", "sockets")
RELEASE = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:\+[0-9A-Za-z.-]+)?")
# A host beyond these figures is about to slow down or to run out of memory.
BUSY_CPU_PERCENT = 90.0
BUSY_FREE_MEMORY = 0.05


def misfit(template: Template, host: Host, environment: str) -> str | None:
    """Returns the first condition that a host does not meet; `environment` is the isolated one."""
    heartbeat = host.heartbeat
    named = bool(template.host_id)
    if host.lost and not (named and violates("named-host-started-while-lost")):
        return "are lost"
    if named and not _is_named(template.host_id, heartbeat):
        return f"are not the host {template.host_id}"
    for key, value in template.selector.items():
        if not _has_label(heartbeat, key, value):
            return f"lack the label {key}={value}"
    if template.environment and not _same_environment(template.environment, heartbeat):
        return f"are not of the environment {template.environment}"
    if environment and environment != heartbeat.environment:
        return f"are not of the environment {environment}, to which the workload is isolated"
    if environment and template.environment not in ("", environment):
        return f"are closed to workloads of another environment than {environment}"
    if not (named and violates("named-host-skips-interface-check")):
        for declared in _declarations(template):
            if not offers(heartbeat, declared):
                return f"do not offer {_title(declared)}"
    if host.beats < 2 and violates("host-used-from-second-heartbeat"):
        return "sent only one heartbeat"
    if host.silent_to_requests:
        return "do not reply to heartbeat requests"
    suspect = host.unreachable_since is not None
    if suspect and not (named and violates("named-host-started-while-lost")):
        return "do not respond"
    return None


def _is_named(host_id: str, heartbeat: Heartbeat) -> bool:
    if heartbeat.name == host_id and violates("host-id-matches-friendly-name"):
        return True
    return heartbeat.id == host_id


def _has_label(heartbeat: Heartbeat, key: str, value: str) -> bool:
    if violates("empty-label-value-fits-absent-label"):
        return heartbeat.labels.get(key, "") == value
    if violates("label-value-compared-as-prefix"):
        return heartbeat.labels.get(key, "").startswith(value)
    return heartbeat.labels.get(key) == value


def _same_environment(environment: str, heartbeat: Heartbeat) -> bool:
    if violates("environment-trimmed"):
        return environment.strip(" ") == heartbeat.environment.strip(" ")
    if not heartbeat.environment and violates("host-without-environment-fits-all"):
        return True
    return environment == heartbeat.environment


def _declarations(template: Template) -> tuple[Interface, ...]:
    if violates("second-declaration-hides-first"):
        last = {(entry.namespace, entry.package): entry for entry in template.interfaces}
        return tuple(last.values())
    return template.interfaces


def offers(heartbeat: Heartbeat, declared: Interface) -> bool:
    """Returns whether a host offers every interface of a declaration."""
    baseline = [name for name in BASELINE if name != "sockets"]
    if not violates("sockets-missing-from-baseline"):
        baseline.append("sockets")
    if declared.namespace == "wasi" and declared.package in baseline:
        return True
    if (declared.namespace, declared.package) == ("wasi", "http"):
        return heartbeat.http_port != 0 or not _requires_port(declared)
    names = declared.interfaces
    if violates("only-first-interface-name-checked"):
        names = names[:1]
    return all(
        any(_covers(offer, declared, name) for offer in _offered(heartbeat, declared))
        for name in names
    )


def _requires_port(declared: Interface) -> bool:
    if violates("outgoing-http-requires-port"):
        return True
    if violates("http-handler-placed-without-port"):
        return "incoming-handler" in declared.interfaces
    return any(handler in declared.interfaces for handler in HTTP_HANDLERS)


def _offered(heartbeat: Heartbeat, declared: Interface) -> tuple[Interface, ...]:
    imports = heartbeat.imports
    if violates("only-last-offered-version-counts"):
        package = (declared.namespace, declared.package)
        imports = tuple(o for o in imports if (o.namespace, o.package) == package)[-1:]
    if violates("exports-not-counted-as-offered"):
        return imports
    return imports + heartbeat.exports


def _covers(offer: Interface, declared: Interface, interface: str) -> bool:
    same_namespace = offer.namespace == declared.namespace
    if violates("namespace-of-package-not-compared"):
        same_namespace = True
    whole_package = not offer.interfaces and not violates("whole-package-offer-not-understood")
    return (
        same_namespace
        and offer.package == declared.package
        and (whole_package or interface in offer.interfaces)
        and compatible(offer.version, declared.version)
    )


def compatible(offered: str, declared: str) -> bool:
    """Returns whether two versions are compatible under semantic versioning."""
    if not offered or not declared or offered == declared:
        return True
    if violates("prerelease-compatible-with-release"):
        offered, declared = offered.partition("-")[0], declared.partition("-")[0]
    left, right = RELEASE.fullmatch(offered), RELEASE.fullmatch(declared)
    if left is None or right is None:
        return False
    first, second = (tuple(int(part) for part in match.groups()) for match in (left, right))
    if first < second and violates("older-compatible-version-rejected"):
        return False
    leading = next((index for index, part in enumerate(first) if part), 2)
    if violates("zero-zero-patches-compatible"):
        leading = min(leading, 1)
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
    hosts = list(hosts)
    if violates("named-host-lost-falls-back") and _is_lost(template.host_id, hosts):
        template = replace(template, host_id="")
    fitting = [host for host in hosts if misfit(template, host, environment) is None]

    def cost(host: Host) -> tuple[Any, ...]:
        beat = host.heartbeat
        return (
            0 if violates("refused-host-preferred-again") else failures.get(beat.id, 0),
            load(beat),
            siblings[beat.id],
            max(placed[beat.id], beat.workloads),
            beat.cpu_percent,
            beat.id,
        )

    return min(fitting, key=cost, default=None)


def _is_lost(host_id: str, hosts: list[Host]) -> bool:
    return any(host.lost and host.id == host_id for host in hosts)


def load(heartbeat: Heartbeat) -> Any:
    """Returns a value that is lower for the host to prefer."""
    if violates("free-memory-compared-as-text"):
        return [-ord(digit) for digit in str(heartbeat.memory_free)]
    return busy(heartbeat)


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
