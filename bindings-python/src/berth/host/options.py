"""Options for serving a host."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

MIN_HEARTBEAT_INTERVAL_S = 1.0
"""Shortest heartbeat interval; schedulers consider faster heartbeats a burst (HOST-BEAT-004)."""

MAX_HEARTBEAT_INTERVAL_S = 30.0
"""Longest heartbeat interval; schedulers consider a host with slower heartbeats lost (HOST-BEAT-003)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeOptions:
    """Options of `serve`."""

    host_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    """ID of the host: one subject token of letters, digits, `-` and `_`, which no other host process uses."""
    heartbeat_interval_s: float = 15.0
    """Interval between heartbeats, 1 s to 30 s."""
    shutdown_grace_s: float = 5.0
    """Time to stop all workloads at shutdown, in seconds."""
