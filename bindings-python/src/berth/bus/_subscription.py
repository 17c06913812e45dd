"""Subscriptions that survive reconnects."""

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
"""Maximum number of pending messages of one subscription; the excess is dropped and logged."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Message that arrived on a subscription."""

    subject: str
    reply: str | None
    payload: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Subscription:
    """Passes messages to a function one at a time, in order of arrival, across reconnects."""

    def __init__(self, subject: str, receive: Callable[[Delivery], None]) -> None:
        self._subject = subject
        self._receive = receive
        self._client_subscription: NatsSubscription | None = None
        self.ended = False

    async def attach(self, client: Client) -> None:
        """Subscribes on a new connection."""
        if self.ended:
            return

        async def on_message(msg: Msg) -> None:
            try:
                self._receive(Delivery(msg.subject, msg.reply or None, msg.data, msg.headers or {}))
            except Exception:
                log.exception("cannot process message")

        self._client_subscription = await client.subscribe(
            self._subject, cb=on_message, pending_msgs_limit=SUBSCRIPTION_CAPACITY
        )

    async def drain(self, timeout_s: float) -> None:
        """Unsubscribes, and passes on the messages that have already arrived.

        Returns after `timeout_s` at the latest, and immediately while disconnected.
        """
        self.ended = True
        client_subscription, self._client_subscription = self._client_subscription, None
        if client_subscription is None:
            return
        draining = asyncio.create_task(_drain(client_subscription))
        # Not cancelled on timeout: cancelling a flush corrupts the state of the client library.
        await asyncio.wait({draining}, timeout=timeout_s)


async def _drain(client_subscription: NatsSubscription) -> None:
    client = client_subscription._conn
    try:
        # The client library may write the PING of its flush before the UNSUB, and then drop the messages that
        # arrive in between, so that their senders wait for a reply in vain.
        await client._send_unsubscribe(client_subscription._id)
        await client.flush()
        await client.flush()
        await client_subscription.drain()  # type: ignore[no-untyped-call]
    except (errors.Error, OSError) as error:
        log.debug("subscription ended with its connection: %s", error)
