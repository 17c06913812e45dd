"""The shell around the table of ids: subscribes, hands requests in, carries actions out, shuts down."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from berth import _subject
from berth._reply import Code, Reply
from berth.bus import Bus, Delivery, Subscription
from berth.errors import BerthError, BusClosed, Disconnected
from berth.host._beat import Heart
from berth.host._request import (
    HeartbeatRequest,
    Request,
    StartRequest,
    StatusRequest,
    StopRequest,
    read_request,
)
from berth.host._runs import Runs
from berth.host.host import Host

if TYPE_CHECKING:
    from berth.host.serve import ServeOptions

log = logging.getLogger("berth")

MAX_IN_FLIGHT = 512
"""Starts and stops that are worked on at once; more are answered with 503. Each start waits for seconds at
most, so this is far more than any scheduler keeps open."""

REPLY_PATIENCE_S = 60.0
"""How long a reply may wait for a connection; its caller has given up by then."""

UNSUBSCRIBE_PATIENCE_S = 1.0
"""How long the broker may take to see the end of the subscription, inside the 1 s of HOST-DOWN-001 when it is
there at all."""


class Server:
    """One host on the bus."""

    def __init__(self, bus: Bus, host: Host[Any], host_id: str) -> None:
        self._bus = bus
        self._host_id = host_id
        self._runs = Runs(host)
        self._heart = Heart(host, self._runs, host_id)
        self._room = MAX_IN_FLIGHT
        self._answering: set[asyncio.Task[None]] = set()

    async def serve(self, options: ServeOptions, shutdown: asyncio.Event) -> None:
        """Serves until `shutdown`."""
        try:
            subscription = await self._bus.subscribe(_subject.commands_of(self._host_id), self._receive)
            stop_beating = asyncio.Event()
            beating = asyncio.create_task(
                self._heart.beat(self._bus, options.heartbeat_interval_s, stop_beating), name="berth: heartbeat"
            )
            told = asyncio.create_task(shutdown.wait())
            try:
                # The heartbeat ends by itself only when the connection was closed by someone else.
                await asyncio.wait({beating, told}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                # No heartbeat may follow the end of the subscription (HOST-DOWN-004).
                stop_beating.set()
                beating.cancel()
                told.cancel()
                await asyncio.wait({beating, told})
            await self._shut_down(subscription, options.shutdown_grace_s)
            if not beating.cancelled() and (error := beating.exception()) is not None:
                raise error
            if self._bus.is_closed:
                raise BusClosed
        finally:
            await self._cancel()

    async def _shut_down(self, subscription: Subscription, grace_s: float) -> None:
        """Unsubscribes first, so that callers learn at once that nobody is here."""
        log.info("host %s is shutting down", self._host_id)
        await subscription.drain(UNSUBSCRIBE_PATIENCE_S)
        self._runs.shut_down()
        try:
            async with asyncio.timeout(grace_s):
                while self._answering:
                    await asyncio.wait(self._answering)
                await self._runs.idle()
        except TimeoutError:
            log.warning("not everything stopped within the grace period of %g s", grace_s)
        try:
            await self._bus.flush(UNSUBSCRIBE_PATIENCE_S)
        except BerthError as error:
            log.debug("the last replies may be lost: %s", error)

    async def _cancel(self) -> None:
        for task in self._answering:
            task.cancel()
        if self._answering:
            await asyncio.wait(self._answering, timeout=1)
        await self._runs.cancel()

    def _receive(self, delivery: Delivery) -> None:
        """Takes a request in, in the order of arrival: a stop must not overtake the start before it.

        Only the waiting for the outcome and the reply get a task of their own. Status and heartbeat always
        have room: they wait for nobody.
        """
        request = read_request(self._host_id, delivery.subject, delivery.payload)
        takes_room = isinstance(request, StartRequest | StopRequest)
        if isinstance(request, StartRequest | StopRequest) and self._room == 0:
            message = f"the host is working on {MAX_IN_FLIGHT} requests already"
            request, takes_room = Reply.refused(request.id, Code.UNAVAILABLE, message), False
        self._room -= takes_room
        task = asyncio.create_task(self._answer(delivery.reply, self._take(request)))
        self._answering.add(task)
        task.add_done_callback(lambda task: self._answered(task, takes_room))

    def _answered(self, task: asyncio.Task[None], takes_room: bool) -> None:
        self._answering.discard(task)
        self._room += takes_room
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a reply could not be sent", exc_info=error)

    def _take(self, request: Request | Reply) -> asyncio.Future[Reply] | Reply | None:
        match request:
            case HeartbeatRequest():
                return None
            case StartRequest(workload_id, workload):
                return self._runs.start(workload_id, workload)
            case StopRequest(workload_id):
                return self._runs.stop(workload_id)
            case StatusRequest(workload_id):
                return self._runs.status(workload_id)
            case Reply():
                return request

    async def _answer(self, to: str | None, outcome: asyncio.Future[Reply] | Reply | None) -> None:
        if outcome is None:
            body = self._heart.message()
            if body is not None and to is not None:
                await self._reply(to, body, None)
            return
        reply = outcome if isinstance(outcome, Reply) else await outcome
        if to is None:
            return
        body = reply.to_json(self._bus.max_payload_bytes)
        if body is None:
            log.error("the broker takes no message as long as this reply must be")
            return
        await self._reply(to, body, reply.headers())

    async def _reply(self, to: str, body: bytes, headers: dict[str, str] | None) -> None:
        # A caller could have us command another host in our name (HOST-WIRE-015).
        if _subject.is_of_the_protocol(to):
            log.warning("no reply is sent to %r, a subject of the protocol itself", to)
            return
        try:
            async with asyncio.timeout(REPLY_PATIENCE_S):
                while not await self._sent(to, body, headers):
                    log.debug("a reply waits for the next connection")
        except TimeoutError:
            log.warning("a reply waited too long for the broker and is dropped")
        except BerthError as error:
            log.warning("a reply could not be sent: %s", error)

    async def _sent(self, to: str, body: bytes, headers: dict[str, str] | None) -> bool:
        """Hands a reply to the connection, or waits for the next one."""
        link = await self._bus.wait_link(lambda link: link.connected)
        try:
            await self._bus.publish(to, body, headers)
        except Disconnected:
            await self._bus.wait_link(lambda now: now.connects > link.connects)
            return False
        return True
