"""Asks all hosts for their heartbeats, instead of waiting for the next ones."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from berth import _subject
from berth.bus import Bus, ConnectionState, Delivery
from berth.encoding import decode
from berth.errors import BerthError, BusClosedError, DecodeError, DisconnectedError
from berth.proto import HostHeartbeat
from berth.scheduler.client import HostClient

log = logging.getLogger("berth")

WINDOW_S = 2.0
"""Time in which replies to one request are accepted: 1 s for the hosts, the rest for a busy network."""

MAX_HOSTS = 10_000
"""Maximum number of hosts that one request discovers, as many as a fleet can have."""

MAX_REQUESTS = 64
"""Maximum number of concurrent requests for heartbeats."""


class Discovery:
    """Asks after each connect, and passes the heartbeats of the hosts that are not present to `found`.

    A reply only names a host, because any client can send it. The heartbeat is then requested on the subject of
    that host, on which only the host can reply.
    """

    def __init__(
        self, bus: Bus, is_present: Callable[[str], bool], found: Callable[[HostHeartbeat], None]
    ) -> None:
        self._bus = bus
        self._is_present = is_present
        self._found = found
        self._asked: ConnectionState | None = None
        self._named: set[str] = set()
        self._requests: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(MAX_REQUESTS)

    async def run(self) -> None:
        """Asks until the bus is closed, or until this is cancelled."""
        try:
            while True:
                self._asked = await self._bus.wait_for_state(self._is_new_connection)
                try:
                    await self._ask()
                except DisconnectedError as error:
                    log.debug("cannot ask for hosts: %s", error)
        except BusClosedError:
            pass
        finally:
            for request in self._requests:
                request.cancel()

    def _is_new_connection(self, state: ConnectionState) -> bool:
        return state.connected and (self._asked is None or state.generation != self._asked.generation)

    async def _ask(self) -> None:
        self._named.clear()
        inbox = self._bus.new_inbox()
        subscription = await self._bus.subscribe(inbox, self._on_reply)
        try:
            await self._bus.publish_request(_subject.DISCOVER, inbox)
            await asyncio.sleep(WINDOW_S)
        finally:
            await subscription.drain(1)

    def _on_reply(self, delivery: Delivery) -> None:
        try:
            host_id = decode(HostHeartbeat, delivery.payload).id
        except DecodeError:
            return
        is_new = _subject.is_host_id(host_id) and host_id not in self._named and not self._is_present(host_id)
        if is_new and len(self._named) < MAX_HOSTS:
            self._named.add(host_id)
            request = asyncio.create_task(self._request_heartbeat(host_id))
            self._requests.add(request)
            request.add_done_callback(self._requests.discard)

    async def _request_heartbeat(self, host_id: str) -> None:
        async with self._slots:
            try:
                heartbeat = await HostClient(self._bus, host_id).heartbeat()
            except BerthError as error:
                log.debug("cannot request the heartbeat of host %r: %s", host_id, error)
                return
        # The host's own heartbeats are newer than a requested one.
        if not self._is_present(host_id):
            self._found(heartbeat)
