#!/usr/bin/env python3
"""A scheduler for wasmCloud hosts, written from the specification alone."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import time
from pathlib import Path

import nats
from controller import Controller
from store import Lock, Store
from violation import activate, violates

LOCK_RETRY_S = 0.5


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nats", required=True, metavar="URL", help="URL of the broker")
    parser.add_argument(
        "--manifests", required=True, type=Path, metavar="DIR", help="directory of manifests"
    )
    parser.add_argument(
        "--status", type=Path, metavar="DIR", help="directory of status files [MANIFESTS/.berth]"
    )
    parser.add_argument(
        "--store", type=Path, metavar="DIR", help="directory of the state [MANIFESTS/.store]"
    )
    parser.add_argument(
        "--isolate-environments",
        action="store_true",
        help="use a host only for the namespace that its environment names",
    )
    parser.add_argument(
        "--violation",
        metavar="ID",
        help="violation of the specification, from scheduler-violations.toml [none]",
    )
    return parser.parse_args(argv)


async def run(options: argparse.Namespace, server: nats.Server) -> None:
    """Waits for the lock, then schedules until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    directory = options.store or options.manifests / ".store"
    lock = Lock(directory)
    try:
        began = loop.time()
        while not lock.acquire():
            if await _wait(ended, LOCK_RETRY_S):
                return
            if loop.time() - began > 5.0 and violates("lock-ignored-after-5-s"):
                break
        store = Store(directory)
        try:
            status = options.status or options.manifests / ".berth"
            controller = Controller(
                server, options.manifests, status, store, options.isolate_environments
            )
            await controller.run(ended)
        finally:
            store.close()
    finally:
        lock.close()


async def _wait(event: asyncio.Event, timeout_s: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        return False
    return True


def main() -> int:
    options = arguments(sys.argv[1:])
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr
    )
    logging.Formatter.converter = time.gmtime
    try:
        server = nats.Server.parse(options.nats)
        if options.violation is not None:
            activate(options.violation)
    except ValueError as error:
        print(f"scheduler.py: error: {error}", file=sys.stderr)
        return 2
    asyncio.run(run(options, server))
    return 0


if __name__ == "__main__":
    sys.exit(main())
