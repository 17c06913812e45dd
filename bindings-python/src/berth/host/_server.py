"""Serves one host on the bus: receives requests, sends replies and heartbeats, and shuts down."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from berth import _subject
from berth._reply import ErrorCode, Reply
from berth.bus import Bus, Delivery, Subscription
from berth.errors import BerthError, BusClosedError, DisconnectedError
from berth.host._executor import Executor
from berth.host._heartbeat import HeartbeatPublisher
from berth.host._request import (
    DecodedCommand,
    HeartbeatCommand,
    StartCommand,
    StatusCommand,
    StopCommand,
    decode_request,
)
from berth.host.host import Host
from berth.host.options import ServeOptions

log = logging.getLogger("berth")

MAX_IN_FLIGHT = 512
"""Maximum number of starts and stops in flight at a time; the excess is refused with 503. No scheduler comes
close to this limit, because each start waits for seconds at most."""

REPLY_TIMEOUT_S = 60.0
"""Time that a reply may wait for a connection; by then its caller has timed out."""

UNSUBSCRIBE_TIMEOUT_S = 1.0
"""Time for the broker to process the end of the subscription, within the 1 s of HOST-DOWN-001 if it is
reachable."""


class Server:
    """One host on the bus."""

    def __init__(self, bus: Bus, host: Host[Any], host_id: str) -> None:
        self._bus = bus
        self._host_id = host_id
        self._executor = Executor(host)
        self._heartbeat = HeartbeatPublisher(host, self._executor, host_id)
        self._free_slots = MAX_IN_FLIGHT
        self._reply_tasks: set[asyncio.Task[None]] = set()

    async def serve(self, options: ServeOptions, shutdown: asyncio.Event) -> None:
        """Serves until `shutdown` is set."""
        try:
            subscription = await self._bus.subscribe(_subject.all_commands(self._host_id), self._receive)
            stop_heartbeats = asyncio.Event()
            heartbeats = asyncio.create_task(
                self._heartbeat.run(self._bus, options.heartbeat_interval_s, stop_heartbeats),
                name="berth: heartbeat",
            )
            shutdown_requested = asyncio.create_task(shutdown.wait())
            try:
                # The heartbeat task ends by itself only if another task closes the bus.
                await asyncio.wait({heartbeats, shutdown_requested}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                # No heartbeat may follow the end of the subscription (HOST-DOWN-004).
                stop_heartbeats.set()
                heartbeats.cancel()
                shutdown_requested.cancel()
                await asyncio.wait({heartbeats, shutdown_requested})
            await self._shut_down(subscription, options.shutdown_grace_s)
            if not heartbeats.cancelled() and (error := heartbeats.exception()) is not None:
                raise error
            if self._bus.is_closed:
                raise BusClosedError
        finally:
            await self._cancel()

    async def _shut_down(self, subscription: Subscription, grace_s: float) -> None:
        """Unsubscribes first, so that the broker reports no responders to callers immediately."""
        log.info("host %s is shutting down", self._host_id)
        await subscription.drain(UNSUBSCRIBE_TIMEOUT_S)
        self._executor.shut_down()
        try:
            async with asyncio.timeout(grace_s):
                while self._reply_tasks:
                    await asyncio.wait(self._reply_tasks)
                await self._executor.wait_idle()
        except TimeoutError:
            log.warning("some workloads did not stop within the grace period of %g s", grace_s)
        try:
            await self._bus.flush(UNSUBSCRIBE_TIMEOUT_S)
        except BerthError as error:
            log.debug("the last replies may be lost: %s", error)

    async def _cancel(self) -> None:
        for task in self._reply_tasks:
            task.cancel()
        if self._reply_tasks:
            await asyncio.wait(self._reply_tasks, timeout=1)
        await self._executor.cancel()

    def _receive(self, delivery: Delivery) -> None:
        """Dispatches a request in order of arrival, so that a stop cannot overtake the start before it.

        Only waiting for the outcome and sending the reply run in a separate task. Status and heartbeat requests
        take no slot, because their replies are available immediately.
        """
        request = decode_request(self._host_id, delivery.subject, delivery.payload)
        takes_slot = isinstance(request, StartCommand | StopCommand)
        if isinstance(request, StartCommand | StopCommand) and self._free_slots == 0:
            message = f"the host already has {MAX_IN_FLIGHT} requests in flight"
            request, takes_slot = Reply.refused(request.id, ErrorCode.UNAVAILABLE, message), False
        self._free_slots -= takes_slot
        task = asyncio.create_task(self._send_outcome(delivery.reply, self._dispatch(request)))
        self._reply_tasks.add(task)
        task.add_done_callback(lambda task: self._on_replied(task, takes_slot))

    def _on_replied(self, task: asyncio.Task[None], takes_slot: bool) -> None:
        self._reply_tasks.discard(task)
        self._free_slots += takes_slot
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("cannot send reply", exc_info=error)

    def _dispatch(self, request: DecodedCommand | Reply) -> asyncio.Future[Reply] | Reply | None:
        match request:
            case HeartbeatCommand():
                return None
            case StartCommand(workload_id, workload):
                return self._executor.start(workload_id, workload)
            case StopCommand(workload_id):
                return self._executor.stop(workload_id)
            case StatusCommand(workload_id):
                return self._executor.status(workload_id)
            case Reply():
                return request

    async def _send_outcome(self, reply_to: str | None, outcome: asyncio.Future[Reply] | Reply | None) -> None:
        if outcome is None:
            body = self._heartbeat.payload()
            if body is not None and reply_to is not None:
                await self._send(reply_to, body, None)
            return
        reply = outcome if isinstance(outcome, Reply) else await outcome
        if reply_to is None:
            return
        body = reply.to_json(self._bus.max_payload_bytes)
        if body is None:
            log.error("cannot send reply: even without a message it exceeds the maximum payload of the broker")
            return
        await self._send(reply_to, body, reply.headers())

    async def _send(self, reply_to: str, body: bytes, headers: dict[str, str] | None) -> None:
        # Otherwise a caller could make this host send a command to another host (HOST-WIRE-015).
        if _subject.is_protocol_subject(reply_to):
            log.warning("refusing to reply to %r, which is a subject of the protocol", reply_to)
            return
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                while not await self._try_send(reply_to, body, headers):
                    log.debug("a reply is waiting for the next connection")
        except TimeoutError:
            log.warning("dropped a reply: no connection within %g s", REPLY_TIMEOUT_S)
        except BerthError as error:
            log.warning("cannot send reply: %s", error)

    async def _try_send(self, reply_to: str, body: bytes, headers: dict[str, str] | None) -> bool:
        """Publishes a reply; if the connection is broken, waits for the next one and returns `False`."""
        current = await self._bus.wait_for_state(lambda state: state.connected)
        try:
            await self._bus.publish(reply_to, body, headers)
        except DisconnectedError:
            await self._bus.wait_for_state(lambda state: state.generation > current.generation)
            return False
        return True
