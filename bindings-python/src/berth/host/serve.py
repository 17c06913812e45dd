"""Serves a `Host` on the bus until shutdown."""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import nullcontext
from typing import Any

from berth import _subject
from berth.bus import Bus, connect
from berth.connect_options import ConnectOptions
from berth.errors import ServeError
from berth.host._server import Server
from berth.host._signals import shutdown_signals
from berth.host._wait import wait_until_done
from berth.host.host import Host
from berth.host.options import MAX_HEARTBEAT_INTERVAL_S, MIN_HEARTBEAT_INTERVAL_S, ServeOptions

log = logging.getLogger("berth")


async def serve(
    connection: Bus | ConnectOptions | str,
    host: Host[Any],
    options: ServeOptions | None = None,
    *,
    shutdown: asyncio.Event | None = None,
    handle_signals: bool = False,
) -> None:
    """Serves `host` until `shutdown` is set or the call is cancelled, and then stops gracefully.

    A graceful stop unsubscribes, replies to pending requests, stops all workloads within the grace period, and
    returns. A cancelled call stops in the same way before it raises `asyncio.CancelledError`; further
    cancellations do not interrupt it, because `ServeOptions.shutdown_grace_s` bounds it.

    With `handle_signals`, SIGTERM or SIGINT also stops the host, and all other hosts of the process that handle
    signals. A second signal has its usual effect. Without it, the process must handle SIGTERM, which otherwise
    ends it without a graceful stop.

    With a URL or `ConnectOptions`, `serve` opens its own connection and waits until a broker is reachable. With
    a `Bus`, `serve` shares that connection. In both cases, the connection reconnects indefinitely.

    Raises only permanent errors: `ServeError` for invalid options or an invalid description, `ConnectError` for
    an invalid address or an unreadable credentials file, and `BusClosedError` if a shared connection is closed.
    An unreachable broker is not an error.
    """
    options = options or ServeOptions()
    _validate(options)
    requested = asyncio.Event()
    with shutdown_signals(requested) if handle_signals else nullcontext():
        # In its own task, so that a cancellation requests a shutdown and does not interrupt one.
        serving = asyncio.create_task(_serve(connection, host, options, requested), name="berth: serve")
        relay = asyncio.create_task(_relay(shutdown, requested)) if shutdown is not None else None
        try:
            await asyncio.wait({serving})
        except asyncio.CancelledError:
            requested.set()
            await wait_until_done({serving})
            if not serving.cancelled() and (error := serving.exception()) is not None:
                log.error("the cancelled host ended with an error", exc_info=error)
            raise
        finally:
            if relay is not None:
                relay.cancel()
                await asyncio.wait({relay})
        serving.result()


async def _serve(
    connection: Bus | ConnectOptions | str, host: Host[Any], options: ServeOptions, shutdown: asyncio.Event
) -> None:
    if isinstance(connection, Bus):
        await Server(connection, host, options.host_id).serve(options, shutdown)
        return
    async with connect(connection, retry_on_failed_connect=True) as bus:
        await Server(bus, host, options.host_id).serve(options, shutdown)


async def _relay(shutdown: asyncio.Event, requested: asyncio.Event) -> None:
    await shutdown.wait()
    requested.set()


def _validate(options: ServeOptions) -> None:
    if not _subject.is_host_id(options.host_id):
        raise ServeError(f"invalid host ID {options.host_id!r}: only letters, digits, '-' and '_' are allowed")
    if not MIN_HEARTBEAT_INTERVAL_S <= options.heartbeat_interval_s <= MAX_HEARTBEAT_INTERVAL_S:
        interval = options.heartbeat_interval_s
        raise ServeError(f"invalid heartbeat interval {interval:g} s: must be between 1 s and 30 s")
    if not 0 <= options.shutdown_grace_s < math.inf:
        raise ServeError(f"invalid grace period {options.shutdown_grace_s:g} s: must be 0 s or longer")
