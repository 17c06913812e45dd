"""The example scheduler and hosts that behave badly."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from support import Broker, eventually, flush
from test_examples import Program, is_told, manifest, told


class Puppet:
    """A host that obeys, unless it is told to do something else with the next starts or stops."""

    def __init__(self, client: Client, host_id: str) -> None:
        self._client = client
        self.id = host_id
        self.states: dict[str, str] = {}
        self.asked: list[tuple[float, str, str]] = []
        self.next_starts: list[str] = []
        self.next_stops: list[str] = []
        self._beating: asyncio.Task[None] | None = None

    @classmethod
    async def appear(cls, client: Client, host_id: str) -> Puppet:
        puppet = cls(client, host_id)
        await client.subscribe(f"runtime.host.{host_id}.>", cb=puppet._serve)
        await flush(client)
        puppet._beating = asyncio.create_task(puppet._beat())
        return puppet

    async def _beat(self) -> None:
        payload = json.dumps({"id": self.id, "startedAt": "2020-01-01T00:00:00Z"}).encode()
        while True:
            await self._client.publish(f"runtime.operator.heartbeat.{self.id}", payload)
            await asyncio.sleep(0.5)

    def vanish(self) -> None:
        assert self._beating is not None
        self._beating.cancel()

    async def _serve(self, msg: Msg) -> None:
        command = msg.subject.removeprefix(f"runtime.host.{self.id}.workload.")
        request = json.loads(msg.data)
        workload_id = request["workloadId"]
        if workload_id == "berth-probe":
            return await self._answer(msg, workload_id, "NOT_FOUND")
        self.asked.append((time.monotonic(), command, workload_id))
        match command:
            case "start":
                await self._start(msg, workload_id)
            case "stop":
                await self._stop(msg, workload_id)
            case _:
                await self._answer(msg, workload_id, self.states.get(workload_id, "NOT_FOUND"))
        return None

    async def _start(self, msg: Msg, workload_id: str) -> None:
        how = self.next_starts.pop(0) if self.next_starts else "obey"
        if how == "garble and obey":
            self.states[workload_id] = "RUNNING"
            await self._client.publish(msg.reply, b"\xff{")
        elif how == "garble":
            await self._client.publish(msg.reply, b"{}")
        elif how == "hang":
            self.states[workload_id] = "STARTING"
        elif how == "run and refuse":
            self.states[workload_id] = "RUNNING"
            await self._answer(msg, workload_id, "ERROR", "the registry is down")
        elif how == "refuse":
            self.states[workload_id] = "ERROR"
            await self._answer(msg, workload_id, "ERROR", "not today")
        elif workload_id in self.states:
            await self._answer(msg, workload_id, "ERROR", "the id is in use", "409")
        else:
            self.states[workload_id] = "RUNNING"
            await self._answer(msg, workload_id, "RUNNING")

    async def _stop(self, msg: Msg, workload_id: str) -> None:
        how = self.next_stops.pop(0) if self.next_stops else "obey"
        if how == "stopping":
            await self._answer(msg, workload_id, "STOPPING")
        elif how == "garble":
            await self._client.publish(msg.reply, b"[]")
        else:
            self.states.pop(workload_id, None)
            await self._answer(msg, workload_id, "NOT_FOUND")

    async def _answer(self, msg: Msg, workload_id: str, state: str, message: str = "", code: str = "") -> None:
        status = {"workloadId": workload_id, "workloadState": f"WORKLOAD_STATE_{state}", "message": message}
        headers = {"Nats-Service-Error-Code": code} if code else None
        await self._client.publish(msg.reply, json.dumps({"workloadStatus": status}).encode(), headers=headers)

    def ids(self, command: str) -> list[str]:
        return [workload_id for _, asked, workload_id in self.asked if asked == command]


@pytest.fixture
async def client(broker: Broker) -> AsyncIterator[Client]:
    client = await nats.connect(broker.url)
    yield client
    await client.close()


@pytest.fixture
async def puppet(client: Client) -> AsyncIterator[Puppet]:
    puppet = await Puppet.appear(client, "puppet")
    yield puppet
    puppet.vanish()


@pytest.fixture
async def wanted(broker: Broker, tmp_path: Path) -> AsyncIterator[Path]:
    """The directory of a scheduler that runs."""
    directory = tmp_path / "wanted"
    directory.mkdir()
    async with Program("dir_scheduler/scheduler.py", "--nats", broker.url, "--manifests", directory):
        yield directory


async def until(what: str, holds: Any) -> None:
    async def look() -> bool | None:
        return bool(holds()) or None

    await eventually(what, look)


async def test_a_start_whose_answer_says_nothing_is_asked_for(puppet: Puppet, wanted: Path) -> None:
    puppet.next_starts = ["garble and obey"]
    (wanted / "app.json").write_text(manifest("app"))
    status = await is_told(wanted, "app", "Running")
    assert puppet.ids("start") == [status["workloadId"]], "started once"


async def test_a_start_that_did_not_arrive_is_sent_again_under_its_id(puppet: Puppet, wanted: Path) -> None:
    puppet.next_starts = ["garble", "garble"]
    (wanted / "app.json").write_text(manifest("app"))
    status = await is_told(wanted, "app", "Running")
    assert puppet.ids("start") == [status["workloadId"]] * 3


async def test_a_repeated_start_that_is_refused_is_no_failure_before_a_status_says_so(
    puppet: Puppet, wanted: Path
) -> None:
    puppet.next_starts = ["garble", "run and refuse"]
    (wanted / "app.json").write_text(manifest("app"))
    status = await is_told(wanted, "app", "Running")
    assert puppet.ids("start") == [status["workloadId"]] * 2
    assert puppet.ids("stop") == []


async def test_what_is_in_error_is_told_stopped_and_started_under_another_id(
    puppet: Puppet, wanted: Path
) -> None:
    puppet.next_starts = ["refuse", "refuse"]
    (wanted / "app.json").write_text(manifest("app"))

    async def is_shown() -> bool | None:
        return "not today" in str(await told(wanted, "app")) or None

    await eventually("the reason is shown", is_shown)
    await is_told(wanted, "app", "Running")
    starts = puppet.ids("start")
    assert len(set(starts)) == 3
    assert set(puppet.ids("stop")) == set(starts[:2])


async def test_what_a_host_has_forgotten_is_started_anew(puppet: Puppet, wanted: Path) -> None:
    (wanted / "app.json").write_text(manifest("app"))
    first = (await is_told(wanted, "app", "Running"))["workloadId"]
    del puppet.states[first]
    await until("it is started anew", lambda: len(puppet.ids("start")) == 2)
    assert puppet.ids("start")[1] != first


async def test_a_stop_is_repeated_until_the_host_says_not_found(puppet: Puppet, wanted: Path) -> None:
    (wanted / "app.json").write_text(manifest("app"))
    workload_id = (await is_told(wanted, "app", "Running"))["workloadId"]
    puppet.next_stops = ["stopping", "garble"]
    (wanted / "app.json").unlink()
    await until("nothing is told of it", lambda: not list((wanted / ".berth/status").rglob("*.json")))
    assert puppet.ids("stop") == [workload_id] * 3
    assert puppet.states == {}


async def test_what_is_deleted_while_it_starts_is_stopped_at_once(puppet: Puppet, wanted: Path) -> None:
    puppet.next_starts = ["hang"]
    (wanted / "app.json").write_text(manifest("app"))
    await until("it is at work", lambda: puppet.ids("start"))
    (wanted / "app.json").unlink()
    await until("it is stopped", lambda: puppet.ids("stop"))
    assert puppet.ids("stop") == puppet.ids("start")
    (started, _, _), (stopped, _, _) = puppet.asked[0], puppet.asked[-1]
    assert stopped - started < 5


async def test_a_host_that_returns_is_rid_of_what_moved(broker: Broker, client: Client, wanted: Path) -> None:
    away = await nats.connect(broker.url)
    first = await Puppet.appear(away, "first")
    (wanted / "app.json").write_text(manifest("app"))
    old_id = (await is_told(wanted, "app", "Running"))["workloadId"]
    # The network takes it away, and it runs on.
    first.vanish()
    await away.close()
    second = await Puppet.appear(client, "second")
    await until("it is started elsewhere", lambda: second.states)
    assert old_id not in second.states
    again = await nats.connect(broker.url)
    returned = await Puppet.appear(again, "first")
    returned.states = {old_id: "RUNNING"}
    await until("the old one is stopped", lambda: returned.ids("stop"))
    assert returned.ids("stop")[0] == old_id
    assert second.ids("stop") == []
    for puppet in (returned, second):
        puppet.vanish()
    await again.close()
