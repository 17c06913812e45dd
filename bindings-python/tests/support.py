"""A real broker, a peer that speaks plain NATS, and a host whose workloads do what their names say."""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

import berth

T = TypeVar("T")

PATIENCE_S = 20.0
"""How long a condition may take on a busy machine; nothing is expected to take it."""


def nats_server() -> Path:
    """The broker's program: named, built by `cargo xtask test`, or on the PATH."""
    named = os.environ.get("BERTH_NATS_SERVER")
    if named:
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "berth"
    cached = sorted(cache.glob("nats-server-*/nats-server"))
    found = shutil.which("nats-server")
    if cached:
        return cached[-1]
    assert found, "a nats-server is needed: BERTH_NATS_SERVER, the PATH, or `cargo xtask test` once"
    return Path(found)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A nats-server of its own, that can be taken away and brought back under the same address."""

    def __init__(self, directory: Path, config: str = "") -> None:
        self.directory = directory
        self.port = free_port()
        self._config = directory / f"broker-{self.port}.conf"
        self._config.write_text(f'listen: "127.0.0.1:{self.port}"\n{config}\n', encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self.directory / f"broker-{self.port}.log").open("ab") as log:
            self._process = subprocess.Popen([nats_server(), "-c", self._config], stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, "the broker ended"
            assert time.monotonic() < deadline, "the broker does not listen"
            time.sleep(0.01)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


async def eventually(what: str, look: Callable[[], Awaitable[T | None]]) -> T:
    """What `look` finds, as soon as it finds it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = await look()
        if found is not None:
            return found
        assert time.monotonic() < deadline, f"never: {what}"
        await asyncio.sleep(0.02)


async def soon(awaitable: Awaitable[T]) -> T:
    async with asyncio.timeout(PATIENCE_S):
        return await awaitable


async def flush(client: Client) -> None:
    """Twice: the library may write its PING before what still waits to be written."""
    await client.flush()
    await client.flush()


@dataclass
class Heard:
    """What a peer received."""

    subject: str
    payload: bytes
    headers: dict[str, str]

    def json(self) -> Any:
        return json.loads(self.payload)

    @property
    def code(self) -> int | None:
        code = self.headers.get("Nats-Service-Error-Code")
        return None if code is None else int(code)

    @property
    def state(self) -> tuple[str, int | None]:
        state = self.json()["workloadStatus"]["workloadState"]
        return state.removeprefix("WORKLOAD_STATE_"), self.code

    @property
    def message(self) -> str:
        return str(self.json()["workloadStatus"].get("message", ""))

    @property
    def id(self) -> str:
        return str(self.json()["workloadStatus"].get("workloadId", ""))


class Wire:
    """A peer that speaks plain NATS and knows nothing of this package."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._heard: asyncio.Queue[Heard] = asyncio.Queue()

    @classmethod
    async def connect(cls, url: str) -> Wire:
        return cls(await nats.connect(url, allow_reconnect=False))

    async def close(self) -> None:
        await self._client.close()

    async def subscribe(self, subject: str) -> None:
        async def heard(msg: Msg) -> None:
            self._heard.put_nowait(Heard(msg.subject, msg.data, msg.headers or {}))

        await self._client.subscribe(subject, cb=heard)
        await flush(self._client)

    async def publish(self, subject: str, payload: bytes, reply: str = "") -> None:
        await self._client.publish(subject, payload, reply=reply)
        await flush(self._client)

    async def ask(self, subject: str, payload: bytes | str) -> str:
        """Sends a request whose answers are received like anything else; gives the subject they come on."""
        inbox = self._client.new_inbox()
        await self.subscribe(inbox)
        data = payload.encode() if isinstance(payload, str) else payload
        await self._client.publish(subject, data, reply=inbox)
        return inbox

    async def receive(self) -> Heard:
        return await soon(self._heard.get())

    async def command(self, host_id: str, command: str, payload: bytes | str) -> Heard:
        """Asks and waits for this answer; what else comes meanwhile is dropped."""
        inbox = await self.ask(f"runtime.host.{host_id}.{command}", payload)
        while True:
            heard = await self.receive()
            if heard.subject == inbox:
                return heard

    async def rest(self) -> list[Heard]:
        """What has arrived and was not received, once all that was sent has had its effect."""
        await flush(self._client)
        heard = []
        while not self._heard.empty():
            heard.append(self._heard.get_nowait())
        return heard


class Toy(berth.Host[str]):
    """Runs what the workload's name asks for: `hang`, `refuse`, `crash`, `complete`, `fail`, and else well."""

    def __init__(self) -> None:
        self.held: set[str] = set()

    def describe(self) -> berth.Description:
        return berth.Description(
            hostname="localhost", friendly_name="toy-1", version="0", system_cpu_usage=math.nan
        )

    async def start(self, start: berth.Start) -> str:
        assert start.id not in self.held, "the id was not free"
        self.held.add(start.id)
        try:
            await self._begin(start)
        except BaseException:
            self.held.remove(start.id)
            raise
        return start.id

    async def _begin(self, start: berth.Start) -> None:
        match start.workload.name:
            case "hang":
                start.reporter.starting("hanging")
                await asyncio.Event().wait()
            case "refuse":
                raise berth.Refusal("x" * 100_000)
            case "crash":
                raise RuntimeError("as asked")
            case "complete":
                start.reporter.completed("done")
            case "complete in a thread":
                await asyncio.to_thread(start.reporter.completed, "done there")
            case "fail":
                start.reporter.failed("broken")

    async def stop(self, instance: str) -> None:
        self.held.remove(instance)


class Served:
    """A toy host that is being served."""

    def __init__(
        self, connection: berth.Bus | berth.ConnectOptions | str, options: berth.ServeOptions | None = None
    ) -> None:
        options = options or berth.ServeOptions()
        self.id = options.host_id
        self.toy = Toy()
        self.shutdown = asyncio.Event()
        self.task = asyncio.create_task(berth.serve(connection, self.toy, options, shutdown=self.shutdown))

    async def ended(self) -> None:
        await soon(self.task)

    async def __aenter__(self) -> Served:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends it as a crash would, if it has not ended."""
        self.task.cancel()
        await asyncio.wait({self.task})


def start_of(workload_id: str, name: str = "run") -> str:
    return json.dumps({"workloadId": workload_id, "workload": {"name": name}})


def id_of(workload_id: str) -> str:
    return json.dumps({"workloadId": workload_id})
