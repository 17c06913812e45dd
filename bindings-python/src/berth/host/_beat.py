"""The heartbeat: what it says and when."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from contextlib import suppress
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from berth import _subject, proto
from berth.bus import Bus, Link
from berth.encoding import write
from berth.errors import BerthError, Disconnected, ServeError
from berth.host._runs import Runs
from berth.host.description import Description, is_dns_1123_subdomain
from berth.host.host import Host

log = logging.getLogger("berth")

_OUTAGE_S = 24 * 3600.0
"""How long to wait for a heartbeat to arrive; a connection that breaks ends it sooner."""

_APART_S = 1.3
"""Two heartbeats within a second are a burst (HOST-BEAT-004), and a late one after a reconnect is missed after
two (HOST-RESIL-002)."""


class Heart:
    """Says that the host is there."""

    def __init__(self, host: Host[Any], runs: Runs, host_id: str) -> None:
        self._host = host
        self._runs = runs
        self._host_id = host_id
        # As first described: identity is constant for the life of the process (HOST-BEAT-007).
        self._identity = host.describe()
        self._started_at = _now()
        if not self._identity.hostname or not self._identity.version:
            raise ServeError("the host does not describe itself: hostname or version is empty")
        if not is_dns_1123_subdomain(self._identity.friendly_name):
            name = self._identity.friendly_name
            raise ServeError(f"friendly name {name!r} is not a DNS-1123 subdomain of at most 253 characters")
        write(self._heartbeat(self._identity))  # what cannot be said at all is found out now

    async def beat(self, bus: Bus, interval_s: float, stop: asyncio.Event) -> None:
        """Beats at once, then at each interval and after each reconnect, until it is stopped.

        While there is no connection nothing is published, so that no burst follows (HOST-RESIL-004).
        """
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            before = await bus.wait_link(lambda link: link.connected)
            began_s = loop.time()
            await self._publish(bus)
            after = bus.link
            next_s = began_s + interval_s
            if after.connects != before.connects:
                # The connection broke under this heartbeat: it may have arrived, or not at all. Another soon,
                # but not so soon as to be a burst.
                next_s = loop.time() + _APART_S
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_s):
                    await _next_connection(bus, after)

    def message(self) -> bytes | None:
        """The heartbeat as of now; `None` when the host cannot describe itself."""
        try:
            return write(self._heartbeat(self._host.describe()))
        except Exception:
            log.exception("the host cannot describe itself")
            return None

    async def _publish(self, bus: Bus) -> None:
        message = self.message()
        if message is None:
            return
        try:
            # The subscription, handed over earlier on this connection, is in effect before this
            # (HOST-WIRE-014).
            await bus.publish(_subject.heartbeat_of(self._host_id), message)
            await bus.flush(_OUTAGE_S)
        except Disconnected:
            log.debug("a heartbeat was on its way when the connection broke")
        except BerthError as error:
            log.warning("a heartbeat could not be sent: %s", error)

    def _heartbeat(self, now: Description) -> proto.HostHeartbeat:
        cpu = now.system_cpu_usage
        return proto.HostHeartbeat(
            id=self._host_id,
            hostname=self._identity.hostname,
            friendly_name=self._identity.friendly_name,
            version=self._identity.version,
            labels=now.labels,
            started_at=self._started_at,
            os_arch=now.os_arch,
            os_name=now.os_name,
            os_kernel=now.os_kernel,
            # JSON has no number for the others, and null is not allowed.
            system_cpu_usage=cpu if math.isfinite(cpu) else 0.0,
            system_memory_total=now.system_memory_total,
            system_memory_free=now.system_memory_free,
            component_count=now.component_count,
            workload_count=self._runs.workload_count(),
            imports=now.imports,
            exports=now.exports,
            http_port=now.http_port,
            environment=self._identity.environment,
        )


async def _next_connection(bus: Bus, seen: Link) -> None:
    await bus.wait_link(lambda link: link.connects > seen.connects)


def _now() -> Timestamp:
    milliseconds = time.time_ns() // 1_000_000
    return Timestamp(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)
