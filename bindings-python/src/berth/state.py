"""States of a workload."""

from __future__ import annotations

import enum


class WorkloadState(enum.IntEnum):
    """State of a workload; the numbers are those of the schema."""

    UNSPECIFIED = 0
    """Not set; never part of a valid reply."""
    STARTING = 1
    """The ID is claimed; the host pulls images, or a failed service waits to be restarted. Not a failure."""
    RUNNING = 2
    """The workload runs and its endpoints are reachable."""
    COMPLETED = 3
    """The service ended successfully; no part of the workload runs or is reachable."""
    STOPPING = 4
    """The host accepted the stop but has not finished it. Poll `status`."""
    ERROR = 5
    """The workload could not be started, or its service failed permanently; the message has the reason."""
    NOT_FOUND = 6
    """The host process has no workload under this ID. After a stop, this proves that the stop is complete."""

    @property
    def proto_name(self) -> str:
        """The name on the wire, for example `WORKLOAD_STATE_RUNNING`."""
        return f"WORKLOAD_STATE_{self.name}"
