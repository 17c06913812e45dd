"""A connection to the brokers that comes back by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from nats import errors
from nats.aio.client import Client

from berth._reply import ERROR_CODE
from berth.bus._inbox import Inbox
from berth.bus._keeper import Keeper, Link
from berth.bus._subscription import Delivery, Subscription
from berth.connect import ConnectOptions
from berth.errors import BusClosed, Disconnected, NoResponders, NotSent, Timeout, TooLarge

log = logging.getLogger("berth")

__all__ = ["Answer", "Bus", "Link", "connect"]

NOBODY_LISTENS = "503"
"""The status line of the broker's own answer to a request on a subject without a subscriber."""

_CLOSE_PATIENCE_S = 1.0
"""How long what was published last may take to leave when the connection is closed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered to a request."""

    payload: bytes
    error_code: int | None
    """`Nats-Service-Error-Code`."""


class Bus:
    """A connection to the brokers, made by `connect`; one is enough for a fleet and any number of clients.

    It reconnects for ever by itself, and what was subscribed is subscribed again. What could not be sent is not
    kept to be sent later. It belongs to the event loop that it was made in.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._inbox: Inbox | None = None

    @property
    def link(self) -> Link:
        """How the connection stands."""
        return self._keeper.link

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection at this moment, as far as is known."""
        return self._keeper.client is not None

    @property
    def is_closed(self) -> bool:
        """Whether it was closed on this side."""
        return self._keeper.closed

    async def wait_link(self, fits: Callable[[Link], bool]) -> Link:
        """Waits until the connection stands so. Cancel safe.

        Raises `BusClosed` when it is closed meanwhile.
        """
        return await self._keeper.wait_link(fits)

    async def close(self) -> None:
        """Sends what is on its way and closes, for good. May be called twice."""
        if self.is_connected:
            try:
                await self.flush(_CLOSE_PATIENCE_S)
            except (Disconnected, BusClosed):
                log.debug("the connection was closed while it was not there")
        await self._keeper.close()

    async def __aenter__(self) -> Bus:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # What follows is the protocol's, not the user's.

    @property
    def max_payload_bytes(self) -> int:
        """The longest message that the broker takes, payload and headers together."""
        return self._keeper.max_payload_bytes

    async def subscribe(self, subject: str, receive: Callable[[Delivery], None]) -> Subscription:
        """Hands what is published on `subject` from now on to `receive`, also after reconnects."""
        if self.is_closed:
            raise BusClosed
        return await self._keeper.subscribe(subject, receive)

    async def publish(self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Hands a message to the connection, after what was handed to it before.

        Raises `Disconnected`, `TooLarge` or `BusClosed`.
        """
        await self._publish(subject, payload, "", headers)

    async def flush(self, patience_s: float) -> None:
        """Waits until everything handed to the connection has reached the broker.

        Raises `Disconnected` when the connection breaks, or after `patience_s`.
        """
        flushed = self._keeper.with_client(_flush(self._connected()))
        await asyncio.wait({flushed}, timeout=patience_s)
        if not flushed.done() or flushed.cancelled() or flushed.exception() is not None:
            raise Disconnected

    async def request(self, subject: str, payload: bytes, timeout_s: float) -> Answer:
        """Asks and waits for the first answer.

        Raises `NoResponders`, `Timeout`, `Disconnected`, `TooLarge` or `BusClosed`.
        """
        self._connected()
        if self._inbox is None:
            self._inbox = Inbox(self._keeper.inbox_prefix)
            await self.subscribe(self._inbox.subject, self._inbox.receive)
        with self._inbox.expect() as (reply_to, answer):
            try:
                # Not `asyncio.wait_for`, which can lose a cancellation that comes with the answer.
                async with asyncio.timeout(timeout_s):
                    await self._publish(subject, payload, reply_to, None)
                    delivery = await answer
            except TimeoutError:
                raise Timeout(timeout_s) from None
        if delivery.headers.get("Status") == NOBODY_LISTENS and not delivery.payload:
            raise NoResponders
        code = delivery.headers.get(ERROR_CODE, "").strip()
        return Answer(delivery.payload, int(code) if code.isascii() and code.isdigit() else None)

    async def _publish(
        self, subject: str, payload: bytes, reply_to: str, headers: Mapping[str, str] | None
    ) -> None:
        client = self._connected()
        try:
            await heeding_cancellation(
                client.publish(subject, payload, reply=reply_to, headers=dict(headers) if headers else None)
            )
        except errors.MaxPayloadError:
            raise TooLarge from None
        except errors.BadSubjectError:
            raise NotSent("the subject is not valid") from None
        except (errors.Error, OSError) as error:
            raise Disconnected from error

    def _connected(self) -> Client:
        if self.is_closed:
            raise BusClosed
        client = self._keeper.client
        if client is None or not client.is_connected:
            self._keeper.look()
            raise Disconnected
        return client


async def heeding_cancellation(work: Coroutine[Any, Any, None]) -> None:
    """The library swallows a cancellation while it waits for room; here it is raised afterwards."""
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    await work
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError


async def _flush(client: Client) -> None:
    """Twice: the library writes its PING before what still waits to be written."""
    a_day_s = 24 * 3600
    await client.flush(a_day_s)
    await client.flush(a_day_s)


class connect(AbstractAsyncContextManager[Bus]):  # used like a function
    """Connects now, or says why it cannot.

    Either `async with connect("nats://127.0.0.1:4222") as bus:` or `bus = await connect(…)`. With `eventually`
    it returns at once, connects in the background and goes on trying for ever.

    Raises `ConnectError`: a file that cannot be read, an address that is none, and, without `eventually`, a
    broker that is away or refuses us.
    """

    def __init__(self, options: ConnectOptions | str | None = None, *, eventually: bool = False) -> None:
        if not isinstance(options, ConnectOptions):
            options = ConnectOptions() if options is None else ConnectOptions(options)
        self._options = options
        self._eventually = eventually
        self._bus: Bus | None = None

    def __await__(self) -> Generator[Any, None, Bus]:
        return self._open().__await__()

    async def __aenter__(self) -> Bus:
        self._bus = await self._open()
        return self._bus

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bus is not None:
            await self._bus.close()

    async def _open(self) -> Bus:
        keeper = Keeper(self._options)
        await keeper.open(eventually=self._eventually)
        return Bus(keeper)
