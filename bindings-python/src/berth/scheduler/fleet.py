"""Live view of all hosts, based on heartbeats and probes."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager

from berth.bus import Bus
from berth.errors import FleetStateError, InvalidOptionError
from berth.scheduler._liveness import Health
from berth.scheduler._watcher import FleetWatcher
from berth.scheduler.client import HostClient, Timeouts
from berth.scheduler.liveness_options import LivenessOptions
from berth.scheduler.view import EventsMissed, FleetEvent, FleetState, HostView

log = logging.getLogger("berth")

_NOT_ENTERED = "the fleet is not being watched: use `async with Fleet(bus) as fleet`"

EVENT_BUFFER_SIZE = 1024
"""Maximum number of pending events of one reader; a slower reader gets `EventsMissed`."""


class Fleet:
    """All known hosts, including lost ones::

        async with connect(url) as bus, Fleet(bus) as fleet:
            async for event in fleet:
                match event:
                    case HostJoined(host): ...
                    case HostLost(host_id, reason): ...

    A new fleet asks for hosts: those with the label `berth.dev/discover`, such as the hosts of `serve`, join
    within about a second. The others are discovered by their next heartbeat: within 15 s with a `wash host`,
    30 s at most.

    The fleet is watched inside `async with`, which can be entered once. `async for` over the fleet itself
    receives all events; after an interruption, a new loop continues with the next event. `events` creates
    additional readers. All readers end when the fleet or its bus ends.
    """

    def __init__(self, bus: Bus, liveness: LivenessOptions | None = None) -> None:
        self._bus = bus
        self._readers: set[FleetEvents] = set()
        self._state = FleetState(self._publish)
        self._watcher = FleetWatcher(bus, liveness or LivenessOptions(), self._state)
        self._watch_task: asyncio.Task[None] | None = None
        self._is_entered = self._is_ended = False
        self._first_reader = self.events()

    async def __aenter__(self) -> Fleet:
        """Starts watching. Raises `BusClosedError`."""
        if self._is_entered:
            raise FleetStateError("the fleet has been watched before: create another one")
        self._is_entered = True
        try:
            await self._watcher.subscribe()
        except BaseException:
            self._end()
            raise
        self._watch_task = asyncio.create_task(self._watcher.run(), name="berth: fleet")
        self._watch_task.add_done_callback(self._on_watch_ended)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watch_task is not None:
            self._watch_task.cancel()
            await asyncio.wait({self._watch_task})

    def __aiter__(self) -> AsyncIterator[FleetEvent]:
        if not self._is_entered:
            raise FleetStateError(_NOT_ENTERED)
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

        A `wash host` is silent while it pulls an image. The mark lasts as long as the `with` block; without
        `with`, the call has no effect. Starts may overlap; the latest of their deadlines counts::

            with fleet.expect_busy(host.host_id, duration_s=60):
                await host.start(workload_id, workload)

        Raises `InvalidOptionError` if the duration is not a number of seconds.
        """
        if not 0 <= duration_s < math.inf:
            raise InvalidOptionError("duration_s", "must be a number of seconds, 0 or more")
        return self._watcher.expect_busy(host_id, duration_s)

    def events(self) -> FleetEvents:
        """Returns a new reader of all events from now on.

        It begins with a `HostJoined` for each host that is not lost, and a `HostSuspect` for each suspect one,
        so that no change is missed between `hosts` and the first event.
        """
        reader = FleetEvents(self._readers, lambda: self._is_entered, self._state.present_hosts())
        if self._is_ended:
            reader._end()
        else:
            self._readers.add(reader)
        return reader

    def _publish(self, event: FleetEvent) -> None:
        for reader in self._readers:
            reader._push(event)

    def _on_watch_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("stopped watching the fleet", exc_info=error)
        self._end()

    def _end(self) -> None:
        self._is_ended = True
        for reader in self._readers:
            reader._end()
        self._readers.clear()


class FleetEvents(AsyncIterator[FleetEvent]):
    """Events of a fleet, in order, until the fleet is no longer watched. Safe to cancel.

    Raises `FleetStateError` if the fleet is not watched yet: its events would never come.

    `aclose`, or `async with contextlib.aclosing(…)`, closes this reader.
    """

    def __init__(
        self, readers: set[FleetEvents], is_entered: Callable[[], bool], first_events: list[FleetEvent]
    ) -> None:
        self._readers = readers
        self._is_entered = is_entered
        # The first events do not count.
        self._pending = deque(first_events, maxlen=len(first_events) + EVENT_BUFFER_SIZE)
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
            if not self._is_entered():
                raise FleetStateError(_NOT_ENTERED)
            self._wakeup.clear()
            await self._wakeup.wait()

    async def aclose(self) -> None:
        """Closes this reader."""
        self._readers.discard(self)
        self._end()

    def _push(self, event: FleetEvent) -> None:
        self._missed += len(self._pending) == self._pending.maxlen
        self._pending.append(event)
        self._wakeup.set()

    def _end(self) -> None:
        self._ended = True
        self._wakeup.set()
