"""A host's description of itself, sent in heartbeats."""

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
    """Heartbeat fields that the SDK cannot know.

    A value that cannot be encoded is left out of the heartbeat and logged. In the first description, only the
    measurements may have such a value.

    The SDK adds `id`, `started_at` and `workload_count`. `hostname`, `friendly_name`, `version` and
    `environment` are fixed by the first description (HOST-BEAT-007).
    """

    hostname: str
    """Name or address at which clients reach the host's ingress, without the port."""
    friendly_name: str
    """DNS-1123 subdomain, unique in the fleet; used as the name of a Kubernetes object."""
    version: str
    """Version of the host program."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels for placement; the wasmCloud operator uses `hostgroup`."""
    environment: str = ""
    """Environment that the host belongs to; empty if none."""
    http_port: int = 0
    """Bound port of the HTTP ingress; 0 if the host has none."""
    os_arch: str = ""
    """Processor architecture, for example `x86_64`."""
    os_name: str = ""
    """Operating system, for example `linux`."""
    os_kernel: str = ""
    """Kernel release."""
    system_cpu_usage: float = 0.0
    """Load of all processors combined, 0 to 100 percent; NaN if unknown."""
    system_memory_total: int = 0
    """Total memory of the machine, in bytes."""
    system_memory_free: int = 0
    """Free memory of the machine, in bytes."""
    imports: Sequence[WitInterface] = ()
    """Interfaces that workloads may import from this host."""
    exports: Sequence[WitInterface] = ()
    """Interfaces that this host calls on workloads."""
    component_count: int = 0
    """Number of components of running workloads, not counting services."""


def is_dns_1123_subdomain(name: str) -> bool:
    """Returns whether a name is valid for a Kubernetes object (HOST-BEAT-006)."""
    labels_valid = all(len(label) <= 63 for label in name.split("."))
    return len(name) <= _MAX_NAME_BYTES and labels_valid and _SUBDOMAIN.fullmatch(name) is not None
