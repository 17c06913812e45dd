"""What is delivered on one subject, across connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

log = logging.getLogger("berth")

SUBSCRIPTION_CAPACITY = 8192
"""Messages that may wait for the code behind one subscription; more are dropped, and said so."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What arrived on a subscription."""

    subject: str
    reply: str | None
    payload: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Subscription:
    """Hands each message to a function, one at a time, in the order of arrival; after reconnects, too."""

    def __init__(self, subject: str, receive: Callable[[Delivery], None]) -> None:
        self._subject = subject
        self._receive = receive
        self._current: NatsSubscription | None = None
        self.ended = False

    async def attach(self, client: Client) -> None:
        """Subscribes on this connection."""
        if self.ended:
            return

        async def received(msg: Msg) -> None:
            try:
                self._receive(Delivery(msg.subject, msg.reply or None, msg.data, msg.headers or {}))
            except Exception:
                log.exception("a message could not be taken in")

        self._current = await client.subscribe(
            self._subject, cb=received, pending_msgs_limit=SUBSCRIPTION_CAPACITY
        )

    async def drain(self, patience_s: float) -> None:
        """Ends the delivery of new messages; what has arrived is still handed over before this returns.

        Gives up after `patience_s`; while there is no connection there is nothing to wait for.
        """
        self.ended = True
        current, self._current = self._current, None
        if current is None:
            return
        draining = asyncio.create_task(_drain(current))
        # Left alone when it takes longer: a flush that is cancelled confuses the library.
        await asyncio.wait({draining}, timeout=patience_s)


async def _drain(current: NatsSubscription) -> None:
    try:
        await current.drain()  # type: ignore[no-untyped-call]
    except (errors.Error, OSError) as error:
        log.debug("a subscription ended with its connection: %s", error)
