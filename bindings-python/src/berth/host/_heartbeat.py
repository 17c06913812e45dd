"""Content and timing of heartbeats."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from berth import _subject, proto
from berth._log_limit import LimitedLog
from berth.bus import Bus, ConnectionState
from berth.encoding import encode
from berth.errors import BerthError, DisconnectedError, ServeError
from berth.host._executor import Executor
from berth.host.description import Description, is_dns_1123_subdomain
from berth.host.host import Host
from berth.proto._pool import Timestamp

log = logging.getLogger("berth")

_FLUSH_TIMEOUT_S = 24 * 3600.0
"""Timeout for delivering a heartbeat; a broken connection ends the wait earlier."""

_REPEAT_DELAY_S = 1.3
"""Delay before a heartbeat that was interrupted by a reconnect is repeated.

The delay is more than 1 s, because two heartbeats within 1 s are a burst (HOST-BEAT-004), and less than 2 s,
because a later heartbeat is too late after a reconnect (HOST-RESIL-002)."""

_DISCOVER_LABEL = "berth.dev/discover"

_INVALID_VALUE = (TypeError, ValueError, ArithmeticError, AttributeError, BerthError)
"""Errors of the generated messages and of the encoder for a value that cannot be encoded."""

_MEASUREMENTS = frozenset({"system_cpu_usage", "system_memory_total", "system_memory_free", "component_count"})
"""Fields that may be invalid even in the first description; any other one is a mistake of the host's author."""


class HeartbeatPublisher:
    """Publishes the heartbeats of one host."""

    def __init__(self, host: Host[Any], executor: Executor, host_id: str, limited_log: LimitedLog) -> None:
        self._host = host
        self._executor = executor
        self._host_id = host_id
        self._started_at = _now()
        self._limited_log = limited_log
        # The first description; its identifying fields never change (HOST-BEAT-007).
        self._identity = self._latest = _describe(host)
        if not self._identity.hostname or not self._identity.version:
            raise ServeError("invalid host description: `hostname` and `version` must not be empty")
        if not is_dns_1123_subdomain(self._identity.friendly_name):
            name = self._identity.friendly_name
            raise ServeError(f"friendly name {name!r} is not a DNS-1123 subdomain of at most 253 characters")
        _, invalid_fields = self._encode(self._identity)
        if not _MEASUREMENTS.issuperset(invalid_fields):
            raise ServeError(f"invalid host description: cannot encode {', '.join(invalid_fields)}")

    async def run(self, bus: Bus, interval_s: float, stop: asyncio.Event) -> None:
        """Publishes a heartbeat immediately, at each interval, and after each reconnect, until `stop` is set.

        Publishes nothing while disconnected, and not at once after a quick reconnect, so that there are no
        bursts (HOST-RESIL-004).
        """
        loop = asyncio.get_running_loop()
        earliest_s = loop.time()
        while not stop.is_set():
            before = await bus.wait_for_state(lambda state: state.connected)
            if loop.time() < earliest_s:
                await asyncio.sleep(earliest_s - loop.time())
                continue
            began_s = loop.time()
            await self._publish(bus)
            after = bus.connection_state
            earliest_s, next_s = began_s + min(_REPEAT_DELAY_S, interval_s), began_s + interval_s
            if after.generation != before.generation:
                # The connection broke during this heartbeat, which may or may not have arrived. Repeat it
                # soon, but not so soon that the two are a burst.
                next_s = loop.time() + _REPEAT_DELAY_S
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_s):
                    await _next_connection(bus, after)

    def payload(self) -> bytes:
        """Returns the current heartbeat as JSON.

        A field that no peer could read is left out, and a host that cannot describe itself repeats its previous
        description, so that the host stays visible.
        """
        try:
            self._latest = _describe(self._host)
        except ServeError as error:
            self._limited_log.warning("repeating the previous description: %s: %r", error, error.__cause__)
        payload, invalid_fields = self._encode(self._latest)
        for field in invalid_fields:
            self._limited_log.warning("the heartbeat lacks the field %s: its value cannot be encoded", field)
        return payload

    async def _publish(self, bus: Bus) -> None:
        payload = self.payload()
        try:
            # The command subscription was sent earlier on this connection, so it is active before the
            # heartbeat arrives (HOST-WIRE-014).
            await bus.publish(_subject.heartbeat(self._host_id), payload)
            await bus.flush(_FLUSH_TIMEOUT_S)
        except DisconnectedError:
            log.debug("connection broke while a heartbeat was in flight")
        except BerthError as error:
            self._limited_log.warning("cannot send heartbeat: %s", error)

    def _encode(self, description: Description) -> tuple[bytes, list[str]]:
        """Returns the heartbeat as JSON, and the fields that it lacks because they cannot be encoded."""
        fields = self._fields(description)
        try:
            return encode(proto.HostHeartbeat(**fields)), []
        except _INVALID_VALUE:
            pass
        heartbeat, invalid_fields = proto.HostHeartbeat(), []
        for name, value in fields.items():
            try:
                part = proto.HostHeartbeat(**{name: value})
                encode(part)
            except _INVALID_VALUE:
                invalid_fields.append(name)
            else:
                heartbeat.MergeFrom(part)
        return encode(heartbeat), invalid_fields

    def _fields(self, description: Description) -> dict[str, Any]:
        cpu_usage = description.system_cpu_usage
        return {
            "id": self._host_id,
            "hostname": self._identity.hostname,
            "friendly_name": self._identity.friendly_name,
            "version": self._identity.version,
            "labels": _with_discover_label(description.labels),
            "started_at": self._started_at,
            "os_arch": description.os_arch,
            "os_name": description.os_name,
            "os_kernel": description.os_kernel,
            # NaN stands for an unknown load.
            "system_cpu_usage": 0.0 if isinstance(cpu_usage, float) and math.isnan(cpu_usage) else cpu_usage,
            "system_memory_total": description.system_memory_total,
            "system_memory_free": description.system_memory_free,
            "component_count": description.component_count,
            "workload_count": self._executor.workload_count(),
            "imports": description.imports,
            "exports": description.exports,
            "http_port": description.http_port,
            "environment": self._identity.environment,
        }


def _with_discover_label(labels: Any) -> Any:
    """Announces that the host replies to discovery requests (HOST-EXT-001)."""
    return {**labels, _DISCOVER_LABEL: "true"} if isinstance(labels, Mapping) else labels


def _describe(host: Host[Any]) -> Description:
    try:
        description = host.describe()
    except Exception as error:
        raise ServeError("cannot describe the host") from error
    if not isinstance(description, Description):
        raise ServeError(f"cannot describe the host: `describe` returned {type(description).__name__}")
    return description


async def _next_connection(bus: Bus, current: ConnectionState) -> None:
    await bus.wait_for_state(lambda state: state.generation > current.generation)


def _now() -> Timestamp:
    milliseconds = time.time_ns() // 1_000_000
    return Timestamp(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)
