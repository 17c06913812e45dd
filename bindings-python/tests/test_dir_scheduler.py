"""The example scheduler, against misbehaving hosts."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

import berth
from intake import Directory
from scheduler import Scheduler
from support import Broker, eventually, flush
from test_examples import Program, manifest, read_status, wait_for_reason


class ScriptedHost:
    """A host that conforms, except for the scripted behavior of its next starts and stops."""

    def __init__(self, client: Client, host_id: str) -> None:
        self._client = client
        self.id = host_id
        self.states: dict[str, str] = {}
        self.commands: list[tuple[float, str, str]] = []
        self.next_starts: list[str] = []
        self.next_stops: list[str] = []
        self._heartbeat_task: asyncio.Task[None] | None = None

    @classmethod
    async def join(cls, client: Client, host_id: str) -> ScriptedHost:
        host = cls(client, host_id)
        await client.subscribe(f"runtime.host.{host_id}.>", cb=host._serve)
        await flush(client)
        host._heartbeat_task = asyncio.create_task(host._send_heartbeats())
        return host

    async def _send_heartbeats(self) -> None:
        payload = json.dumps({"id": self.id, "startedAt": "2020-01-01T00:00:00Z"}).encode()
        while True:
            await self._client.publish(f"runtime.operator.heartbeat.{self.id}", payload)
            await asyncio.sleep(0.5)

    def stop_heartbeats(self) -> None:
        assert self._heartbeat_task is not None
        self._heartbeat_task.cancel()

    async def _serve(self, msg: Msg) -> None:
        command = msg.subject.removeprefix(f"runtime.host.{self.id}.workload.")
        request = json.loads(msg.data)
        workload_id = request["workloadId"]
        if workload_id == "berth-probe":  # a probe of the fleet
            return await self._reply(msg, workload_id, "NOT_FOUND")
        self.commands.append((time.monotonic(), command, workload_id))
        match command:
            case "start":
                await self._start(msg, workload_id)
            case "stop":
                await self._stop(msg, workload_id)
            case _:
                await self._reply(msg, workload_id, self.states.get(workload_id, "NOT_FOUND"))
        return None

    async def _start(self, msg: Msg, workload_id: str) -> None:
        behavior = self.next_starts.pop(0) if self.next_starts else "conform"
        if behavior == "run and send invalid reply":
            self.states[workload_id] = "RUNNING"
            await self._client.publish(msg.reply, b"\xff{")
        elif behavior == "send invalid reply":
            await self._client.publish(msg.reply, b"{}")
        elif behavior == "hang":
            self.states[workload_id] = "STARTING"
        elif behavior == "run and refuse":
            self.states[workload_id] = "RUNNING"
            await self._reply(msg, workload_id, "ERROR", "the registry is down")
        elif behavior == "refuse":
            self.states[workload_id] = "ERROR"
            await self._reply(msg, workload_id, "ERROR", "not possible")
        elif workload_id in self.states:
            await self._reply(msg, workload_id, "ERROR", "the ID is in use", "409")
        else:
            self.states[workload_id] = "RUNNING"
            await self._reply(msg, workload_id, "RUNNING")

    async def _stop(self, msg: Msg, workload_id: str) -> None:
        behavior = self.next_stops.pop(0) if self.next_stops else "conform"
        if behavior == "stopping":
            await self._reply(msg, workload_id, "STOPPING")
        elif behavior == "send invalid reply":
            await self._client.publish(msg.reply, b"[]")
        else:
            self.states.pop(workload_id, None)
            await self._reply(msg, workload_id, "NOT_FOUND")

    async def _reply(self, msg: Msg, workload_id: str, state: str, message: str = "", code: str = "") -> None:
        status = {"workloadId": workload_id, "workloadState": f"WORKLOAD_STATE_{state}", "message": message}
        headers = {"Nats-Service-Error-Code": code} if code else None
        await self._client.publish(msg.reply, json.dumps({"workloadStatus": status}).encode(), headers=headers)

    def ids(self, command: str) -> list[str]:
        return [workload_id for _, received, workload_id in self.commands if received == command]


@pytest.fixture
async def client(broker: Broker) -> AsyncIterator[Client]:
    client = await nats.connect(broker.url)
    yield client
    await client.close()


@pytest.fixture
async def host(client: Client) -> AsyncIterator[ScriptedHost]:
    host = await ScriptedHost.join(client, "scripted")
    yield host
    host.stop_heartbeats()


@pytest.fixture
async def manifests(broker: Broker, tmp_path: Path) -> AsyncIterator[Path]:
    """The manifest directory of a running scheduler."""
    directory = tmp_path / "manifests"
    directory.mkdir()
    async with Program("dir_scheduler/scheduler.py", "--nats-url", broker.url, "--manifests", directory):
        yield directory


async def wait_until(condition: str, predicate: Any) -> None:
    async def poll() -> bool | None:
        return bool(predicate()) or None

    await eventually(condition, poll)


async def test_polls_status_after_invalid_start_reply(host: ScriptedHost, manifests: Path) -> None:
    host.next_starts = ["run and send invalid reply"]
    (manifests / "app.json").write_text(manifest("app"))
    status = await wait_for_reason(manifests, "app", "Running")
    assert host.ids("start") == [status["workloadId"]], "started once"


async def test_resends_start_with_same_id_if_host_does_not_know_it(host: ScriptedHost, manifests: Path) -> None:
    host.next_starts = ["send invalid reply", "send invalid reply"]
    (manifests / "app.json").write_text(manifest("app"))
    status = await wait_for_reason(manifests, "app", "Running")
    assert host.ids("start") == [status["workloadId"]] * 3


async def test_polls_status_after_refused_retry(host: ScriptedHost, manifests: Path) -> None:
    host.next_starts = ["send invalid reply", "run and refuse"]
    (manifests / "app.json").write_text(manifest("app"))
    status = await wait_for_reason(manifests, "app", "Running")
    assert host.ids("start") == [status["workloadId"]] * 2
    assert host.ids("stop") == []


async def test_replaces_failed_workload_with_new_id(host: ScriptedHost, manifests: Path) -> None:
    host.next_starts = ["refuse", "refuse"]
    (manifests / "app.json").write_text(manifest("app"))

    async def is_shown() -> bool | None:
        return "not possible" in str(await read_status(manifests, "app")) or None

    await eventually("the status has the reason", is_shown)
    await wait_for_reason(manifests, "app", "Running")
    starts = host.ids("start")
    assert len(set(starts)) == 3
    assert set(host.ids("stop")) == set(starts[:2])


async def test_restarts_workload_that_host_does_not_find(host: ScriptedHost, manifests: Path) -> None:
    (manifests / "app.json").write_text(manifest("app"))
    first = (await wait_for_reason(manifests, "app", "Running"))["workloadId"]
    del host.states[first]
    await wait_until("the workload is restarted", lambda: len(host.ids("start")) == 2)
    assert host.ids("start")[1] != first


async def test_repeats_stop_until_not_found(host: ScriptedHost, manifests: Path) -> None:
    (manifests / "app.json").write_text(manifest("app"))
    workload_id = (await wait_for_reason(manifests, "app", "Running"))["workloadId"]
    host.next_stops = ["stopping", "send invalid reply"]
    (manifests / "app.json").unlink()
    await wait_until("the status is removed", lambda: not list((manifests / ".berth/status").rglob("*.json")))
    assert host.ids("stop") == [workload_id] * 3
    assert host.states == {}


async def test_stops_workload_deleted_while_starting(host: ScriptedHost, manifests: Path) -> None:
    host.next_starts = ["hang"]
    (manifests / "app.json").write_text(manifest("app"))
    await wait_until("the start is in flight", lambda: host.ids("start"))
    (manifests / "app.json").unlink()
    await wait_until("the workload is stopped", lambda: host.ids("stop"))
    assert host.ids("stop") == host.ids("start")
    (started_s, _, _), (stopped_s, _, _) = host.commands[0], host.commands[-1]
    assert stopped_s - started_s < 5


async def test_stops_old_id_on_recovered_host(broker: Broker, client: Client, manifests: Path) -> None:
    first_client = await nats.connect(broker.url)
    first = await ScriptedHost.join(first_client, "first")
    (manifests / "app.json").write_text(manifest("app"))
    old_id = (await wait_for_reason(manifests, "app", "Running"))["workloadId"]
    # The host is cut off but keeps running.
    first.stop_heartbeats()
    await first_client.close()
    second = await ScriptedHost.join(client, "second")
    await wait_until("the workload is started elsewhere", lambda: second.states)
    assert old_id not in second.states
    new_client = await nats.connect(broker.url)
    recovered = await ScriptedHost.join(new_client, "first")
    recovered.states = {old_id: "RUNNING"}
    await wait_until("the old ID is stopped", lambda: recovered.ids("stop"))
    assert recovered.ids("stop")[0] == old_id
    assert second.ids("stop") == []
    for host in (recovered, second):
        host.stop_heartbeats()
    await new_client.close()


async def test_slow_reader_of_events_finds_the_lost_hosts(tmp_path: Path) -> None:
    class StubFleet:
        async def __aiter__(self) -> AsyncIterator[berth.FleetEvent]:
            yield berth.HostLost("earlier", berth.Reason.SILENT)
            yield berth.EventsMissed(7)

        def hosts(self) -> list[berth.HostView]:
            healths = {"alive": berth.Health.ALIVE, "suspect": berth.Health.SUSPECT, "gone": berth.Health.LOST}
            return [
                berth.HostView(berth.proto.HostHeartbeat(id=host_id), health, None, 0)
                for host_id, health in healths.items()
            ]

    directory = Directory(tmp_path)
    scheduler = Scheduler(cast(berth.Fleet, StubFleet()), directory)
    await scheduler._watch_fleet()
    assert dict(scheduler._losses) == {"earlier": 1, "gone": 1}
    os.close(directory._lock_file)
