"""Test fixtures: a real broker, a plain NATS peer, and a fake host whose workload names select its behavior."""

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

TIMEOUT_S = 20.0
"""Deadline of a wait on a busy machine; no wait is expected to take this long."""


def nats_server() -> Path:
    """Returns the broker's program: from BERTH_NATS_SERVER, built by `cargo xtask test`, or on the PATH."""
    configured = os.environ.get("BERTH_NATS_SERVER")
    if configured:
        return Path(configured)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "berth"
    cached = sorted(cache.glob("nats-server-*/nats-server"))
    on_path = shutil.which("nats-server")
    if cached:
        return cached[-1]
    assert on_path, "nats-server not found: set BERTH_NATS_SERVER, run `cargo xtask test`, or extend the PATH"
    return Path(on_path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A nats-server that can be stopped and restarted at the same address."""

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
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, "the broker exited"
            assert time.monotonic() < deadline, "the broker does not listen"
            time.sleep(0.01)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


async def eventually(condition: str, poll: Callable[[], Awaitable[T | None]]) -> T:
    """Polls until the result is not `None`, and returns it."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        result = await poll()
        if result is not None:
            return result
        assert time.monotonic() < deadline, f"timed out: {condition}"
        await asyncio.sleep(0.02)


async def with_timeout(awaitable: Awaitable[T]) -> T:
    async with asyncio.timeout(TIMEOUT_S):
        return await awaitable


async def flush(client: Client) -> None:
    """Flushes twice, because the client library may write its PING before data that is still buffered."""
    await client.flush()
    await client.flush()


@dataclass
class Received:
    """A message received by a peer."""

    subject: str
    payload: bytes
    headers: dict[str, str]
    reply: str = ""

    def json(self) -> Any:
        return json.loads(self.payload)

    @property
    def code(self) -> int | None:
        code = self.headers.get("Nats-Service-Error-Code")
        return None if code is None else int(code)

    @property
    def state(self) -> str:
        state: str = self.json()["workloadStatus"]["workloadState"]
        return state.removeprefix("WORKLOAD_STATE_")

    @property
    def state_and_code(self) -> tuple[str, int | None]:
        return self.state, self.code

    @property
    def message(self) -> str:
        return str(self.json()["workloadStatus"].get("message", ""))

    @property
    def id(self) -> str:
        return str(self.json()["workloadStatus"].get("workloadId", ""))


class Peer:
    """A plain NATS peer that uses no code of this package."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._received: asyncio.Queue[Received] = asyncio.Queue()

    @classmethod
    async def connect(cls, url: str) -> Peer:
        return cls(await nats.connect(url, allow_reconnect=False))

    async def close(self) -> None:
        await self._client.close()

    async def subscribe(self, subject: str) -> None:
        async def on_message(msg: Msg) -> None:
            self._received.put_nowait(Received(msg.subject, msg.data, msg.headers or {}, msg.reply))

        await self._client.subscribe(subject, cb=on_message)
        await flush(self._client)

    async def publish(self, subject: str, payload: bytes, reply: str = "") -> None:
        await self._client.publish(subject, payload, reply=reply)
        await flush(self._client)

    async def send_request(self, subject: str, payload: bytes | str) -> str:
        """Sends a request and returns its reply subject. Replies are received like any other message."""
        inbox = self._client.new_inbox()
        await self.subscribe(inbox)
        data = payload.encode() if isinstance(payload, str) else payload
        await self._client.publish(subject, data, reply=inbox)
        return inbox

    async def receive(self) -> Received:
        return await with_timeout(self._received.get())

    async def command(self, host_id: str, command: str, payload: bytes | str) -> Received:
        """Sends a command and returns its reply. Drops the messages received before the reply."""
        inbox = await self.send_request(f"runtime.host.{host_id}.{command}", payload)
        while True:
            received = await self.receive()
            if received.subject == inbox:
                return received

    async def drain(self) -> list[Received]:
        """Returns all pending messages, after a flush."""
        await flush(self._client)
        received = []
        while not self._received.empty():
            received.append(self._received.get_nowait())
        return received


class FakeHost(berth.Host[str]):
    """A host whose workloads behave by name: `hang`, `refuse`, `crash`, `complete`, `fail`; other names run."""

    def __init__(self) -> None:
        self.instances: set[str] = set()

    def describe(self) -> berth.Description:
        return berth.Description(
            hostname="localhost", friendly_name="fake-1", version="0", system_cpu_usage=math.nan
        )

    async def start(self, request: berth.StartRequest) -> str:
        assert request.id not in self.instances, "the ID is in use"
        self.instances.add(request.id)
        try:
            await self._start(request)
        except BaseException:
            self.instances.remove(request.id)
            raise
        return request.id

    async def _start(self, request: berth.StartRequest) -> None:
        match request.workload.name:
            case "hang":
                request.reporter.starting("hanging")
                await asyncio.Event().wait()
            case "refuse":
                raise berth.StartError("x" * 100_000)
            case "crash":
                raise RuntimeError("requested crash")
            case "complete":
                request.reporter.completed("done")
            case "complete in a thread":
                await asyncio.to_thread(request.reporter.completed, "done in a thread")
            case "fail":
                request.reporter.failed("broken")

    async def stop(self, instance: str) -> None:
        self.instances.remove(instance)


class ServedHost:
    """A fake host together with the task that serves it."""

    def __init__(
        self, connection: berth.Bus | berth.ConnectOptions | str, options: berth.ServeOptions | None = None
    ) -> None:
        options = options or berth.ServeOptions()
        self.id = options.host_id
        self.fake = FakeHost()
        self.shutdown = asyncio.Event()
        self.task = asyncio.create_task(berth.serve(connection, self.fake, options, shutdown=self.shutdown))

    async def join(self) -> None:
        """Waits until the host has shut down."""
        await with_timeout(self.task)

    async def __aenter__(self) -> ServedHost:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cancels the host, unless it has shut down."""
        self.task.cancel()
        await asyncio.wait({self.task})


def start_payload(workload_id: str, name: str = "run") -> str:
    return json.dumps({"workloadId": workload_id, "workload": {"name": name}})


def id_payload(workload_id: str) -> str:
    return json.dumps({"workloadId": workload_id})
