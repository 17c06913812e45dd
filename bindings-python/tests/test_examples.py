"""The examples, run as separate programs, and the documents that embed them."""

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
from placement import Assignment, Constraints, Unschedulable, place, versions_compatible
from support import Broker, Peer, ServedHost, eventually

BINDINGS = Path(__file__).parents[1]
EXAMPLES = BINDINGS / "examples"
ROOT = BINDINGS.parent


class Program:
    """An example in a separate process."""

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


async def test_minimal_scheduler_runs_workload_on_minimal_host(broker: Broker) -> None:
    async with (
        Program("minimal_scheduler.py", broker.url) as scheduler,
        Program("minimal_host.py", broker.url) as host,
    ):
        async with asyncio.timeout(30):
            output, _ = await scheduler.communicate()
        assert scheduler.returncode == 0
        first, *rest = output.decode().splitlines()
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


async def read_status(directory: Path, name: str) -> Mapping[str, Any]:
    [kind, name] = name.split("/") if "/" in name else ["workload", name]
    path = directory / ".berth" / "status" / "default" / kind / f"{name}.json"

    async def poll() -> Any:
        return json.loads(path.read_bytes())["status"] if path.exists() else None

    status: Mapping[str, Any] = await eventually(f"the status of {name} is written", poll)
    return status


async def wait_for_reason(directory: Path, name: str, reason: str) -> Mapping[str, Any]:
    async def poll() -> Mapping[str, Any] | None:
        status = await read_status(directory, name)
        return status if status["conditions"][0]["reason"] == reason else None

    return await eventually(f"{name} is {reason}", poll)


async def test_spreads_workloads_and_survives_lost_host_and_restart(broker: Broker, tmp_path: Path) -> None:
    arguments = ("--nats-url", broker.url, "--manifests", tmp_path)
    async with serve_fake_host(broker) as survivor:
        async with Program("dir_scheduler/scheduler.py", *arguments), serve_fake_host(broker) as failing:
            # Once a workload runs on each host, the scheduler knows both.
            for host in (survivor, failing):
                (tmp_path / f"on-{host.id}.json").write_text(manifest(f"on-{host.id}", hostId=host.id))
            for host in (survivor, failing):
                await wait_for_reason(tmp_path, f"on-{host.id}", "Running")
            (tmp_path / f"on-{failing.id}.json").unlink()
            await wait_for_instances(failing, 0)
            names = [f"w{number}" for number in range(5)]
            for name in names:
                (tmp_path / f"{name}.json").write_text(manifest(name))
            for name in names:
                status = await wait_for_reason(tmp_path, name, "Running")
                assert status["hostId"] in (survivor.id, failing.id)
                assert status["conditions"][0]["status"] == "True"
            assert (len(survivor.fake.instances), len(failing.fake.instances)) == (3, 3), (
                "the workloads are spread"
            )
            before = set(survivor.fake.instances)
            failing.task.cancel()
            await wait_for_instances(survivor, 6)
            assert before < survivor.fake.instances, "running workloads are not restarted"
            (tmp_path / "w0.json").unlink()
            await wait_for_instances(survivor, 5)
        # The next process adopts the running workloads and restarts none.
        instances = set(survivor.fake.instances)
        async with Program("dir_scheduler/scheduler.py", *arguments) as successor:
            (tmp_path / "new.json").write_text(manifest("new"))
            status = await wait_for_reason(tmp_path, "new", "Running")
            assert survivor.fake.instances == instances | {status["workloadId"]}
            successor.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                await successor.communicate()
            assert successor.returncode == 0
        assert len(survivor.fake.instances) == 6, "workloads keep running"


def serve_fake_host(broker: Broker) -> ServedHost:
    """Serves a fake host with a short heartbeat interval."""
    return ServedHost(broker.url, berth.ServeOptions(heartbeat_interval_s=1))


async def wait_for_instances(host: ServedHost, count: int) -> None:
    async def poll() -> bool | None:
        return len(host.fake.instances) == count or None

    await eventually(f"the host has {count} instances", poll)


async def test_reports_unschedulable_and_invalid_manifests(broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "picky.json").write_text(manifest("picky", hostSelector={"zone": "b"}))
    (tmp_path / "invalid.json").write_text(manifest("invalid", service={"image": "i", "maxRestarts": -1}))
    (tmp_path / "broken.json").write_text("{")
    async with Program("dir_scheduler/scheduler.py", "--nats-url", broker.url, "--manifests", tmp_path):
        refused = await wait_for_reason(tmp_path, "invalid", "Refused")
        assert "service.maxRestarts" in refused["conditions"][0]["message"]
        async with serve_fake_host(broker):

            async def poll() -> str | None:
                message = str((await read_status(tmp_path, "picky"))["conditions"][0]["message"])
                return message if "0 of 1 hosts" in message else None

            message = await eventually("the status has the placement reason", poll)
            assert message == "0 of 1 hosts fit: 1 without label zone=b"


async def test_retries_failed_start_on_another_host(broker: Broker, tmp_path: Path) -> None:
    peer = await Peer.connect(broker.url)
    await peer.subscribe("runtime.host.*.workload.start")
    # Both fake hosts refuse the workload, in turn and with a new ID each time.
    (tmp_path / "refuse.json").write_text(manifest("refuse"))
    arguments = ("--nats-url", broker.url, "--manifests", tmp_path)
    async with (
        Program("dir_scheduler/scheduler.py", *arguments),
        serve_fake_host(broker),
        serve_fake_host(broker),
    ):
        starts = [await peer.receive() for _ in range(3)]
        status = await wait_for_reason(tmp_path, "refuse", "Ended")
        assert status["conditions"][0]["message"].startswith("xxx")
    assert len({start.json()["workloadId"] for start in starts}) == 3
    assert len({start.subject for start in starts}) == 2
    await peer.close()


async def test_does_not_restart_completed_or_unchanged_workloads(broker: Broker, tmp_path: Path) -> None:
    peer = await Peer.connect(broker.url)
    await peer.subscribe("runtime.host.*.workload.start")
    arguments = ("--nats-url", broker.url, "--manifests", tmp_path)
    async with Program("dir_scheduler/scheduler.py", *arguments), serve_fake_host(broker) as survivor:
        run = tmp_path / "run.json"
        run.write_text(manifest("run", hostId=survivor.id))
        async with serve_fake_host(broker) as failing:
            (tmp_path / "complete.json").write_text(manifest("complete", hostId=failing.id))
            completed = await wait_for_reason(tmp_path, "complete", "Completed")
            assert completed["conditions"][0]["message"].startswith("completed on host")
            await wait_for_reason(tmp_path, "run", "Running")
            # An unchanged manifest does not restart the workload, and an invalid one has no effect.
            run.write_text(manifest("run", hostId=survivor.id))
            run.write_text(manifest("run", hostId=survivor.id, service={"image": "i", "maxRestarts": -1}))

            async def is_refused() -> bool | None:
                return "maxRestarts" in str(await read_status(tmp_path, "run")) or None

            await eventually("the status has the error", is_refused)
        (tmp_path / "last.json").write_text(manifest("last", hostId=survivor.id))
        await wait_for_reason(tmp_path, "last", "Running")
        names = [start.json()["workload"]["name"] for start in await peer.drain()]
        assert sorted(names) == ["complete", "last", "run"]
        assert (await read_status(tmp_path, "complete"))["conditions"][0]["reason"] == "Completed"
    await peer.close()


async def test_reconciles_replicas_of_deployment(broker: Broker, tmp_path: Path) -> None:
    def submit(replicas: int, image: str) -> None:
        spec = {"components": [{"name": "main", "image": image}]}
        deployment = {
            "kind": "WorkloadDeployment",
            "metadata": {"name": "app"},
            "spec": {"replicas": replicas, "template": {"spec": spec}},
        }
        (tmp_path / "app.json").write_text(json.dumps(deployment))

    async def wait_until_ready(replicas: int) -> None:
        async def poll() -> bool | None:
            status = await read_status(tmp_path, "workloaddeployment/app")
            wanted = {"expected": replicas, "current": replicas, "ready": replicas, "unavailable": 0}
            return status["replicas"] == wanted or None

        await eventually(f"{replicas} are ready", poll)
        await wait_for_instances(host, replicas)

    arguments = ("--nats-url", broker.url, "--manifests", tmp_path)
    async with Program("dir_scheduler/scheduler.py", *arguments), serve_fake_host(broker) as host:
        submit(3, "registry.example/a:1")
        await wait_until_ready(3)
        first = set(host.fake.instances)
        submit(4, "registry.example/a:1")
        await wait_until_ready(4)
        assert first < host.fake.instances, "running workloads are not restarted"
        submit(1, "registry.example/a:1")
        await wait_until_ready(1)
        assert host.fake.instances < first
        submit(1, "registry.example/a:2")

        async def is_replaced() -> bool | None:
            return (len(host.fake.instances) == 1 and not host.fake.instances & first) or None

        await eventually("the new template runs", is_replaced)
        (tmp_path / "app.json").unlink()
        await wait_for_instances(host, 0)

        async def is_removed() -> bool | None:
            return not list((tmp_path / ".berth" / "status").rglob("*.json")) or None

        await eventually("all statuses are removed", is_removed)


async def test_standby_takes_over_when_scheduler_dies(broker: Broker, tmp_path: Path) -> None:
    arguments = ("--nats-url", broker.url, "--manifests", tmp_path)
    async with serve_fake_host(broker) as host, Program("dir_scheduler/scheduler.py", *arguments) as first:
        (tmp_path / "a.json").write_text(manifest("a"))
        await wait_for_reason(tmp_path, "a", "Running")
        async with Program("dir_scheduler/scheduler.py", *arguments):
            first.kill()
            await first.communicate()
            (tmp_path / "b.json").write_text(manifest("b"))
            await wait_for_reason(tmp_path, "b", "Running")
            await wait_for_reason(tmp_path, "a", "Running")
            assert len(host.fake.instances) == 2


def host_view(host_id: str, **heartbeat: Any) -> berth.HostView:
    message = berth.proto.HostHeartbeat(id=host_id, **heartbeat)
    return berth.HostView(message, berth.Health.ALIVE, None, 0.0)


def test_places_by_constraints_then_by_load() -> None:
    store = berth.WitInterface(namespace="wasi", package="keyvalue", interfaces=["store"], version="0.2.1")
    hosts = [
        host_view("a", labels={"zone": "b"}, workload_count=5),
        host_view("b", labels={"zone": "b"}, environment="prod", imports=[store], http_port=8000),
        host_view("c", labels={"zone": "c"}),
    ]
    assert place(Constraints(), hosts, {"b": 1}) == Assignment("c")
    assert place(Constraints(), hosts, {}, avoid={"b", "c"}) == Assignment("a")
    assert place(Constraints(labels={"zone": "b"}), hosts, {}) == Assignment("b")
    assert place(Constraints(labels={"zone": "b"}, host_id="c"), hosts, {}) == Unschedulable(
        "0 of 3 hosts fit: 2 without ID c, 1 without label zone=b"
    )
    declared = berth.WitInterface(namespace="wasi", package="keyvalue", interfaces=["store"], version="0.2.0")
    http = berth.WitInterface(namespace="wasi", package="http", interfaces=["incoming-handler"])
    baseline = berth.WitInterface(namespace="wasi", package="clocks", interfaces=["wall-clock"])
    assert place(Constraints(interfaces=(declared, http, baseline)), hosts, {"b": 9}) == Assignment("b")
    assert isinstance(place(Constraints(interfaces=(declared,), environment="test"), hosts, {}), Unschedulable)
    batch = berth.WitInterface(namespace="wasi", package="keyvalue", interfaces=["store", "batch"])
    assert isinstance(place(Constraints(interfaces=(batch,)), hosts, {}), Unschedulable)
    package = berth.WitInterface(namespace="wasi", package="keyvalue")
    whole = host_view("d", imports=[package])
    assert place(Constraints(interfaces=(batch,)), [*hosts, whole], {}) == Assignment("d")


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
def test_version_compatibility(offered: str, declared: str, compatible: bool) -> None:
    assert versions_compatible(offered, declared) is compatible


# --- the documents


DOCUMENTS = [BINDINGS / "README.md", *sorted((ROOT / "docs/guide").glob("*python*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.name))
def test_documents_embed_current_files(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    snippets = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```\n", text, re.DOTALL)
    assert snippets, "each document embeds a file"
    assert text.count("```python") == text.count("-->\n```python"), (
        "each Python snippet is part of a tested file"
    )
    for path, code in snippets:
        assert (ROOT / path).read_text(encoding="utf-8") == code, path
    for path, code in re.findall(r"<!-- part of: (\S+) -->\n```\w+\n(.*?)```\n", text, re.DOTALL):
        assert code in (ROOT / path).read_text(encoding="utf-8"), path


def test_links_resolve() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
