"""A broker connection that reconnects automatically."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from nats import errors
from nats.aio.client import Client

from berth._reply import ERROR_CODE_HEADER
from berth.bus._connection import Connection, ConnectionState
from berth.bus._inbox import Inbox, new_inbox
from berth.bus._subscription import Delivery, Subscription
from berth.connect_options import ConnectOptions
from berth.errors import (
    BusClosedError,
    DisconnectedError,
    NoRespondersError,
    NotSentError,
    RequestTimeoutError,
    RequestTooLargeError,
)

log = logging.getLogger("berth")

__all__ = ["Bus", "ConnectionState", "RawReply", "connect"]

NO_RESPONDERS_STATUS = "503"
"""Status of the broker's reply to a request on a subject without a subscription."""

_ERROR_CODE = re.compile(r"[0-9]{1,9}", re.ASCII)

_CLOSE_FLUSH_TIMEOUT_S = 1.0
"""Time to flush published messages before the connection is closed."""


@dataclass(frozen=True, slots=True)
class RawReply:
    """Reply to a request, not yet decoded."""

    payload: bytes
    error_code: int | None
    """Value of the `Nats-Service-Error-Code` header."""


class Bus:
    """A connection to the brokers, created by `connect`. A fleet and any number of clients can share one bus.

    The connection reconnects indefinitely and restores its subscriptions. Messages that cannot be sent are not
    buffered. A bus belongs to the event loop it was created in.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inbox: Inbox | None = None
        self._inbox_ready: asyncio.Task[Subscription] | None = None

    @property
    def connection_state(self) -> ConnectionState:
        """State of the connection."""
        return self._connection.state

    @property
    def is_connected(self) -> bool:
        """Whether the connection is up, as far as is known."""
        return self._connection.client is not None

    @property
    def is_closed(self) -> bool:
        """Whether the bus was closed by this process."""
        return self._connection.closed

    async def wait_for_state(self, predicate: Callable[[ConnectionState], bool]) -> ConnectionState:
        """Waits until the connection state satisfies `predicate`, and returns that state. Safe to cancel.

        Raises `BusClosedError` if the bus is closed while this waits.
        """
        return await self._connection.wait_for_state(predicate)

    async def close(self) -> None:
        """Flushes published messages and closes the connection permanently. May be called twice."""
        if self.is_connected:
            try:
                await self.flush(_CLOSE_FLUSH_TIMEOUT_S)
            except (DisconnectedError, BusClosedError):
                log.debug("closed while disconnected")
        await self._connection.close()

    async def __aenter__(self) -> Bus:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # The members below are for this package only.

    @property
    def max_payload_bytes(self) -> int:
        """Maximum payload of the broker, headers included."""
        return self._connection.max_payload_bytes

    async def subscribe(self, subject: str, receive: Callable[[Delivery], None]) -> Subscription:
        """Subscribes to `subject` on this and each later connection, and passes messages to `receive`."""
        if self.is_closed:
            raise BusClosedError
        return await self._connection.subscribe(subject, receive)

    async def publish(self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Enqueues a message on the connection, after all messages published before.

        Raises `DisconnectedError`, `RequestTooLargeError` or `BusClosedError`.
        """
        await self._publish(subject, payload, "", headers)

    async def publish_request(self, subject: str, reply_to: str) -> None:
        """Enqueues an empty request whose replies arrive at `reply_to`. Raises the same errors as `publish`."""
        await self._publish(subject, b"", reply_to, None)

    def new_inbox(self) -> str:
        """Returns a new subject for replies."""
        return new_inbox(self._connection.inbox_prefix)

    async def flush(self, timeout_s: float) -> None:
        """Waits until the broker has received all published messages.

        Raises `DisconnectedError` if the connection breaks, or after `timeout_s`.
        """
        flushed = self._connection.spawn(_flush(self._client()))
        await asyncio.wait({flushed}, timeout=timeout_s)
        if not flushed.done() or flushed.cancelled() or flushed.exception() is not None:
            raise DisconnectedError

    async def request(self, subject: str, payload: bytes, timeout_s: float) -> RawReply:
        """Sends a request and returns the first reply.

        Raises `NoRespondersError`, `RequestTimeoutError`, `DisconnectedError`, `RequestTooLargeError` or
        `BusClosedError`.
        """
        self._client()
        inbox = await self._open_inbox()
        with inbox.expect_reply() as (reply_to, reply):
            try:
                # `asyncio.wait_for` could lose a cancellation that coincides with the reply.
                async with asyncio.timeout(timeout_s):
                    await self._publish(subject, payload, reply_to, None)
                    delivery = await reply
            except TimeoutError:
                raise RequestTimeoutError(timeout_s) from None
        if delivery is None:
            raise BusClosedError
        if delivery.headers.get("Status") == NO_RESPONDERS_STATUS and not delivery.payload:
            raise NoRespondersError
        code = delivery.headers.get(ERROR_CODE_HEADER, "").strip()
        return RawReply(delivery.payload, int(code) if _ERROR_CODE.fullmatch(code) else None)

    async def _open_inbox(self) -> Inbox:
        if self._inbox is None or self._inbox_ready is None:
            self._inbox = Inbox(self._connection.inbox_prefix)
            self._connection.on_close(self._inbox.close)
            self._inbox_ready = asyncio.create_task(self.subscribe(self._inbox.subject, self._inbox.receive))
        # A cancelled request must not cancel the subscription, which later requests use too.
        await asyncio.shield(self._inbox_ready)
        return self._inbox

    async def _publish(
        self, subject: str, payload: bytes, reply_to: str, headers: Mapping[str, str] | None
    ) -> None:
        client = self._client()
        try:
            await await_cancellable(
                client.publish(subject, payload, reply=reply_to, headers=dict(headers) if headers else None)
            )
        except errors.MaxPayloadError:
            raise RequestTooLargeError from None
        except errors.BadSubjectError:
            raise NotSentError(f"invalid subject {subject!r}") from None
        except UnicodeEncodeError:  # its text would quote the subject
            raise NotSentError("invalid subject: it contains an unpaired surrogate") from None
        except (errors.Error, OSError) as error:
            raise DisconnectedError from error

    def _client(self) -> Client:
        """Returns the connected client. Raises `DisconnectedError` or `BusClosedError`."""
        if self.is_closed:
            raise BusClosedError
        client = self._connection.client
        if client is None or not client.is_connected:
            self._connection.check_now()
            raise DisconnectedError
        return client


async def await_cancellable(operation: Coroutine[Any, Any, None]) -> None:
    """Awaits a publish, and re-raises a cancellation that the client library swallowed during the publish."""
    task = asyncio.current_task()
    cancellations = task.cancelling() if task is not None else 0
    await operation
    if task is not None and task.cancelling() > cancellations:
        raise asyncio.CancelledError


async def _flush(client: Client) -> None:
    """Flushes twice, because the client library may write its PING before data that is still buffered."""
    one_day_s = 24 * 3600
    await client.flush(one_day_s)
    await client.flush(one_day_s)


class connect(AbstractAsyncContextManager[Bus]):  # used like a function
    """Connects to the brokers.

    Use `async with connect("nats://127.0.0.1:4222") as bus:` or `bus = await connect(…)`. With
    `retry_on_failed_connect`, `connect` returns immediately, connects in the background and retries
    indefinitely; each failed attempt is logged with its cause.

    Raises `ConnectError` if a file cannot be read or an address is invalid, and, without
    `retry_on_failed_connect`, if no broker is reachable or the broker rejects the credentials.
    """

    def __init__(
        self, options: ConnectOptions | str | None = None, *, retry_on_failed_connect: bool = False
    ) -> None:
        if not isinstance(options, ConnectOptions):
            options = ConnectOptions() if options is None else ConnectOptions(options)
        self._options = options
        self._retry_on_failed_connect = retry_on_failed_connect
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
        connection = Connection(self._options)
        await connection.open(retry_on_failed_connect=self._retry_on_failed_connect)
        return Bus(connection)
