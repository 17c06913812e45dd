"""What a host author writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from berth.host.description import Description
from berth.host.reporter import Reporter
from berth.proto import Workload

Instance = TypeVar("Instance")


@dataclass(frozen=True, slots=True)
class Start:
    """A workload to bring up, with the id under which the scheduler knows it."""

    id: str
    """The id, byte for byte as the scheduler sent it: any text of 1 to 256 bytes."""
    workload: Workload
    """What to run. It may carry registry credentials; its `repr` does not show them."""
    reporter: Reporter = field(repr=False)
    """Tells the SDK of this workload's later life."""


class Host(ABC, Generic[Instance]):
    """What a host author writes; everything between this class and the bus is done by `serve`.

    The SDK decides about ids, states and replies. The host is asked only for work that is due: it is never
    asked to start an id that it already has, and each instance it returned is handed back to `stop` exactly
    once. Methods are called concurrently for different workloads, all on the event loop of `serve`: whatever
    blocks it blocks heartbeats, too, and belongs into `asyncio.to_thread`.

    `Instance` is whatever must be kept to serve a started workload and to end it.
    """

    @abstractmethod
    def describe(self) -> Description:
        """Everything of a heartbeat that the SDK cannot know.

        Called before each heartbeat and for each `heartbeat` request. It must return at once: sample in the
        background. What it says of `hostname`, `friendly_name`, `version` and `environment` first stands for
        the life of the process.
        """

    @abstractmethod
    async def start(self, start: Start) -> Instance:
        """Brings a workload up. Routes and subscriptions must be live when this returns.

        It may take as long as it needs: the caller is answered with STARTING meanwhile. When the workload is
        stopped before it is up, it is cancelled at its next await; whatever it holds must be released by
        `finally` or `async with`.

        Raises `Refusal` with what the scheduler is to read. Any other exception is logged and answered with
        an error that does not quote it, and the id counts as one of which guest code has run.
        """

    @abstractmethod
    async def stop(self, instance: Instance) -> None:
        """Ends a workload: guest execution, routes, subscriptions, memory, directories.

        Called once for each instance: on a stop command, at shutdown, and after the host itself reported
        `Reporter.completed` or `Reporter.failed`. When it returns, the id is free.
        """
