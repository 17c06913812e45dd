"""A live view of all hosts, from their heartbeats and from probes."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager

from berth.bus import Bus
from berth.scheduler._liveness import Health
from berth.scheduler._watch import Watch
from berth.scheduler.client import HostClient, Timeouts
from berth.scheduler.liveness_options import LivenessOptions
from berth.scheduler.view import FleetEvent, HostView, Missed, Views

log = logging.getLogger("berth")

MAX_EVENTS_BEHIND = 1024
"""Events that one reader may be behind; a slower one is told how many it missed."""


class Fleet:
    """All hosts that are or were there::

        async with connect(url) as bus, Fleet(bus) as fleet:
            async for event in fleet:
                match event:
                    case Joined(host): ...
                    case Lost(host_id, reason): ...

    Hosts are learnt of by their heartbeats only, so a new fleet is complete after one interval: 15 s with
    deployed hosts, 30 s at most.

    Watching begins with `async with`, and ends with it. `async for` over the fleet itself begins with the first
    host and may be left and taken up again; `events` makes further readers.
    """

    def __init__(self, bus: Bus, liveness: LivenessOptions | None = None) -> None:
        self._bus = bus
        self._readers: set[FleetEvents] = set()
        self._views = Views(self._tell)
        self._watch = Watch(bus, liveness or LivenessOptions(), self._views)
        self._watching: asyncio.Task[None] | None = None
        # Starts that were expected to keep a host busy, and are not answered yet.
        self._starts: Counter[str] = Counter()
        self._first = self.events()

    async def __aenter__(self) -> Fleet:
        """Begins to watch. Raises `BusClosed`."""
        await self._watch.begin()
        self._watching = asyncio.create_task(self._watch.run(), name="berth: watches the fleet")
        self._watching.add_done_callback(self._end)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})

    def __aiter__(self) -> AsyncIterator[FleetEvent]:
        if self._watching is None:
            raise RuntimeError("a fleet is watched within `async with Fleet(bus) as fleet`")
        return self._first

    def hosts(self) -> list[HostView]:
        """All hosts, the lost ones that are still remembered included, in the order of their ids."""
        return [host for _, host in sorted(self._views.hosts.items())]

    def host(self, host_id: str) -> HostView | None:
        """One host."""
        return self._views.hosts.get(host_id)

    def by_load(self) -> list[HostView]:
        """The hosts that are not lost, fewest workloads first, those that are suspect at the end.

        A first idea of where to place something, not a scheduler.
        """
        hosts = (host for host in self.hosts() if host.health is not Health.LOST)
        return sorted(hosts, key=lambda host: (host.health is not Health.ALIVE, host.heartbeat.workload_count))

    def client(self, host_id: str, timeouts: Timeouts | None = None) -> HostClient:
        """A client for one host. Raises `BadHostId` for an id that cannot stand in a subject."""
        return HostClient(self._bus, host_id, timeouts)

    def expect_busy(self, host_id: str, for_s: float) -> AbstractContextManager[None]:
        """Notes that a host is given a start and may be silent over it for so long.

        It is not lost for its silence before. A `wash host` is silent while it pulls. Around the start, the
        expectation ends with its answer::

            with fleet.expect_busy(host.host_id, for_s=60):
                await host.start(workload_id, workload)
        """
        self._watch.busy_until(host_id, asyncio.get_running_loop().time() + for_s)
        return self._busy_with(host_id)

    @contextmanager
    def _busy_with(self, host_id: str) -> Iterator[None]:
        self._starts[host_id] += 1
        try:
            yield
        finally:
            self._starts[host_id] -= 1
            if self._starts[host_id] == 0:
                del self._starts[host_id]
                self._watch.idle(host_id)

    def events(self) -> FleetEvents:
        """Events from now on, for one more reader."""
        reader = FleetEvents(self._readers)
        self._readers.add(reader)
        return reader

    def _tell(self, event: FleetEvent) -> None:
        for reader in self._readers:
            reader._push(event)

    def _end(self, watching: asyncio.Task[None]) -> None:
        if not watching.cancelled() and (error := watching.exception()) is not None:
            log.error("the fleet is no longer watched", exc_info=error)
        for reader in self._readers:
            reader._end()


class FleetEvents(AsyncIterator[FleetEvent]):
    """The events of a fleet, in order; they end when it is no longer watched. Cancel safe.

    `aclose`, or `async with contextlib.aclosing(…)`, ends them for this reader.
    """

    def __init__(self, readers: set[FleetEvents]) -> None:
        self._readers = readers
        self._waiting: deque[FleetEvent] = deque(maxlen=MAX_EVENTS_BEHIND)
        self._missed = 0
        self._ended = False
        self._news = asyncio.Event()

    def __aiter__(self) -> FleetEvents:
        return self

    async def __anext__(self) -> FleetEvent:
        while True:
            if self._missed:
                missed, self._missed = self._missed, 0
                return Missed(missed)
            if self._waiting:
                return self._waiting.popleft()
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()

    async def aclose(self) -> None:
        """Ends the events for this reader."""
        self._readers.discard(self)
        self._end()

    def _push(self, event: FleetEvent) -> None:
        self._missed += len(self._waiting) == MAX_EVENTS_BEHIND
        self._waiting.append(event)
        self._news.set()

    def _end(self) -> None:
        self._ended = True
        self._news.set()
