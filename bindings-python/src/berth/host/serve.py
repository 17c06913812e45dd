"""Serves a `Host` on the bus until shutdown."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from berth import _subject
from berth.bus import Bus, connect
from berth.connect_options import ConnectOptions
from berth.errors import ServeError
from berth.host._server import Server
from berth.host.host import Host
from berth.host.options import MAX_HEARTBEAT_INTERVAL_S, MIN_HEARTBEAT_INTERVAL_S, ServeOptions


async def serve(
    connection: Bus | ConnectOptions | str,
    host: Host[Any],
    options: ServeOptions | None = None,
    *,
    shutdown: asyncio.Event | None = None,
) -> None:
    """Serves `host` until `shutdown` is set, and then stops gracefully.

    If `shutdown` is `None`, SIGTERM or SIGINT stops the host.

    A graceful stop unsubscribes, replies to pending requests, stops all workloads within the grace period, and
    returns.

    With a URL or `ConnectOptions`, `serve` opens its own connection and waits until a broker is reachable. With
    a `Bus`, `serve` shares that connection. In both cases, the connection reconnects indefinitely.

    Cancelling the call cancels all its tasks, without a graceful stop.

    Raises only permanent errors: `ServeError` for invalid options or an invalid description, `ConnectError` for
    an invalid address or an unreadable credentials file, and `BusClosedError` if a shared connection is closed.
    An unreachable broker is not an error.
    """
    options = options or ServeOptions()
    if not _subject.is_host_id(options.host_id):
        raise ServeError(f"invalid host ID {options.host_id!r}: only letters, digits, '-' and '_' are allowed")
    if not MIN_HEARTBEAT_INTERVAL_S <= options.heartbeat_interval_s <= MAX_HEARTBEAT_INTERVAL_S:
        interval = options.heartbeat_interval_s
        raise ServeError(f"invalid heartbeat interval {interval:g} s: must be between 1 s and 30 s")
    with _shutdown_event(shutdown) as requested:
        if isinstance(connection, Bus):
            await Server(connection, host, options.host_id).serve(options, requested)
            return
        async with connect(connection, retry_on_failed_connect=True) as bus:
            await Server(bus, host, options.host_id).serve(options, requested)


@contextmanager
def _shutdown_event(shutdown: asyncio.Event | None) -> Iterator[asyncio.Event]:
    """Yields `shutdown`, or an event set by the first SIGTERM or SIGINT. A second signal is not caught."""
    if shutdown is not None:
        yield shutdown
        return
    loop, requested = asyncio.get_running_loop(), asyncio.Event()
    handled: list[signal.Signals] = []

    def remove_handlers() -> None:
        while handled:
            loop.remove_signal_handler(handled.pop())

    def request_shutdown() -> None:
        remove_handlers()
        requested.set()

    # Unsupported on Windows and outside the main thread; there only cancellation ends the call.
    with suppress(NotImplementedError, RuntimeError, ValueError):
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, request_shutdown)
            handled.append(number)
    try:
        yield requested
    finally:
        remove_handlers()
