"""Listens, probes, keeps time, and lets liveness judge."""

from __future__ import annotations

import asyncio
import logging

from berth import _subject
from berth.bus import Bus, Delivery, Link, Subscription
from berth.encoding import read
from berth.errors import BerthError, BusClosed, Malformed, NoResponders, ReadError, Refused
from berth.proto import HostHeartbeat
from berth.scheduler._liveness import (
    TICK_S,
    Answered,
    BusyUntil,
    Event,
    Forget,
    Heartbeat,
    Idle,
    LinkDown,
    LinkUp,
    Liveness,
    NoAnswer,
    NobodyListens,
    Probe,
    Tell,
    Tick,
)
from berth.scheduler.client import HostClient, Timeouts
from berth.scheduler.liveness_options import LivenessOptions
from berth.scheduler.view import Views

log = logging.getLogger("berth")

MAX_HOSTS = 10_000
"""Hosts that are kept in view; beyond this somebody is making them up."""

PROBE_TIMEOUT_S = 5.0
"""How long a probe waits for an answer."""

PROBE_ID = "berth-probe"
"""The id that probes ask for. No workload should be called so; if one is, nothing happens to it."""


class Watch:
    """The loop behind a fleet."""

    def __init__(self, bus: Bus, options: LivenessOptions, views: Views) -> None:
        self._bus = bus
        self._views = views
        self._liveness = Liveness(options)
        self._loop = asyncio.get_running_loop()
        self._seen = Link()
        self._subscription: Subscription | None = None
        self._probes: set[asyncio.Task[None]] = set()

    async def begin(self) -> None:
        """Begins to listen. Raises `BusClosed`."""
        self._subscription = await self._bus.subscribe(_subject.all_heartbeats(), self._heartbeat)

    async def run(self) -> None:
        """Keeps time until the connection is closed."""
        try:
            while not self._bus.is_closed:
                self._look_at_link()
                self._step(Tick())
                await asyncio.sleep(TICK_S)
            log.warning("the connection was closed; no longer watching")
        finally:
            for probe in self._probes:
                probe.cancel()
            if self._subscription is not None:
                await self._subscription.drain(1)

    def idle(self, host_id: str) -> None:
        """The host has answered all starts that it was given."""
        self._step(Idle(host_id))

    def busy_until(self, host_id: str, until_s: float) -> None:
        """The host may be silent until then, by the clock of the event loop."""
        self._step(BusyUntil(host_id, until_s))

    def _heartbeat(self, delivery: Delivery) -> None:
        host_id = _subject.parse_heartbeat(delivery.subject)
        if host_id is None:
            return
        try:
            heartbeat = read(HostHeartbeat, delivery.payload)
        except ReadError as error:
            log.warning("a heartbeat of %r cannot be read: %s", host_id, error)
            return
        if heartbeat.id != host_id:
            log.warning("a heartbeat holds another id than its subject, %r", host_id)
            return
        if host_id not in self._views.hosts and len(self._liveness) >= MAX_HOSTS:
            log.warning("there are too many hosts; %r is left out", host_id)
            return
        self._views.beat(heartbeat, self._loop.time())
        self._step(Heartbeat(host_id))

    def _look_at_link(self) -> None:
        """A connection that went and came back between two looks is two events."""
        link, seen = self._bus.link, self._seen
        self._seen = link
        if link.connects != seen.connects:
            self._step(LinkUp())
        if not link.connected and link != seen:
            self._step(LinkDown())

    def _step(self, event: Event) -> None:
        for action in self._liveness.step(self._loop.time(), event):
            match action:
                case Probe(host_id):
                    task = self._loop.create_task(self._probe(host_id))
                    self._probes.add(task)
                    task.add_done_callback(self._probes.discard)
                case Tell(host_id, health, reason):
                    self._views.judge(host_id, health, reason)
                case Forget(host_id):
                    self._views.hosts.pop(host_id, None)

    async def _probe(self, host_id: str) -> None:
        """`status` and not `heartbeat`, which disturbs the load that a `wash host` measures."""
        try:
            await HostClient(self._bus, host_id, Timeouts(status_s=PROBE_TIMEOUT_S)).status(PROBE_ID)
        except (Refused, Malformed):
            pass
        except NoResponders:
            self._step(NobodyListens(host_id))
            return
        except BusClosed:
            return
        except BerthError:
            self._step(NoAnswer(host_id))
            return
        self._step(Answered(host_id))
