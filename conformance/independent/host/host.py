"""A host of the control protocol that runs stand-in guests, written from the specification alone."""

import argparse
import asyncio
import logging
import os
import re
import secrets
import signal
import socket
import sys
import tempfile
import uuid
from pathlib import Path

from commands import Commands
from heartbeat import Heartbeat, HeartbeatTimer
from images import ImageStore
from ingress import Ingress
from nats import NatsClient
from routes import Routes
from table import Table
from workload import Environment

log = logging.getLogger("host")

UNSUBSCRIBE_S = 0.8  # HOST-DOWN-001 allows 1 s
STOP_S = 5.0  # workloads at shutdown
DRAIN_S = 2.0  # replies at shutdown


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parses the command line; an invalid one ends the process with code 2."""
    parser = argparse.ArgumentParser(prog="host.py", description=__doc__)
    parser.add_argument("--nats", required=True, metavar="URL", help="URL of the broker")
    parser.add_argument("--id", default=str(uuid.uuid4()), metavar="ID", help="host id [default: random]")
    parser.add_argument("--http-addr", metavar="ADDR:PORT", help="address of the HTTP ingress [default: none]")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="directory for volumes [default: temporary]")
    parser.add_argument("--environment", default="", metavar="TEXT", help="environment in the heartbeat")
    parser.add_argument(
        "--plain-http-registry", action="append", default=[], metavar="HOST",
        help="host name of a registry that is reached without TLS; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--host-path-root", action="append", default=[], type=Path, metavar="DIR",
        help="directory below which host paths are permitted; repeatable [default: none]",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", options.id, re.ASCII):
        parser.error("--id must consist of A-Z a-z 0-9 _ -")
    if options.http_addr and not re.fullmatch(r"[^:]+:[0-9]{1,5}|\[[^\]]+\]:[0-9]{1,5}", options.http_addr):
        parser.error("--http-addr must be ADDR:PORT")
    return options


class Host:
    """The parts of the host and their order at start and shutdown."""

    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        """Creates the parts; `run` connects them."""
        self._options = options
        self._routes = Routes()
        self._images = ImageStore(frozenset(options.plain_http_registry))
        environment = Environment(self._images, self._routes, directory, options.host_path_root)
        self._table = Table(environment)
        self._ingress = Ingress(self._routes)
        self._signals = 0
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Runs until a signal arrives."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        hostname = socket.gethostname()
        if self._options.http_addr:
            address, _, port = self._options.http_addr.rpartition(":")
            address = address.strip("[]")
            await self._ingress.listen(address, int(port))
            hostname = hostname if address in ("0.0.0.0", "::") else address  # noqa: S104 - compared only
        await self._serve(hostname)
        self._ingress.close()
        self._images.close()

    async def _serve(self, hostname: str) -> None:
        constant = {
            "id": self._options.id,
            "hostname": hostname,
            "friendlyName": f"stand-in-{secrets.token_hex(8)}",
            "labels": {"hostgroup": "default"},
            "httpPort": self._ingress.port,
            "environment": self._options.environment,
        }
        heartbeat = Heartbeat(constant, self._table)
        subject = f"runtime.operator.heartbeat.{self._options.id}"
        prefix = f"runtime.host.{self._options.id}."
        commands = Commands(prefix, self._table, heartbeat.encode)
        timer = HeartbeatTimer(lambda: client.publish(subject, heartbeat.encode()))
        client = NatsClient(
            self._options.nats, self._options.id, f"{prefix}>", commands.receive, timer.start, timer.stop
        )
        commands.client = client
        connection = asyncio.create_task(client.run())
        await self._ended.wait()
        # shutdown.md: the subscription ends first, so that callers get "no responders" at once
        timer.stop()
        commands.closing = True
        await client.unsubscribe(UNSUBSCRIBE_S)
        await self._table.stop_all(STOP_S)
        await commands.drain(DRAIN_S)
        await client.flush(DRAIN_S)
        client.close()
        connection.cancel()

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(1)  # shutdown.md: a second signal ends the host immediately
        log.info("shutting down")
        self._ended.set()


def main() -> int:
    """Runs the host and returns the exit code."""
    options = parse_arguments(sys.argv[1:])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        with tempfile.TemporaryDirectory(prefix="stand-in-host-", dir=options.dir) as directory:
            asyncio.run(Host(options, Path(directory)).run())
    except OSError as error:
        log.error("cannot run the host: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
