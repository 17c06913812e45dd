"""Reports of a running workload's later state changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from berth.state import WorkloadState


@dataclass(frozen=True, slots=True)
class StatusReport:
    """A state change of a workload."""

    state: WorkloadState
    """STARTING, RUNNING, COMPLETED or ERROR."""
    message: str
    """Human-readable detail."""
    has_run: bool
    """Whether the workload has ever run: this or an earlier report has a state other than STARTING."""


class StatusReporter:
    """Reports later state changes of a workload to the SDK. Thread safe; never blocks.

    A report for a stopped workload is ignored, so a task need not know whether the workload was stopped.

    While `Host.start` is in flight, `starting` changes the message that `status` returns. When `Host.start`
    returns, the state becomes RUNNING. If `running`, `completed` or `failed` was called before, the latest
    report determines the state instead.

    The SDK creates one reporter for each start. A test of a host creates its own:
    `StatusReporter(reports.append)`.
    """

    def __init__(self, deliver: Callable[[StatusReport], object]) -> None:
        self._deliver = deliver
        self._has_run = False
        self._lock = threading.Lock()

    def starting(self, message: str = "") -> None:
        """Reports STARTING: the workload is not running yet, or a failed service waits to be restarted."""
        self._report(WorkloadState.STARTING, message)

    def running(self, message: str = "") -> None:
        """Reports RUNNING: the workload is running."""
        self._report(WorkloadState.RUNNING, message)

    def completed(self, message: str = "") -> None:
        """Reports COMPLETED: the workload ended successfully.

        The SDK then passes the instance to `Host.stop`; the ID stays visible until it is stopped.
        """
        self._report(WorkloadState.COMPLETED, message)

    def failed(self, message: str) -> None:
        """Reports ERROR: the workload failed permanently, with this message.

        The SDK then passes the instance to `Host.stop`; the ID stays visible until it is stopped.
        """
        self._report(WorkloadState.ERROR, message)

    def _report(self, state: WorkloadState, message: str) -> None:
        with self._lock:
            self._has_run = self._has_run or state is not WorkloadState.STARTING
            self._deliver(StatusReport(state, message, self._has_run))
