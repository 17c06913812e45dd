"""Serves a `Host` on the bus until it is told to shut down."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from berth import _subject
from berth.bus import Bus, connect
from berth.connect import ConnectOptions
from berth.errors import ServeError
from berth.host._server import Server
from berth.host.host import Host

MIN_INTERVAL_S = 1.0
"""Faster heartbeats would be taken for a burst (HOST-BEAT-004)."""

MAX_INTERVAL_S = 30.0
"""Slower ones would be taken for a dead host (HOST-BEAT-003)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeOptions:
    """How a host is served."""

    host_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    """The host's id: one subject token of letters, digits, `-` and `_`, new for each process."""
    heartbeat_interval_s: float = 15.0
    """Between two heartbeats, from 1 s to 30 s."""
    shutdown_grace_s: float = 5.0
    """How long stopping all workloads may take at shutdown."""


async def serve(
    connection: Bus | ConnectOptions | str,
    host: Host[Any],
    options: ServeOptions | None = None,
    *,
    shutdown: asyncio.Event | None = None,
) -> None:
    """Serves `host` until `shutdown` is set, or without one until SIGTERM or SIGINT, and then ends in order.

    It unsubscribes, answers what was already asked, stops all workloads within the grace period, and returns.

    With a URL or `ConnectOptions` it connects by itself and waits for a broker that is not there yet; with a
    `Bus` it shares a connection. Either way it reconnects for ever.

    Cancelling it cancels everything that runs for it, without the orderly end.

    Raises only what no waiting can mend: `ServeError` for options or a description that make no sense,
    `ConnectError` for an address that is none or a file of credentials that cannot be read, `BusClosed` for a
    shared connection that was closed. A broker that is away is not an error.
    """
    options = options or ServeOptions()
    if not _subject.is_host_id(options.host_id):
        raise ServeError(f"host id {options.host_id!r} is not made of letters, digits, '-' and '_' only")
    if not MIN_INTERVAL_S <= options.heartbeat_interval_s <= MAX_INTERVAL_S:
        interval = options.heartbeat_interval_s
        raise ServeError(f"a heartbeat interval of {interval:g} s is not between 1 s and 30 s")
    with _told_by_signals(shutdown) as told:
        if isinstance(connection, Bus):
            await Server(connection, host, options.host_id).serve(options, told)
            return
        async with connect(connection, eventually=True) as bus:
            await Server(bus, host, options.host_id).serve(options, told)


@contextmanager
def _told_by_signals(shutdown: asyncio.Event | None) -> Iterator[asyncio.Event]:
    """The event that ends it: the given one, or one that SIGTERM and SIGINT set. A second one is not caught."""
    if shutdown is not None:
        yield shutdown
        return
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    caught: list[signal.Signals] = []

    def release() -> None:
        while caught:
            loop.remove_signal_handler(caught.pop())

    def tell() -> None:
        release()
        told.set()

    # Neither on Windows nor outside the main thread; there it ends by cancellation only.
    with suppress(NotImplementedError, RuntimeError, ValueError):
        for which in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(which, tell)
            caught.append(which)
    try:
        yield told
    finally:
        release()
