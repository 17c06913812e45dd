"""The examples, run as they are; what the documents show of them is what is run here."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import berth
from placement import Conditions, Placed, Waits, agree, place
from support import Broker, Served, Wire, eventually

BINDINGS = Path(__file__).parents[1]
EXAMPLES = BINDINGS / "examples"
ROOT = BINDINGS.parent


class Program:
    """An example in a process of its own."""

    def __init__(self, path: str, *arguments: object) -> None:
        self._command = [sys.executable, "-u", str(EXAMPLES / path), *map(str, arguments)]

    async def __aenter__(self) -> asyncio.subprocess.Process:
        environment = os.environ | {"PYTHONPATH": str(BINDINGS / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        self._process = await asyncio.create_subprocess_exec(
            *self._command, env=environment, stdout=asyncio.subprocess.PIPE
        )
        return self._process

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()


async def test_the_minimal_scheduler_runs_a_workload_on_the_minimal_host(broker: Broker) -> None:
    async with (
        Program("minimal_scheduler.py", broker.url) as scheduler,
        Program("minimal_host.py", broker.url) as host,
    ):
        async with asyncio.timeout(30):
            said, _ = await scheduler.communicate()
        assert scheduler.returncode == 0
        first, *rest = said.decode().splitlines()
        assert first.startswith("minimal-")
        assert rest == ["demo-1 is RUNNING", "demo-1 is RUNNING", "demo-1 is gone"]
        host.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            await host.communicate()
        assert host.returncode == 0


# --- the scheduler for a directory


def manifest(name: str, **spec: Any) -> str:
    components = [{"name": "main", "image": "registry.example/a:1"}]
    return json.dumps(
        {
            "apiVersion": "runtime.wasmcloud.dev/v1alpha1",
            "kind": "Workload",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"components": components, **spec},
        }
    )


async def told(directory: Path, name: str) -> Mapping[str, Any]:
    [kind, name] = name.split("/") if "/" in name else ["workload", name]
    path = directory / ".berth" / "status" / "default" / kind / f"{name}.json"

    async def look() -> Any:
        return json.loads(path.read_bytes())["status"] if path.exists() else None

    status: Mapping[str, Any] = await eventually(f"{name} is told of", look)
    return status


async def is_told(directory: Path, name: str, reason: str) -> Mapping[str, Any]:
    async def look() -> Mapping[str, Any] | None:
        status = await told(directory, name)
        return status if status["conditions"][0]["reason"] == reason else None

    return await eventually(f"{name} is {reason}", look)


async def test_a_directory_is_spread_over_the_fleet_and_survives_a_host(broker: Broker, tmp_path: Path) -> None:
    arguments = ("--nats", broker.url, "--manifests", tmp_path)
    async with served(broker) as stays:
        async with Program("dir_scheduler/scheduler.py", *arguments), served(broker) as dies:
            # Once one runs on each, both are known.
            for host in (stays, dies):
                (tmp_path / f"on-{host.id}.json").write_text(manifest(f"on-{host.id}", hostId=host.id))
            for host in (stays, dies):
                await is_told(tmp_path, f"on-{host.id}", "Running")
            (tmp_path / f"on-{dies.id}.json").unlink()
            await holds(dies, 0)
            names = [f"w{number}" for number in range(5)]
            for name in names:
                (tmp_path / f"{name}.json").write_text(manifest(name))
            for name in names:
                status = await is_told(tmp_path, name, "Running")
                assert status["hostId"] in (stays.id, dies.id)
                assert status["conditions"][0]["status"] == "True"
            assert (len(stays.toy.held), len(dies.toy.held)) == (3, 3), "they are spread"
            before = set(stays.toy.held)
            dies.task.cancel()
            await holds(stays, 6)
            assert before < stays.toy.held, "those that ran were left alone"
            (tmp_path / "w0.json").unlink()
            await holds(stays, 5)
        # Another process finds what the first one started, and starts nothing anew.
        held = set(stays.toy.held)
        async with Program("dir_scheduler/scheduler.py", *arguments) as again:
            (tmp_path / "new.json").write_text(manifest("new"))
            status = await is_told(tmp_path, "new", "Running")
            assert stays.toy.held == held | {status["workloadId"]}
            again.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                await again.communicate()
            assert again.returncode == 0
        assert len(stays.toy.held) == 6, "what runs goes on running"


def served(broker: Broker) -> Served:
    """A host that is heard of soon."""
    return Served(broker.url, berth.ServeOptions(heartbeat_interval_s=1))


async def holds(host: Served, count: int) -> None:
    async def look() -> bool | None:
        return len(host.toy.held) == count or None

    await eventually(f"it holds {count}", look)


async def test_what_cannot_be_placed_waits_and_what_is_odd_is_told(broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "picky.json").write_text(manifest("picky", hostSelector={"zone": "b"}))
    (tmp_path / "odd.json").write_text(manifest("odd", service={"image": "i", "maxRestarts": -1}))
    (tmp_path / "broken.json").write_text("{")
    async with Program("dir_scheduler/scheduler.py", "--nats", broker.url, "--manifests", tmp_path):
        refused = await is_told(tmp_path, "odd", "Refused")
        assert "service.maxRestarts" in refused["conditions"][0]["message"]
        async with served(broker):

            async def look() -> str | None:
                message = str((await told(tmp_path, "picky"))["conditions"][0]["message"])
                return message if "0 of 1 hosts" in message else None

            message = await eventually("it waits for a host that fits", look)
            assert message == "0 of 1 hosts fit: 1 lacks the label zone=b"


async def test_a_start_that_fails_is_tried_on_another_host(broker: Broker, tmp_path: Path) -> None:
    wire = await Wire.connect(broker.url)
    await wire.subscribe("runtime.host.*.workload.start")
    # The toy refuses by name; both hosts do, in turn, under a new id each time.
    (tmp_path / "refuse.json").write_text(manifest("refuse"))
    arguments = ("--nats", broker.url, "--manifests", tmp_path)
    async with Program("dir_scheduler/scheduler.py", *arguments), served(broker), served(broker):
        starts = [await wire.receive() for _ in range(3)]
        status = await is_told(tmp_path, "refuse", "Ended")
        assert status["conditions"][0]["message"].startswith("xxx")
    assert len({start.json()["workloadId"] for start in starts}) == 3
    assert len({start.subject for start in starts}) == 2
    await wire.close()


async def test_what_is_done_or_wanted_already_is_not_done_again(broker: Broker, tmp_path: Path) -> None:
    wire = await Wire.connect(broker.url)
    await wire.subscribe("runtime.host.*.workload.start")
    arguments = ("--nats", broker.url, "--manifests", tmp_path)
    async with Program("dir_scheduler/scheduler.py", *arguments), served(broker) as stays:
        run = tmp_path / "run.json"
        run.write_text(manifest("run", hostId=stays.id))
        async with served(broker) as dies:
            (tmp_path / "complete.json").write_text(manifest("complete", hostId=dies.id))
            completed = await is_told(tmp_path, "complete", "Completed")
            assert completed["conditions"][0]["message"].startswith("completed on host")
            await is_told(tmp_path, "run", "Running")
            # What is wanted already is not started again, and what is refused changes nothing.
            run.write_text(manifest("run", hostId=stays.id))
            run.write_text(manifest("run", hostId=stays.id, service={"image": "i", "maxRestarts": -1}))

            async def is_refused() -> bool | None:
                return "maxRestarts" in str(await told(tmp_path, "run")) or None

            await eventually("it is told that it was refused", is_refused)
        (tmp_path / "last.json").write_text(manifest("last", hostId=stays.id))
        await is_told(tmp_path, "last", "Running")
        names = [start.json()["workload"]["name"] for start in await wire.rest()]
        assert sorted(names) == ["complete", "last", "run"]
        assert (await told(tmp_path, "complete"))["conditions"][0]["reason"] == "Completed"
    await wire.close()


async def test_a_deployment_is_so_many_workloads(broker: Broker, tmp_path: Path) -> None:
    def submit(replicas: int, image: str) -> None:
        spec = {"components": [{"name": "main", "image": image}]}
        deployment = {
            "kind": "WorkloadDeployment",
            "metadata": {"name": "app"},
            "spec": {"replicas": replicas, "template": {"spec": spec}},
        }
        (tmp_path / "app.json").write_text(json.dumps(deployment))

    async def is_ready(replicas: int) -> None:
        async def look() -> bool | None:
            status = await told(tmp_path, "workloaddeployment/app")
            wanted = {"expected": replicas, "current": replicas, "ready": replicas, "unavailable": 0}
            return status["replicas"] == wanted or None

        await eventually(f"{replicas} are ready", look)
        await holds(host, replicas)

    arguments = ("--nats", broker.url, "--manifests", tmp_path)
    async with Program("dir_scheduler/scheduler.py", *arguments), served(broker) as host:
        submit(3, "registry.example/a:1")
        await is_ready(3)
        first = set(host.toy.held)
        submit(4, "registry.example/a:1")
        await is_ready(4)
        assert first < host.toy.held, "those that ran were left alone"
        submit(1, "registry.example/a:1")
        await is_ready(1)
        assert host.toy.held < first
        submit(1, "registry.example/a:2")

        async def is_another() -> bool | None:
            return (len(host.toy.held) == 1 and not host.toy.held & first) or None

        await eventually("the new template runs", is_another)
        (tmp_path / "app.json").unlink()
        await holds(host, 0)

        async def is_gone() -> bool | None:
            return not list((tmp_path / ".berth" / "status").rglob("*.json")) or None

        await eventually("nothing is told of it any longer", is_gone)


async def test_of_two_schedulers_for_one_directory_one_acts(broker: Broker, tmp_path: Path) -> None:
    arguments = ("--nats", broker.url, "--manifests", tmp_path)
    async with served(broker) as host, Program("dir_scheduler/scheduler.py", *arguments) as first:
        (tmp_path / "a.json").write_text(manifest("a"))
        await is_told(tmp_path, "a", "Running")
        async with Program("dir_scheduler/scheduler.py", *arguments):
            first.kill()
            await first.communicate()
            (tmp_path / "b.json").write_text(manifest("b"))
            await is_told(tmp_path, "b", "Running")
            await is_told(tmp_path, "a", "Running")
            assert len(host.toy.held) == 2


def host_view(host_id: str, **heartbeat: Any) -> berth.HostView:
    said = berth.proto.HostHeartbeat(id=host_id, **heartbeat)
    return berth.HostView(said, berth.Health.ALIVE, None, 0.0)


def test_placement_is_by_conditions_and_then_by_load() -> None:
    store = berth.WitInterface(namespace="wasi", package="keyvalue", interfaces=["store"], version="0.2.1")
    hosts = [
        host_view("a", labels={"zone": "b"}, workload_count=5),
        host_view("b", labels={"zone": "b"}, environment="prod", imports=[store], http_port=8000),
        host_view("c", labels={"zone": "c"}),
    ]
    assert place(Conditions(), hosts, {"b": 1}) == Placed("c")
    assert place(Conditions(), hosts, {}, avoid={"b", "c"}) == Placed("a")
    assert place(Conditions(labels={"zone": "b"}), hosts, {}) == Placed("b")
    assert place(Conditions(labels={"zone": "b"}, host_id="c"), hosts, {}) == Waits(
        "0 of 3 hosts fit: 2 is not c, 1 lacks the label zone=b"
    )
    wants = berth.WitInterface(namespace="wasi", package="keyvalue", interfaces=["store"], version="0.2.0")
    serves = berth.WitInterface(namespace="wasi", package="http", interfaces=["incoming-handler"])
    baseline = berth.WitInterface(namespace="wasi", package="clocks", interfaces=["wall-clock"])
    assert place(Conditions(interfaces=(wants, serves, baseline)), hosts, {"b": 9}) == Placed("b")
    assert isinstance(place(Conditions(interfaces=(wants,), environment="test"), hosts, {}), Waits)


@pytest.mark.parametrize(
    ("offered", "declared", "compatible"),
    [
        ("", "0.2.0", True),
        ("0.2.0", "0.2.6", True),
        ("0.2.0", "0.3.0", False),
        ("0.0.1", "0.0.2", False),
        ("1.2.3", "1.9.0", True),
        ("2.0.0", "1.0.0", False),
        ("0.2.0-draft", "0.2.0-draft", True),
        ("0.2.0-draft", "0.2.0", False),
    ],
)
def test_versions_agree(offered: str, declared: str, compatible: bool) -> None:
    assert agree(offered, declared) is compatible


# --- the documents


DOCUMENTS = [BINDINGS / "README.md", *sorted((ROOT / "docs/guide").glob("*python*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.name))
def test_documents_show_files_as_they_are(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    shown = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```\n", text, re.DOTALL)
    assert shown, "a document shows at least one file"
    assert text.count("```python") == text.count("-->\n```python"), (
        "every block of Python is a file that is run"
    )
    for path, code in shown:
        assert (ROOT / path).read_text(encoding="utf-8") == code, path
    for path, code in re.findall(r"<!-- part of: (\S+) -->\n```\w+\n(.*?)```\n", text, re.DOTALL):
        assert code in (ROOT / path).read_text(encoding="utf-8"), path


def test_links_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
