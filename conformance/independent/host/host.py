"""A host of the control protocol that runs stand-in guests, written from the specification alone."""

import argparse
import asyncio
import logging
import os
import re
import signal
import socket
import sys
import tempfile
import uuid
from pathlib import Path

from images import ImageStore
from ingress import Ingress
from routes import Routes
from session import Session
from table import Table
from violation import UnknownViolation, activate, violates
from workload import Environment

log = logging.getLogger("host")


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
    parser.add_argument(
        "--violation", metavar="ID", help="violation of ../host-violations.toml that this process contains"
    )
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", options.id, re.ASCII):
        parser.error("--id must consist of A-Z a-z 0-9 _ -")
    if options.http_addr and not re.fullmatch(r"[^:]+:[0-9]{1,5}|\[[^\]]+\]:[0-9]{1,5}", options.http_addr):
        parser.error("--http-addr must be ADDR:PORT")
    if options.violation:
        try:
            activate(options.violation)
        except UnknownViolation as error:
            parser.error(f"--violation: {error}")
    return options


class Host:
    """The parts of the host and their order at start and shutdown."""

    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        """Creates the parts; `run` connects them."""
        self._options = options
        self._routes = Routes()
        self._images = ImageStore(frozenset(options.plain_http_registry))
        self._environment = Environment(self._images, self._routes, directory, options.host_path_root)
        self._table = Table(self._environment)
        self._ingress = Ingress(self._routes)
        self._signals = 0
        self._failed = False
        self._ended: asyncio.Future[signal.Signals] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Runs until a signal arrives."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        hostname = socket.gethostname()
        if self._options.http_addr:
            address, _, port = self._options.http_addr.rpartition(":")
            address = address.strip("[]")
            await self._ingress.listen(address, int(port))
            hostname = hostname if address in ("0.0.0.0", "::") else address  # noqa: S104 - compared only
        if violates("hostname-includes-port"):
            hostname += f":{self._ingress.port}"
        await Session(self._options, self._table, self._environment, hostname, self._ingress.port).run(
            self._ended
        )
        self._ingress.close()
        await self._ingress.close_connections()
        self._images.close()

    def exit_code(self) -> int:
        """Returns the exit code after a shutdown."""
        return int(self._failed)

    def _on_signal(self, number: signal.Signals) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(1)  # shutdown.md: a second signal ends the host immediately
        log.info("shutting down")
        self._failed = violates("exit-1-after-failed-workload") and self._table.has_error()
        self._ended.set_result(number)


async def run(options: argparse.Namespace, directory: Path) -> int:
    """Runs the host until a signal arrives."""
    host = Host(options, directory)
    await host.run()
    return host.exit_code()


def main() -> int:
    """Runs the host and returns the exit code."""
    options = parse_arguments(sys.argv[1:])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        with tempfile.TemporaryDirectory(prefix="stand-in-host-", dir=options.dir) as directory:
            return asyncio.run(run(options, Path(directory)))
    except OSError as error:
        log.error("cannot run the host: %s", error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
