"""The table of the host from workload ids to workloads."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable

from codec import Message
from workload import COMPLETED, ERROR, Environment, Workload

MAX_WORKLOADS = 10_000  # ids that are not in ERROR or COMPLETED; each costs a few kilobytes
MAX_ENDED = 2_000  # HOST-START-016, HOST-SVC-018: the oldest ids in ERROR or COMPLETED are forgotten


class IdTaken(Exception):  # noqa: N818 - an outcome of a request
    """A start for an id that is known."""


class TableFull(Exception):  # noqa: N818 - an outcome of a request
    """A start beyond the limit of the host."""


class Table:
    """Workloads by id, from the claim of the id until it is free again."""

    def __init__(self, environment: Environment) -> None:
        """Creates an empty table."""
        self._environment = environment
        self._workloads: OrderedDict[str, Workload] = OrderedDict()

    def start(self, workload_id: str, spec: Message) -> Workload:
        """HOST-START-003: claims the id before any other work."""
        holder = self._workloads.get(workload_id)
        if holder and (holder.state != ERROR or holder.ran_guest_code):  # HOST-START-017
            raise IdTaken
        self._workloads.pop(workload_id, None)
        ended = [item.id for item in self._workloads.values() if item.state in (ERROR, COMPLETED)]
        for forgotten in ended[: max(0, len(ended) - MAX_ENDED + 1)]:
            del self._workloads[forgotten]
        if len(self._workloads) >= MAX_WORKLOADS + MAX_ENDED:
            raise TableFull
        workload = Workload(workload_id, spec, self._environment)
        self._workloads[workload_id] = workload
        workload.begin()
        return workload

    def get(self, workload_id: str) -> Workload | None:
        """Returns the workload that holds an id."""
        return self._workloads.get(workload_id)

    def stop(self, workload_id: str) -> Workload | None:
        """Stops a workload, and frees its id when it has ended."""
        workload = self._workloads.get(workload_id)
        if workload:
            workload.stop().add_done_callback(lambda _: self._free(workload))
        return workload

    def _free(self, workload: Workload) -> None:
        if self._workloads.get(workload.id) is workload:
            del self._workloads[workload.id]

    async def stop_all(self, seconds: float) -> None:
        """HOST-DOWN-005: stops all workloads concurrently."""
        endings = {workload.stop() for workload in self._workloads.values()}
        if endings:
            await asyncio.wait(endings, timeout=seconds)

    def running(self) -> Iterable[Workload]:
        """HOST-BEAT-009: returns the workloads that run, including those between two runs of a service."""
        return [workload for workload in self._workloads.values() if workload.counted]
