"""Watches the fleet: receives heartbeats, sends probes, and drives the liveness core."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from berth import _subject
from berth._log_limit import LimitedLog
from berth.bus import Bus, ConnectionState, Delivery, Subscription
from berth.encoding import decode
from berth.errors import (
    BerthError,
    BusClosedError,
    DecodeError,
    InvalidResponseError,
    NoRespondersError,
    RefusedError,
)
from berth.proto import HostHeartbeat
from berth.scheduler._discovery import Discovery
from berth.scheduler._liveness import (
    TICK_S,
    BusyUntil,
    Connected,
    Disconnected,
    Event,
    Forget,
    Health,
    HeartbeatReceived,
    Liveness,
    Probe,
    ProbeNoResponders,
    ProbeReplied,
    ProbeTimedOut,
    SetHealth,
    Tick,
)
from berth.scheduler.client import HostClient, Timeouts
from berth.scheduler.liveness_options import LivenessOptions
from berth.scheduler.view import FleetState

log = logging.getLogger("berth")

MAX_HOSTS = 10_000
"""Maximum number of tracked hosts; more can only come from a peer that invents host IDs."""

PROBE_TIMEOUT_S = 5.0
"""Timeout of a probe."""

PROBE_ID = "berth-probe"
"""Workload ID in probes. No workload should use it; if one does, the probe has no effect on it."""


class FleetWatcher:
    """The task behind a fleet."""

    def __init__(self, bus: Bus, options: LivenessOptions, state: FleetState) -> None:
        self._bus = bus
        self._state = state
        self._liveness = Liveness(options)
        self._loop = asyncio.get_running_loop()
        self._connection = ConnectionState()
        self._subscription: Subscription | None = None
        self._probes: set[asyncio.Task[None]] = set()
        # Deadline of each start in flight, by host.
        self._busy_until_s: dict[str, list[float]] = {}
        self._limited_log = LimitedLog(log)

    async def subscribe(self) -> None:
        """Subscribes to heartbeats. Raises `BusClosedError`."""
        self._subscription = await self._bus.subscribe(_subject.all_heartbeats(), self._on_heartbeat)

    async def run(self) -> None:
        """Asks for hosts, and ticks until the bus is closed."""
        discovery = asyncio.create_task(Discovery(self._bus, self._is_present, self._apply_heartbeat).run())
        try:
            while not self._bus.is_closed:
                self._check_connection()
                self._step(Tick())
                await asyncio.sleep(TICK_S)
            log.warning("stopped watching the fleet: the connection is closed")
        finally:
            self._limited_log.close()
            discovery.cancel()
            for probe in self._probes:
                probe.cancel()
            if self._subscription is not None:
                await self._subscription.drain(1)

    @contextmanager
    def expect_busy(self, host_id: str, duration_s: float) -> Iterator[None]:
        """Records that a start is in flight on the host, for at most `duration_s`."""
        starts = self._busy_until_s.setdefault(host_id, [])
        until_s = self._loop.time() + duration_s
        starts.append(until_s)
        self._update_busy(host_id)
        try:
            yield
        finally:
            starts.remove(until_s)
            self._update_busy(host_id)

    def _update_busy(self, host_id: str) -> None:
        starts = self._busy_until_s.get(host_id)
        if not starts:
            self._busy_until_s.pop(host_id, None)
        self._step(BusyUntil(host_id, max(starts or [self._loop.time()])))

    def _on_heartbeat(self, delivery: Delivery) -> None:
        host_id = _subject.parse_heartbeat(delivery.subject)
        if host_id is None:
            return
        try:
            heartbeat = decode(HostHeartbeat, delivery.payload)
        except DecodeError as error:
            self._limited_log.warning("cannot decode heartbeat of host %r: %s", host_id, error)
            return
        if heartbeat.id != host_id:
            self._limited_log.warning(
                "ignoring heartbeat on the subject of host %r: it has another ID", host_id
            )
            return
        self._apply_heartbeat(heartbeat)

    def _apply_heartbeat(self, heartbeat: HostHeartbeat) -> None:
        host_id = heartbeat.id
        if host_id not in self._state.hosts and len(self._liveness) >= MAX_HOSTS:
            self._limited_log.warning("ignoring host %r: too many hosts", host_id)
            return
        self._state.record_heartbeat(heartbeat, self._loop.time())
        self._step(HeartbeatReceived(host_id))
        if host_id in self._busy_until_s:  # the start may have been announced before the host was known
            self._update_busy(host_id)

    def _is_present(self, host_id: str) -> bool:
        host = self._state.hosts.get(host_id)
        return host is not None and host.health is not Health.LOST

    def _check_connection(self) -> None:
        """Reports connects and disconnects since the last check; a reconnect in between counts as a connect."""
        current, previous = self._bus.connection_state, self._connection
        self._connection = current
        if current.generation != previous.generation:
            self._step(Connected())
        if not current.connected and current != previous:
            self._step(Disconnected())

    def _step(self, event: Event) -> None:
        for action in self._liveness.step(self._loop.time(), event):
            match action:
                case Probe(host_id):
                    task = self._loop.create_task(self._probe(host_id))
                    self._probes.add(task)
                    task.add_done_callback(self._probes.discard)
                case SetHealth(host_id, health, reason):
                    self._state.record_health(host_id, health, reason)
                case Forget(host_id):
                    self._state.hosts.pop(host_id, None)

    async def _probe(self, host_id: str) -> None:
        """Probes with `status`, because `heartbeat` would distort the load measurement of a `wash host`."""
        try:
            await HostClient(self._bus, host_id, Timeouts(status_s=PROBE_TIMEOUT_S)).status(PROBE_ID)
        except (RefusedError, InvalidResponseError):
            pass
        except NoRespondersError:
            self._step(ProbeNoResponders(host_id))
            return
        except BusClosedError:
            return
        except BerthError:
            self._step(ProbeTimedOut(host_id))
            return
        self._step(ProbeReplied(host_id))
