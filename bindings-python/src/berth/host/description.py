"""What a host says of itself in a heartbeat."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from berth.proto import WitInterface

_LABEL = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII)
_MAX_NAME_BYTES = 253


@dataclass(frozen=True, kw_only=True)
class Description:
    """Everything of a heartbeat that the SDK cannot know.

    The SDK adds `id`, `started_at` and `workload_count`, and keeps `hostname`, `friendly_name`, `version` and
    `environment` as they were first described (HOST-BEAT-007).
    """

    hostname: str
    """The name or address under which peers reach the host's ingress, without the port."""
    friendly_name: str
    """A DNS-1123 name, unique in the fleet; it becomes the name of a Kubernetes object."""
    version: str
    """The version of the host program."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels for placement; `hostgroup` is the one that deployed schedulers look at."""
    environment: str = ""
    """The environment that the host serves, empty when it serves none in particular."""
    http_port: int = 0
    """The bound port of the HTTP ingress; 0 means that there is none."""
    os_arch: str = ""
    """The processor architecture, for example `x86_64`."""
    os_name: str = ""
    """The operating system, for example `linux`."""
    os_kernel: str = ""
    """The kernel's release."""
    system_cpu_usage: float = 0.0
    """Load of all processors together in percent, 0 to 100."""
    system_memory_total: int = 0
    """Memory of the machine in bytes."""
    system_memory_free: int = 0
    """Free memory of the machine in bytes."""
    imports: Sequence[WitInterface] = ()
    """Interfaces that workloads may import from this host."""
    exports: Sequence[WitInterface] = ()
    """Interfaces that this host calls on workloads."""
    component_count: int = 0
    """Components of running workloads, services not counted."""


def is_dns_1123_subdomain(name: str) -> bool:
    """HOST-BEAT-006: the name becomes that of a Kubernetes object."""
    labels_fit = all(len(label) <= 63 for label in name.split("."))
    return len(name) <= _MAX_NAME_BYTES and labels_fit and _SUBDOMAIN.fullmatch(name) is not None
