"""How a running workload tells the SDK of its later life."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from berth.state import WorkloadState


@dataclass(frozen=True, slots=True)
class Report:
    """What a workload says of itself."""

    state: WorkloadState
    """STARTING, RUNNING, COMPLETED or ERROR."""
    message: str
    """For people."""
    was_up: bool
    """Whether it has ever claimed a state other than STARTING."""


class Reporter:
    """Tells the SDK what became of a workload. It never blocks, and any thread may call it.

    A report after the workload was stopped is ignored, so a task need not know whether it was.

    While `Host.start` is still under way, `starting` changes the message that `status` shows. When it returns,
    the state is RUNNING, unless this reporter has already said `running` or an end: then the latest report
    stands.

    The SDK makes one for each start; a test of a host makes its own: `Reporter(reports.append)`.
    """

    def __init__(self, deliver: Callable[[Report], object]) -> None:
        self._deliver = deliver
        self._was_up = False
        self._order = threading.Lock()

    def starting(self, message: str = "") -> None:
        """Not up, or not up again: STARTING, for example between two runs of a service."""
        self._send(WorkloadState.STARTING, message)

    def running(self, message: str = "") -> None:
        """Up: RUNNING."""
        self._send(WorkloadState.RUNNING, message)

    def completed(self, message: str = "") -> None:
        """Done, and well: COMPLETED.

        The SDK then hands the instance to `Host.stop`; the id stays visible until it is stopped.
        """
        self._send(WorkloadState.COMPLETED, message)

    def failed(self, message: str) -> None:
        """Over, and not well: ERROR with this message.

        The SDK then hands the instance to `Host.stop`; the id stays visible until it is stopped.
        """
        self._send(WorkloadState.ERROR, message)

    def _send(self, state: WorkloadState, message: str) -> None:
        with self._order:
            self._was_up = self._was_up or state is not WorkloadState.STARTING
            self._deliver(Report(state, message, self._was_up))
