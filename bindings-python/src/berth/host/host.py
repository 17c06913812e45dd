"""The interface that a host author implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from berth.host.description import Description
from berth.host.status_reporter import StatusReporter
from berth.proto import Workload

Instance = TypeVar("Instance")


@dataclass(frozen=True, slots=True)
class StartRequest:
    """Request to start a workload under the ID that the scheduler chose."""

    id: str
    """ID of the workload, byte for byte as the scheduler sent it: any text of 1 to 256 bytes."""
    workload: Workload
    """Workload to start. It may contain registry credentials; its `repr` hides them."""
    reporter: StatusReporter = field(repr=False)
    """Reports later state changes of this workload to the SDK."""


class Host(ABC, Generic[Instance]):
    """A host, as implemented by its author; `serve` handles the protocol.

    The SDK manages IDs, states and replies. It never starts an ID that the host already runs, and passes each
    instance that `start` returned to `stop` exactly once. The methods are called concurrently for different
    workloads, all on the event loop of `serve`. Code that blocks the loop also delays heartbeats; run it in
    `asyncio.to_thread`.

    `Instance` is the type of a started workload: all data needed to run and to stop it.
    """

    @abstractmethod
    def describe(self) -> Description:
        """Returns the heartbeat fields that the SDK cannot know.

        Called before each heartbeat and for each `heartbeat` request. It must return immediately, so collect
        measurements in the background. `hostname`, `friendly_name`, `version` and `environment` are fixed by
        the first call for the lifetime of the process.
        """

    @abstractmethod
    async def start(self, request: StartRequest) -> Instance:
        """Starts a workload. Its routes and subscriptions must be active when this returns.

        It may take any amount of time; meanwhile the scheduler receives STARTING. If the workload is stopped
        before this returns, the call is cancelled at its next `await`; release its resources with `finally` or
        `async with`.

        Raises `StartError` with a message for the scheduler. Any other exception is logged, its text is not
        sent to the scheduler, and the start counts as non-retryable.
        """

    @abstractmethod
    async def stop(self, instance: Instance) -> None:
        """Stops a workload and releases its resources: guest code, routes, subscriptions, memory, directories.

        Called exactly once for each instance: on a stop command, at shutdown, or after
        `StatusReporter.completed` or `StatusReporter.failed`. When it returns, the ID is free.
        """
