"""Replies to discovery requests with a heartbeat."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from berth import _subject
from berth.bus import Bus, Delivery, Subscription
from berth.errors import BerthError

log = logging.getLogger("berth")

MAX_DELAY_S = 0.25
"""Maximum delay of a reply, so that the hosts of a large fleet do not reply at once. A host has 1 s."""

MAX_WAITING = 16
"""Maximum number of replies that wait for their time; further requests are ignored. One request reaches all
hosts, so an unbounded number would multiply a flood."""

UNSUBSCRIBE_TIMEOUT_S = 1.0
"""Time for the broker to process the end of the subscription."""


class DiscoveryResponder:
    """Replies to discovery requests inside `async with`.

    Without the permission to subscribe, the host is discovered by its heartbeats.
    """

    def __init__(self, bus: Bus, payload: Callable[[], bytes]) -> None:
        self._bus = bus
        self._payload = payload
        self._replies: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> DiscoveryResponder:
        self._subscription = await self._bus.subscribe(_subject.DISCOVER, self._receive)
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._subscription is not None:
                await self._subscription.drain(UNSUBSCRIBE_TIMEOUT_S)
        finally:
            for reply in self._replies:
                reply.cancel()

    def _receive(self, delivery: Delivery) -> None:
        reply_to = delivery.reply
        # A reply on a subject of the protocol could be a command to another host (HOST-WIRE-015).
        if reply_to is None or _subject.is_protocol_subject(reply_to) or len(self._replies) >= MAX_WAITING:
            return
        task = asyncio.create_task(self._reply(reply_to))
        self._replies.add(task)
        task.add_done_callback(self._replies.discard)

    async def _reply(self, reply_to: str) -> None:
        await asyncio.sleep(random.uniform(0, MAX_DELAY_S))  # noqa: S311 (not a secret)
        try:
            await self._bus.publish(reply_to, self._payload())
        except BerthError as error:
            log.debug("cannot reply to a discovery request: %s", error)
