"""Keeps the broker connection up: connects, detects a broken connection, reconnects, and resubscribes.

The client library can reconnect too, but it would buffer the messages that are published while it is
disconnected and send them in a burst (HOST-RESIL-004), give up permanently if a server closes the connection
with an error, and wait indefinitely for a dead connection to close. So each connection here has its own client,
which is discarded together with the connection.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import ParseResult

from nats import errors
from nats.aio.client import Client

from berth._log_limit import LimitedLog
from berth.bus._address import Server, parse_servers
from berth.bus._dial import combine_credentials, dial, validate_files
from berth.bus._subscription import Delivery, Subscription
from berth.connect_options import Auth, ConnectOptions
from berth.errors import AuthenticationError, BusClosedError, ConnectError, UnreachableError

log = logging.getLogger("berth")

MIN_DELAY_S = 0.02
"""First delay between two connection attempts; it doubles up to `MAX_DELAY_S`."""

MAX_DELAY_S = 2.0
"""Longest delay between two attempts: short enough to reconnect within 10 s of the broker's return
(HOST-RESIL-001)."""

MAX_DISCOVERED_SERVERS = 64
"""Maximum number of discovered cluster servers kept in addition to the configured servers."""

STABLE_AFTER_S = 5.0
"""Age at which a connection counts as stable. After a stable connection, the delays start from the beginning;
otherwise a server that accepts and closes connections would be contacted without any delay."""

_CHECK_INTERVAL_S = 0.5
"""Interval of connection checks, which are needed because the client library does not always report a broken
connection."""

_CLOSE_TIMEOUT_S = 5.0
"""Time for the client library to close a connection before its socket is aborted."""

_DEFAULT_MAX_PAYLOAD_BYTES = 1024 * 1024
"""Default maximum payload of nats-server, used until the first server has reported its own."""


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """State of the connection to the brokers."""

    connected: bool = False
    """Whether the connection is up, as far as is known."""
    generation: int = 0
    """Number of connections made so far. It increases with each reconnect."""


class Connection:
    """A sequence of client connections, at most one at a time."""

    def __init__(self, options: ConnectOptions) -> None:
        self._options = options
        self.state = ConnectionState()
        self.client: Client | None = None
        self.closed = False
        self.max_payload_bytes = _DEFAULT_MAX_PAYLOAD_BYTES
        self._servers: list[Server] = []
        self._discovered: dict[str, Server] = {}
        self._credentials: list[Auth] = []
        self._subscriptions: list[Subscription] = []
        self._state_changed = asyncio.Event()
        self._check_requested = asyncio.Event()
        self._reconnect_task: asyncio.Task[None] | None = None
        # Tasks of the current client, cancelled together with the client.
        self._client_tasks: set[asyncio.Task[None]] = set()
        self._close_tasks: set[asyncio.Task[None]] = set()
        self._on_close: list[Callable[[], None]] = []
        self._limited_log = LimitedLog(log)

    async def open(self, *, retry_on_failed_connect: bool) -> None:
        """Connects, or starts to connect in the background. Raises `ConnectError`."""
        self._servers, userinfo = parse_servers(self._options.server_list())
        self._credentials = combine_credentials(self._options.auth, userinfo)
        first = None
        if not retry_on_failed_connect:
            first = await self._try_all()
            await self._adopt(first)
        else:
            validate_files(self._options, self._credentials)
        self._reconnect_task = asyncio.create_task(self._reconnect_loop(first), name="berth: reconnect")

    async def close(self) -> None:
        """Closes the connection permanently."""
        self.closed = True
        # First of all, so that everyone who waits for this connection is told.
        self._set_state(replace(self.state, connected=False))
        for end in self._on_close:
            end()
        self._limited_log.close()
        if self._reconnect_task is not None:
            self._reconnect_task.cancel()
            await asyncio.wait({self._reconnect_task})
        await self._drop()
        if ending := {*self._close_tasks, *self._client_tasks}:
            await asyncio.wait(ending)
        self._set_state(replace(self.state, connected=False))

    def on_close(self, end: Callable[[], None]) -> None:
        """Calls `end` once when the connection is closed permanently."""
        self._on_close.append(end)

    @property
    def inbox_prefix(self) -> str | None:
        """Configured prefix of reply subjects, if any."""
        return self._options.inbox_prefix

    def check_now(self) -> None:
        """Checks the connection immediately; called when a command finds the connection broken."""
        self._check_requested.set()

    async def wait_for_state(self, predicate: Callable[[ConnectionState], bool]) -> ConnectionState:
        """Waits until the state satisfies `predicate`. Safe to cancel. Raises `BusClosedError`."""
        while not predicate(self.state):
            if self.closed:
                raise BusClosedError
            await self._state_changed.wait()
        return self.state

    async def subscribe(self, subject: str, receive: Callable[[Delivery], None]) -> Subscription:
        """Subscribes on the current connection, if any, and on each later one."""
        subscription = Subscription(subject, receive)
        self._subscriptions = [other for other in self._subscriptions if not other.ended]
        self._subscriptions.append(subscription)
        if self.client is not None:
            with suppress(errors.Error, OSError):  # the next connection attaches it
                await subscription.attach(self.client)
        return subscription

    def spawn(self, operation: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a coroutine that is cancelled only together with the current client."""
        task = asyncio.create_task(operation)
        self._client_tasks.add(task)
        task.add_done_callback(self._client_tasks.discard)
        return task

    async def _reconnect_loop(self, client: Client | None) -> None:
        attempt = 0
        loop = asyncio.get_running_loop()
        # `closed` is checked repeatedly, because the client library sometimes swallows a cancellation.
        while not self.closed:
            if client is not None:
                connected_s = loop.time()
                await self._wait_until_broken(client)
                self._limited_log.warning("lost connection to the broker")
                await self._drop()
                if loop.time() - connected_s >= STABLE_AFTER_S:
                    attempt = 0
            client = None
            for server in self._shuffled_servers():
                attempt += 1
                await asyncio.sleep(delay_s(attempt))
                client = await self._try_one(server)
                if client is not None or self.closed:
                    break

    async def _wait_until_broken(self, client: Client) -> None:
        while client.is_connected:
            self._check_requested.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_INTERVAL_S):
                    await self._check_requested.wait()

    async def _try_one(self, server: Server) -> Client | None:
        try:
            client = await dial(server, self._options, self._credentials, self._on_error)
        except ConnectError as error:
            self._limited_log.warning("cannot connect to the broker at %s: %s", server.url, _with_cause(error))
            return None
        try:
            await self._adopt(client)
        except Exception as error:  # noqa: BLE001  # the next attempt follows in any case
            log.debug("connection to %s broke during setup: %r", server.url, error)
            self._close_in_background(client)
            return None
        return client

    async def _try_all(self) -> Client:
        """Tries each server once. Raises the error of the last attempt."""
        last_error: ConnectError = UnreachableError(self._options.redacted_servers())
        for server in self._shuffled_servers():
            try:
                return await dial(server, self._options, self._credentials, self._on_error)
            except (UnreachableError, AuthenticationError) as error:
                last_error = error
        raise last_error

    async def _adopt(self, client: Client) -> None:
        """Makes `client` the current client, with all subscriptions in place before the state changes."""
        for subscription in self._subscriptions:
            await subscription.attach(client)
        self._add_discovered(client)
        self.max_payload_bytes = client.max_payload
        self.client = client
        self._set_state(ConnectionState(connected=True, generation=self.state.generation + 1))
        log.info("connected to the broker")

    async def _drop(self) -> None:
        client, self.client = self.client, None
        for task in self._client_tasks:
            task.cancel()
        if client is None:
            return
        self._set_state(replace(self.state, connected=False))
        self._close_in_background(client)

    def _close_in_background(self, client: Client) -> None:
        task = asyncio.create_task(_close(client))
        self._close_tasks.add(task)
        task.add_done_callback(self._close_tasks.discard)

    def _set_state(self, state: ConnectionState) -> None:
        self.state = state
        changed, self._state_changed = self._state_changed, asyncio.Event()
        changed.set()

    def _on_error(self, error: Exception) -> None:
        self._check_requested.set()
        if isinstance(error, errors.SlowConsumerError):
            self._limited_log.warning("dropped messages: too many are pending")
        elif self.client is not None and "permissions violation" in str(error):
            self._limited_log.warning("permission denied by the broker: %s", error)
        else:
            log.debug("error on the broker connection: %s", error)

    def _shuffled_servers(self) -> list[Server]:
        """Returns all servers in random order."""
        servers = [*self._servers, *self._discovered.values()]
        return random.sample(servers, len(servers))

    def _add_discovered(self, client: Client) -> None:
        """Adds the other servers of the cluster.

        The certificate of a server that is known by address only must match the name of the connected server.
        """
        connected_url = client.connected_url
        for url in client.discovered_servers:
            server = _discovered_server(url, connected_url)
            if server is not None and len(self._discovered) < MAX_DISCOVERED_SERVERS:
                self._discovered.setdefault(server.url, server)


def _discovered_server(url: ParseResult, connected_url: ParseResult | None) -> Server | None:
    try:
        host, port = url.hostname, url.port
    except ValueError:
        return None
    if not host or not port or connected_url is None:
        return None
    is_address = host.replace(".", "").isdigit() or ":" in host
    return Server(connected_url.scheme, host, port, connected_url.hostname if is_address else None)


def _with_cause(error: ConnectError) -> str:
    cause = error.__cause__
    return str(error) if cause is None else f"{error}: {str(cause) or type(cause).__name__}"


async def _close(client: Client) -> None:
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await client.close()
    except Exception as error:  # noqa: BLE001  # the connection is discarded in any case
        log.debug("cannot close connection cleanly: %r", error)
    # The client library waits for buffered data to be sent, which never completes on a dead connection.
    writer = getattr(getattr(client, "_transport", None), "_bare_io_writer", None)
    if writer is not None:
        writer.transport.abort()


def delay_s(attempt: int) -> float:
    """Returns the delay before attempt number `attempt`, counted over all servers: exponential with jitter.

    The jitter keeps a fleet from reconnecting all at once.
    """
    if attempt < 2:
        return 0.0
    delay: float = min(MIN_DELAY_S * 2 ** min(attempt - 2, 16), MAX_DELAY_S)
    return delay * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, not a secret
