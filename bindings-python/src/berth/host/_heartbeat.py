"""Content and timing of heartbeats."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from contextlib import suppress
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from berth import _subject, proto
from berth.bus import Bus, ConnectionState
from berth.encoding import encode
from berth.errors import BerthError, DisconnectedError, ServeError
from berth.host._executor import Executor
from berth.host.description import Description, is_dns_1123_subdomain
from berth.host.host import Host

log = logging.getLogger("berth")

_FLUSH_TIMEOUT_S = 24 * 3600.0
"""Timeout for delivering a heartbeat; a broken connection ends the wait earlier."""

_REPEAT_DELAY_S = 1.3
"""Delay before a heartbeat that was interrupted by a reconnect is repeated.

The delay is more than 1 s, because two heartbeats within 1 s are a burst (HOST-BEAT-004), and less than 2 s,
because a later heartbeat is too late after a reconnect (HOST-RESIL-002)."""


class HeartbeatPublisher:
    """Publishes the heartbeats of one host."""

    def __init__(self, host: Host[Any], executor: Executor, host_id: str) -> None:
        self._host = host
        self._executor = executor
        self._host_id = host_id
        # The first description; its identifying fields never change (HOST-BEAT-007).
        self._identity = host.describe()
        self._started_at = _now()
        if not self._identity.hostname or not self._identity.version:
            raise ServeError("invalid host description: `hostname` and `version` must not be empty")
        if not is_dns_1123_subdomain(self._identity.friendly_name):
            name = self._identity.friendly_name
            raise ServeError(f"friendly name {name!r} is not a DNS-1123 subdomain of at most 253 characters")
        encode(self._heartbeat(self._identity))  # fails early if the description cannot be encoded

    async def run(self, bus: Bus, interval_s: float, stop: asyncio.Event) -> None:
        """Publishes a heartbeat immediately, at each interval, and after each reconnect, until `stop` is set.

        Publishes nothing while disconnected, so that no burst follows a reconnect (HOST-RESIL-004).
        """
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            before = await bus.wait_for_state(lambda state: state.connected)
            began_s = loop.time()
            await self._publish(bus)
            after = bus.connection_state
            next_s = began_s + interval_s
            if after.generation != before.generation:
                # The connection broke during this heartbeat, which may or may not have arrived. Repeat it
                # soon, but not so soon that the two are a burst.
                next_s = loop.time() + _REPEAT_DELAY_S
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_s):
                    await _next_connection(bus, after)

    def payload(self) -> bytes | None:
        """Returns the current heartbeat as JSON, or `None` if the host cannot describe itself."""
        try:
            return encode(self._heartbeat(self._host.describe()))
        except Exception:
            log.exception("cannot describe the host")
            return None

    async def _publish(self, bus: Bus) -> None:
        payload = self.payload()
        if payload is None:
            return
        try:
            # The command subscription was sent earlier on this connection, so it is active before the
            # heartbeat arrives (HOST-WIRE-014).
            await bus.publish(_subject.heartbeat(self._host_id), payload)
            await bus.flush(_FLUSH_TIMEOUT_S)
        except DisconnectedError:
            log.debug("connection broke while a heartbeat was in flight")
        except BerthError as error:
            log.warning("cannot send heartbeat: %s", error)

    def _heartbeat(self, description: Description) -> proto.HostHeartbeat:
        cpu_usage = description.system_cpu_usage
        return proto.HostHeartbeat(
            id=self._host_id,
            hostname=self._identity.hostname,
            friendly_name=self._identity.friendly_name,
            version=self._identity.version,
            labels=description.labels,
            started_at=self._started_at,
            os_arch=description.os_arch,
            os_name=description.os_name,
            os_kernel=description.os_kernel,
            # JSON has no NaN and no infinity, and null is not allowed.
            system_cpu_usage=cpu_usage if math.isfinite(cpu_usage) else 0.0,
            system_memory_total=description.system_memory_total,
            system_memory_free=description.system_memory_free,
            component_count=description.component_count,
            workload_count=self._executor.workload_count(),
            imports=description.imports,
            exports=description.exports,
            http_port=description.http_port,
            environment=self._identity.environment,
        )


async def _next_connection(bus: Bus, current: ConnectionState) -> None:
    await bus.wait_for_state(lambda state: state.generation > current.generation)


def _now() -> Timestamp:
    milliseconds = time.time_ns() // 1_000_000
    return Timestamp(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)
