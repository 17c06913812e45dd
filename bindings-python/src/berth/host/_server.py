"""Serves one host on the bus: receives requests, sends replies and heartbeats, and shuts down."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from berth import _subject
from berth._log_limit import LimitedLog
from berth._reply import ErrorCode, Reply
from berth.bus import Bus, Delivery, Subscription
from berth.errors import BerthError, BusClosedError, DisconnectedError
from berth.host._discovery import DiscoveryResponder
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
from berth.host._wait import wait_until_done
from berth.host.host import Host
from berth.host.options import ServeOptions

log = logging.getLogger("berth")

MAX_STARTS = 512
"""Maximum number of starts without a reply at a time; the excess is refused with 503. No scheduler comes close
to this limit, because each start waits for seconds at most."""

MAX_STOPS = 512
"""Maximum number of stops without a reply at a time; the excess is refused with 503. Stops have a limit of
their own, so that slow starts never prevent a stop."""

MAX_OTHER_REPLIES = 8192
"""Maximum number of other replies that wait to be sent: those to status and heartbeat requests, and refusals.
They are available immediately, so they only wait while the broker accepts no data; the excess is dropped."""

REPLY_TIMEOUT_S = 60.0
"""Time that a reply may wait for a connection; by then its caller has timed out."""

MIN_GRACE_S = 0.1
"""Shortest grace period, so that `Host.stop` is called for each workload in any case."""

CANCEL_TIMEOUT_S = 1.0
"""Time for cancelled workloads to release their resources, after the grace period."""

UNSUBSCRIBE_TIMEOUT_S = 1.0
"""Time for the broker to process the end of the subscription, within the 1 s of HOST-DOWN-001 if it is
reachable."""


class Server:
    """One host on the bus."""

    def __init__(self, bus: Bus, host: Host[Any], host_id: str) -> None:
        self._bus = bus
        self._host_id = host_id
        self._limited_log = LimitedLog(log)
        self._executor = Executor(host, self._limited_log)
        self._heartbeat = HeartbeatPublisher(host, self._executor, host_id, self._limited_log)
        self._reply_tasks: set[asyncio.Task[None]] = set()
        # Number of free slots for each kind of request.
        self._free_slots = {StartCommand: MAX_STARTS, StopCommand: MAX_STOPS, Reply: MAX_OTHER_REPLIES}

    async def serve(self, options: ServeOptions, shutdown: asyncio.Event) -> None:
        """Serves until `shutdown` is set, and shuts down in any case, also when it is cancelled or fails."""
        subscription: Subscription | None = None
        try:
            subscription = await self._bus.subscribe(_subject.all_commands(self._host_id), self._receive)
            async with DiscoveryResponder(self._bus, self._heartbeat.payload):
                await self._publish_heartbeats(options.heartbeat_interval_s, shutdown)
        finally:
            was_cancelled = await self._shut_down(subscription, options.shutdown_grace_s)
            self._limited_log.close()
        if was_cancelled:
            raise asyncio.CancelledError
        if self._bus.is_closed:
            raise BusClosedError

    async def _publish_heartbeats(self, interval_s: float, shutdown: asyncio.Event) -> None:
        stop_heartbeats = asyncio.Event()
        heartbeats = asyncio.create_task(
            self._heartbeat.run(self._bus, interval_s, stop_heartbeats), name="berth: heartbeat"
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
            was_cancelled = await wait_until_done({heartbeats, shutdown_requested})
        if was_cancelled:
            raise asyncio.CancelledError
        if not heartbeats.cancelled() and (error := heartbeats.exception()) is not None:
            raise error

    async def _shut_down(self, subscription: Subscription | None, grace_s: float) -> bool:
        """Unsubscribes first, so that the broker reports no responders to callers immediately.

        Returns whether the current task was cancelled in the meantime, which does not interrupt the shutdown.
        """
        log.info("host %s is shutting down", self._host_id)
        was_cancelled = False
        if subscription is not None:
            draining = asyncio.create_task(subscription.drain(UNSUBSCRIBE_TIMEOUT_S))
            was_cancelled |= await wait_until_done({draining})
        self._executor.shut_down()
        loop = asyncio.get_running_loop()
        end_s = loop.time() + max(grace_s, MIN_GRACE_S)
        while (pending := self._pending_tasks()) and loop.time() < end_s:
            was_cancelled |= await wait_until_done(pending, end_s - loop.time())
        if pending:
            log.warning("some workloads did not stop within the grace period of %g s", grace_s)
            for task in self._reply_tasks:
                task.cancel()
            self._executor.cancel()
            was_cancelled |= await wait_until_done(self._pending_tasks(), CANCEL_TIMEOUT_S)
        flushing = asyncio.create_task(self._flush())
        return was_cancelled | await wait_until_done({flushing})

    def _pending_tasks(self) -> set[asyncio.Task[Any]]:
        return {*self._reply_tasks, *self._executor.tasks}

    async def _flush(self) -> None:
        try:
            await self._bus.flush(UNSUBSCRIBE_TIMEOUT_S)
        except BerthError as error:
            log.debug("the last replies may be lost: %s", error)

    def _receive(self, delivery: Delivery) -> None:
        """Dispatches a request in order of arrival, so that a stop cannot overtake the start before it.

        Only waiting for the outcome and sending the reply run in a separate task.
        """
        request = decode_request(self._host_id, delivery.subject, delivery.payload)
        kind = type(request) if type(request) in (StartCommand, StopCommand) else Reply
        if isinstance(request, StartCommand | StopCommand) and self._free_slots[kind] == 0:
            command = "starts" if kind is StartCommand else "stops"
            message = f"the host already has {MAX_STARTS} {command} in flight"
            request, kind = Reply.refused(request.id, ErrorCode.UNAVAILABLE, message), Reply
        if self._free_slots[kind] == 0:
            self._limited_log.warning("dropped a request: %d replies are waiting to be sent", MAX_OTHER_REPLIES)
            return
        self._free_slots[kind] -= 1
        task = asyncio.create_task(self._send_outcome(delivery.reply, self._dispatch(request)))
        self._reply_tasks.add(task)
        task.add_done_callback(lambda task: self._on_replied(task, kind))

    def _on_replied(self, task: asyncio.Task[None], kind: type[Any]) -> None:
        self._reply_tasks.discard(task)
        self._free_slots[kind] += 1
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
            if reply_to is not None:
                await self._send(reply_to, self._heartbeat.payload(), None)
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
            self._limited_log.warning("refusing to reply to %r, which is a subject of the protocol", reply_to)
            return
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                while not await self._try_send(reply_to, body, headers):
                    log.debug("a reply is waiting for the next connection")
        except TimeoutError:
            self._limited_log.warning("dropped a reply: no connection within %g s", REPLY_TIMEOUT_S)
        except BerthError as error:
            self._limited_log.warning("cannot send reply: %s", error)

    async def _try_send(self, reply_to: str, body: bytes, headers: dict[str, str] | None) -> bool:
        """Publishes a reply; if the connection is broken, waits for the next one and returns `False`."""
        current = await self._bus.wait_for_state(lambda state: state.connected)
        try:
            await self._bus.publish(reply_to, body, headers)
        except DisconnectedError:
            await self._bus.wait_for_state(lambda state: state.generation > current.generation)
            return False
        return True
