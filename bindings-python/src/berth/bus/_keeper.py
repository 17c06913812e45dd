"""Keeps a connection: makes it, notices that it is gone, makes it again, and subscribes again.

The client library could reconnect, too. It would keep what was published meanwhile and send it in a burst
(HOST-RESIL-004), give up for good when a server closes it with an error, and wait without end for a dead
connection to close. So each connection is a client of its own here, and none outlives its connection.
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

from berth.bus._address import Server, parse_servers
from berth.bus._open import check_files, open_client
from berth.bus._subscription import Delivery, Subscription
from berth.connect import Auth, ConnectOptions
from berth.errors import BusClosed, ConnectError, CredentialsRefused, Unreachable

log = logging.getLogger("berth")

MIN_DELAY_S = 0.02
"""The first delay between two attempts to connect; it doubles up to `MAX_DELAY_S`."""

MAX_DELAY_S = 2.0
"""Short enough to be back within 10 s of the broker's return (HOST-RESIL-001)."""

MAX_DISCOVERED = 64
"""Servers of the cluster that are kept besides those that were named."""

_LOOK_INTERVAL_S = 0.5
"""How often a connection is looked at that nobody said was gone; the library does not always say so."""

_CLOSE_PATIENCE_S = 5.0
"""How long the library may take to close a connection before its socket is thrown away."""

_DEFAULT_MAX_PAYLOAD_BYTES = 1024 * 1024
"""What servers take unless configured otherwise; used before the first one has said."""


@dataclass(frozen=True, slots=True)
class Link:
    """How the connection stands."""

    connected: bool = False
    """Whether there is a connection now, as far as is known."""
    connects: int = 0
    """How often a connection was made. It grows with each reconnect."""


class Keeper:
    """One connection after the other."""

    def __init__(self, options: ConnectOptions) -> None:
        self._options = options
        self.link = Link()
        self.client: Client | None = None
        self.closed = False
        self.max_payload_bytes = _DEFAULT_MAX_PAYLOAD_BYTES
        self._servers: list[Server] = []
        self._discovered: dict[str, Server] = {}
        self._auth: Auth | None = None
        self._subscriptions: list[Subscription] = []
        self._changed = asyncio.Event()
        self._look = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        # Belongs to the present client and is cancelled with it.
        self._with_client: set[asyncio.Task[None]] = set()
        self._farewells: set[asyncio.Task[None]] = set()

    async def open(self, *, eventually: bool) -> None:
        """Connects now, or begins to try. Raises `ConnectError`."""
        self._servers, userinfo = parse_servers(self._options.server_list())
        self._auth = self._options.auth if self._options.auth is not None else userinfo
        first = None
        if not eventually:
            first = await self._try_all()
            await self._take(first)
        else:
            check_files(self._options, self._auth)
        self._keeping = asyncio.create_task(self._keep(first), name="berth: keeps the connection")

    async def close(self) -> None:
        """Closes for good."""
        self.closed = True
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        await self._drop()
        if self._farewells:
            await asyncio.wait(self._farewells)
        self._tell(replace(self.link, connected=False))

    @property
    def inbox_prefix(self) -> str | None:
        """Where answers are to arrive, when not at the usual place."""
        return self._options.inbox_prefix

    def look(self) -> None:
        """Somebody found the connection broken."""
        self._look.set()

    async def wait_link(self, fits: Callable[[Link], bool]) -> Link:
        """Waits until the connection stands so. Cancel safe. Raises `BusClosed`."""
        while not fits(self.link):
            if self.closed:
                raise BusClosed
            await self._changed.wait()
        return self.link

    async def subscribe(self, subject: str, receive: Callable[[Delivery], None]) -> Subscription:
        """Subscribes now, or as soon as there is a connection, and on each later one."""
        subscription = Subscription(subject, receive)
        self._subscriptions = [known for known in self._subscriptions if not known.ended]
        self._subscriptions.append(subscription)
        if self.client is not None:
            with suppress(errors.Error, OSError):  # the next connection will have it
                await subscription.attach(self.client)
        return subscription

    def with_client(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs something that ends with the present connection, and is not cancelled before."""
        task = asyncio.create_task(work)
        self._with_client.add(task)
        task.add_done_callback(self._with_client.discard)
        return task

    async def _keep(self, client: Client | None) -> None:
        attempt = 0
        # Asked again and again, because the library swallows cancellation here and there.
        while not self.closed:
            if client is not None:
                await self._until_gone(client)
                log.warning("the connection to the broker is gone")
                await self._drop()
                attempt = 0
            client = None
            for server in self._round():
                attempt += 1
                await asyncio.sleep(delay_s(attempt))
                client = await self._try_one(server)
                if client is not None or self.closed:
                    break

    async def _until_gone(self, client: Client) -> None:
        while client.is_connected:
            self._look.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_INTERVAL_S):
                    await self._look.wait()

    async def _try_one(self, server: Server) -> Client | None:
        try:
            client = await open_client(server, self._options, self._auth, self._trouble)
        except ConnectError as error:
            log.debug("cannot connect to the broker at %s: %s", server.url, error.__cause__ or error)
            return None
        try:
            await self._take(client)
        except (errors.Error, OSError) as error:
            log.debug("the connection to %s broke at once: %s", server.url, error)
            self._part_with(client)
            return None
        return client

    async def _try_all(self) -> Client:
        """Each server once. Raises what the last one said."""
        refused: ConnectError = Unreachable(self._options.shown_servers())
        for server in self._round():
            try:
                return await open_client(server, self._options, self._auth, self._trouble)
            except (Unreachable, CredentialsRefused) as error:
                refused = error
        raise refused

    async def _take(self, client: Client) -> None:
        """Makes it the present client, with all subscriptions on it before anybody is told."""
        for subscription in self._subscriptions:
            await subscription.attach(client)
        self._discover(client)
        self.max_payload_bytes = client.max_payload
        self.client = client
        self._tell(Link(connected=True, connects=self.link.connects + 1))
        log.info("connected to the broker")

    async def _drop(self) -> None:
        client, self.client = self.client, None
        for task in self._with_client:
            task.cancel()
        if client is None:
            return
        self._tell(replace(self.link, connected=False))
        self._part_with(client)

    def _part_with(self, client: Client) -> None:
        farewell = asyncio.create_task(_close(client))
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)

    def _tell(self, link: Link) -> None:
        self.link = link
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _trouble(self, error: Exception) -> None:
        self._look.set()
        if isinstance(error, errors.SlowConsumerError):
            log.warning("messages were dropped: too many wait")
        elif self.client is not None and "permissions violation" in str(error):
            log.warning("the broker denies something: %s", error)
        else:
            log.debug("the connection to the broker has trouble: %s", error)

    def _round(self) -> list[Server]:
        """All servers, in an order of their own each time."""
        servers = [*self._servers, *self._discovered.values()]
        return random.sample(servers, len(servers))

    def _discover(self, client: Client) -> None:
        """Notes the other servers of the cluster; certificates for a name cover their addresses, too."""
        at = client.connected_url
        for url in client.discovered_servers:
            server = _discovered(url, at)
            if server is not None and len(self._discovered) < MAX_DISCOVERED:
                self._discovered.setdefault(server.url, server)


def _discovered(url: ParseResult, at: ParseResult | None) -> Server | None:
    try:
        host, port = url.hostname, url.port
    except ValueError:
        return None
    if not host or not port or at is None:
        return None
    is_address = host.replace(".", "").isdigit() or ":" in host
    return Server(at.scheme, host, port, at.hostname if is_address else None)


async def _close(client: Client) -> None:
    try:
        async with asyncio.timeout(_CLOSE_PATIENCE_S):
            await client.close()
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the last that is heard of it
        log.debug("a connection did not close well: %r", error)
    # The library waits for what is written to leave; into a dead connection it never does.
    writer = getattr(getattr(client, "_transport", None), "_bare_io_writer", None)
    if writer is not None:
        writer.transport.abort()


def delay_s(attempt: int) -> float:
    """Before attempt number `attempt`, counted over all servers: doubling, with jitter.

    Jitter, so that a fleet does not come back in one moment.
    """
    if attempt < 2:
        return 0.0
    delay: float = min(MIN_DELAY_S * 2 ** min(attempt - 2, 16), MAX_DELAY_S)
    return delay * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, no secret
