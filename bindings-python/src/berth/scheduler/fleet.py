"""Live view of all hosts, based on heartbeats and probes."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager

from berth.bus import Bus
from berth.scheduler._liveness import Health
from berth.scheduler._watcher import FleetWatcher
from berth.scheduler.client import HostClient, Timeouts
from berth.scheduler.liveness_options import LivenessOptions
from berth.scheduler.view import EventsMissed, FleetEvent, FleetState, HostView

log = logging.getLogger("berth")

EVENT_BUFFER_SIZE = 1024
"""Maximum number of pending events of one reader; a slower reader gets `EventsMissed`."""


class Fleet:
    """All known hosts, including lost ones::

        async with connect(url) as bus, Fleet(bus) as fleet:
            async for event in fleet:
                match event:
                    case HostJoined(host): ...
                    case HostLost(host_id, reason): ...

    Hosts are discovered by their heartbeats only, so a new fleet is complete after one heartbeat interval: 15 s
    with a `wash host`, 30 s at most.

    The fleet is watched inside `async with`. `async for` over the fleet itself receives all events since the
    fleet was created; after an interruption, a new loop continues with the next event. `events` creates
    additional readers.
    """

    def __init__(self, bus: Bus, liveness: LivenessOptions | None = None) -> None:
        self._bus = bus
        self._readers: set[FleetEvents] = set()
        self._state = FleetState(self._publish)
        self._watcher = FleetWatcher(bus, liveness or LivenessOptions(), self._state)
        self._watch_task: asyncio.Task[None] | None = None
        # Number of starts in flight for each host, as announced by `expect_busy`.
        self._starts_in_flight: Counter[str] = Counter()
        self._first_reader = self.events()

    async def __aenter__(self) -> Fleet:
        """Starts watching. Raises `BusClosedError`."""
        await self._watcher.subscribe()
        self._watch_task = asyncio.create_task(self._watcher.run(), name="berth: fleet")
        self._watch_task.add_done_callback(self._on_watch_ended)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watch_task is not None:
            self._watch_task.cancel()
            await asyncio.wait({self._watch_task})

    def __aiter__(self) -> AsyncIterator[FleetEvent]:
        if self._watch_task is None:
            raise RuntimeError("the fleet is not being watched: use `async with Fleet(bus) as fleet`")
        return self._first_reader

    def hosts(self) -> list[HostView]:
        """Returns all hosts, sorted by ID, including lost hosts that are not yet forgotten."""
        return [host for _, host in sorted(self._state.hosts.items())]

    def host(self, host_id: str) -> HostView | None:
        """Returns one host, or `None` if it is unknown."""
        return self._state.hosts.get(host_id)

    def by_load(self) -> list[HostView]:
        """Returns the hosts that are not lost, fewest workloads first, suspect hosts last.

        The order is a starting point for placement, not a scheduler.
        """
        hosts = (host for host in self.hosts() if host.health is not Health.LOST)
        return sorted(hosts, key=lambda host: (host.health is not Health.ALIVE, host.heartbeat.workload_count))

    def client(self, host_id: str, timeouts: Timeouts | None = None) -> HostClient:
        """Returns a client for one host. Raises `InvalidHostIdError` if the ID is not a valid subject token."""
        return HostClient(self._bus, host_id, timeouts)

    def expect_busy(self, host_id: str, duration_s: float) -> AbstractContextManager[None]:
        """Marks a host as busy with a start, so that silence alone does not make it lost within `duration_s`.

        A `wash host` is silent while it pulls an image. As a context manager around the start, the call removes
        the mark when the start has a reply::

            with fleet.expect_busy(host.host_id, duration_s=60):
                await host.start(workload_id, workload)
        """
        self._watcher.set_busy_until(host_id, asyncio.get_running_loop().time() + duration_s)
        return self._busy_guard(host_id)

    @contextmanager
    def _busy_guard(self, host_id: str) -> Iterator[None]:
        self._starts_in_flight[host_id] += 1
        try:
            yield
        finally:
            self._starts_in_flight[host_id] -= 1
            if self._starts_in_flight[host_id] == 0:
                del self._starts_in_flight[host_id]
                self._watcher.set_idle(host_id)

    def events(self) -> FleetEvents:
        """Returns a new reader of all events from now on."""
        reader = FleetEvents(self._readers)
        self._readers.add(reader)
        return reader

    def _publish(self, event: FleetEvent) -> None:
        for reader in self._readers:
            reader._push(event)

    def _on_watch_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("stopped watching the fleet", exc_info=error)
        for reader in self._readers:
            reader._end()


class FleetEvents(AsyncIterator[FleetEvent]):
    """Events of a fleet, in order, until the fleet is no longer watched. Safe to cancel.

    `aclose`, or `async with contextlib.aclosing(…)`, closes this reader.
    """

    def __init__(self, readers: set[FleetEvents]) -> None:
        self._readers = readers
        self._pending: deque[FleetEvent] = deque(maxlen=EVENT_BUFFER_SIZE)
        self._missed = 0
        self._ended = False
        self._wakeup = asyncio.Event()

    def __aiter__(self) -> FleetEvents:
        return self

    async def __anext__(self) -> FleetEvent:
        while True:
            if self._missed:
                missed, self._missed = self._missed, 0
                return EventsMissed(missed)
            if self._pending:
                return self._pending.popleft()
            if self._ended:
                raise StopAsyncIteration
            self._wakeup.clear()
            await self._wakeup.wait()

    async def aclose(self) -> None:
        """Closes this reader."""
        self._readers.discard(self)
        self._end()

    def _push(self, event: FleetEvent) -> None:
        self._missed += len(self._pending) == EVENT_BUFFER_SIZE
        self._pending.append(event)
        self._wakeup.set()

    def _end(self) -> None:
        self._ended = True
        self._wakeup.set()
