"""The states of a workload."""

from __future__ import annotations

import enum


class WorkloadState(enum.IntEnum):
    """Where a workload is in its life; the numbers are those of the schema."""

    UNSPECIFIED = 0
    """Not set; no answer holds it."""
    STARTING = 1
    """The id is taken; images are fetched, or a service waits for its next run. No failure."""
    RUNNING = 2
    """It runs, and what it serves can be reached."""
    COMPLETED = 3
    """Its service ended well; nothing of it runs or can be reached."""
    STOPPING = 4
    """The stop was taken, the end is not proved. Ask again."""
    ERROR = 5
    """It could not be started, or its service failed for good; the message says why."""
    NOT_FOUND = 6
    """The host's process has nothing under this id. Proves the end of a stop."""

    @property
    def proto_name(self) -> str:
        """The name on the wire, for example `WORKLOAD_STATE_RUNNING`."""
        return f"WORKLOAD_STATE_{self.name}"
