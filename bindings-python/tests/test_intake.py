"""The intake of the example scheduler: manifests written by hand, odd files, and a damaged state folder."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from intake import LOCK_POLL_S, MAX_NAME_CHARS, Directory
from schema import unknown_fields
from support import eventually
from test_examples import EXAMPLES, manifest


def deployment(name: str, **spec: Any) -> str:
    return json.dumps({"kind": "WorkloadDeployment", "metadata": {"name": name}, "spec": spec})


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    directory = Directory(tmp_path)
    yield directory
    os.close(directory._lock_file)


def scan(directory: Directory, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], str]:
    """Returns the wanted keys and the output of one scan; a second scan prints nothing."""
    keys = sorted(directory.manifests())
    output = capsys.readouterr().out
    assert sorted(directory.manifests()) == keys
    assert capsys.readouterr().out == "", "each problem is printed once"
    return keys, output


def test_unknown_fields_have_their_path_and_the_near_spelling(
    directory: Directory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    component = {"name": "a", "image": "i", "imagePullPolcy": "Always", "localResources": {"memoryLimitMB": 64}}
    template = {"spec": {"components": [component], "hostinterfaces": []}}
    raw = json.loads(deployment("app", replica=3, template=template))
    raw["metadata"] |= {"label": {"a": "b"}, "annotations": {"any.name/x": "y"}}
    (tmp_path / "app.json").write_text(json.dumps(raw))
    keys, output = scan(directory, capsys)
    assert keys == ["default/app-0"], "the object runs"
    for expected in (
        "app.json",
        "spec.replica, did you mean replicas?",
        "spec.template.spec.components[0].imagePullPolcy, did you mean imagePullPolicy?",
        "spec.template.spec.components[0].localResources.memoryLimitMB, did you mean memoryLimitMb?",
        "spec.template.spec.hostinterfaces, did you mean hostInterfaces?",
        "metadata.label, did you mean labels?",
    ):
        assert expected in output
    assert "any.name" not in output


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (deployment("a", replicas="3"), "spec.replicas is a string, expected an integer"),
        (deployment("a", replicas=True), "spec.replicas is true or false, expected an integer"),
        (deployment("a", replicas=1001), "1001"),
        (manifest("a", components={"name": "a"}), "spec.components is an object, expected a list"),
        (manifest("a", components=[7]), r"spec.components[0] is an integer, expected an object"),
        (manifest("a", hostSelector={"zone": 7}), "spec.hostSelector.zone is an integer, expected a string"),
        (
            manifest("a", service={"image": "i", "localResources": {"environment": {"config": {"P": 8080}}}}),
            "spec.service.localResources.environment.config.P is an integer, expected a string",
        ),
        (manifest("a", volumes=[{}]), "field 'name' is missing"),
        ('{"kind":"Workload"}', "field 'metadata' is missing"),
        ('{"kind":"Workload","metadata":{}}', "field 'name' is missing"),
        ('{"kind":"Workload","metadata":null}', "a.json"),
        ("[]", "the manifest is a list, expected an object"),
        ('{"kind":"Workload",\n "x" 7}', "line 2 column 6"),
        ("", "line 1 column 1"),
        ("[" * 100_000, "a.json"),
        (manifest("../../x"), "invalid name"),
        (manifest("x" * (MAX_NAME_CHARS + 1)), f"at most {MAX_NAME_CHARS} characters"),
        (manifest("a").replace('"default"', '"../.."'), "invalid name or namespace '../..'"),
        (manifest("Not_A_Name"), "invalid name"),
        (json.dumps({"kind": "Pod", "metadata": {"name": "a"}}), "unsupported kind"),
    ],
)
def test_invalid_manifest_is_named_once_and_changes_nothing(
    directory: Directory, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, expected: str
) -> None:
    (tmp_path / "b.json").write_text(manifest("good"))
    (tmp_path / "a.json").write_text(manifest("before"))
    assert scan(directory, capsys) == (["default/before", "default/good"], "")
    (tmp_path / "a.json").write_text(text)
    keys, output = scan(directory, capsys)
    assert keys == ["default/before", "default/good"]
    assert output.startswith("invalid manifest a.json: ")
    assert expected in output
    (tmp_path / "a.json").write_text(manifest("after"))
    assert scan(directory, capsys) == (["default/after", "default/good"], "")


def test_no_warning_quotes_a_value() -> None:
    raw = json.loads(manifest("a", service={"image": "i", "localResources": {"environment": ["hunter2"]}}))
    with pytest.raises(ValueError, match="environment") as error:
        unknown_fields(raw)
    assert "hunter2" not in str(error.value)


def test_odd_entries_are_named_once_and_stop_nothing(
    directory: Directory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.json").write_text(manifest("good"))
    (tmp_path / "dangling.json").symlink_to(tmp_path / "absent")
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.json")).write_text("{")
    keys, output = scan(directory, capsys)
    assert keys == ["default/good"]
    assert len(output.splitlines()) == 5


def test_first_file_of_an_object_counts(
    directory: Directory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b.json").write_text(manifest("app", hostId="b"))
    assert scan(directory, capsys) == (["default/app"], "")
    (tmp_path / "a.json").write_text(manifest("app", hostId="a"))
    _, output = scan(directory, capsys)
    assert output == "ignoring b.json: another file has default/app, too\n"
    assert directory.manifests()["default/app"].constraints.host_id == "a"
    (tmp_path / "a.json").unlink()
    assert directory.manifests()["default/app"].constraints.host_id == "b"


def test_unreadable_directory_is_not_an_empty_one(
    directory: Directory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "app.json").write_text(manifest("app"))
    assert scan(directory, capsys) == (["default/app"], "")
    away = tmp_path.with_name("away")
    tmp_path.rename(away)
    keys, output = scan(directory, capsys)
    assert keys == ["default/app"]
    assert "cannot read" in output
    away.rename(tmp_path)
    assert scan(directory, capsys) == (["default/app"], "")


@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 4096, b"[]", b"[1]", b'{"a":7}', b'{"a":{}}', b"\xff"])
def test_damaged_ids_are_set_aside(
    directory: Directory, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    file = tmp_path / ".berth" / "ids.json"
    file.write_bytes(content)
    assert directory.load_ids() == {}
    if content != b"[]":
        assert "ids.damaged" in capsys.readouterr().out
        assert file.with_suffix(".damaged").read_bytes() == content
    assert directory.save_ids({"a": {"workload": "w", "host": "h"}})
    assert directory.load_ids() == {"a": {"workload": "w", "host": "h"}}


def test_saved_ids_survive_a_power_failure(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    fsync, replace = os.fsync, Path.replace

    def record_fsync(descriptor: int) -> None:
        calls.append(("fsync", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        fsync(descriptor)

    def record_replace(self: Path, target: Path) -> Path:
        calls.append(("replace", target.name))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "replace", record_replace)
    directory.save_ids({})
    assert calls == [("fsync", "ids.part"), ("replace", "ids.json"), ("fsync", ".berth")]


def test_full_disk_stops_nothing(
    directory: Directory, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "app.json").write_text(manifest("app"))
    wanted = directory.manifests()["default/app"]
    with monkeypatch.context() as patch:
        patch.setattr("intake.write_atomically", fail)
        for _ in range(2):
            directory.write_status(wanted, {"conditions": []})
        assert not directory.save_ids({})
    output = capsys.readouterr().out
    assert output.count("No space left on device") == 2, "once for each file"
    directory.write_status(wanted, {"conditions": []})
    assert (tmp_path / ".berth/status/default/workload/app.json").exists()


async def test_waiting_for_the_lock_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = Directory(tmp_path), Directory(tmp_path)
    await first.lock()
    waiting = asyncio.create_task(second.lock())
    await asyncio.sleep(2 * LOCK_POLL_S + 0.2)
    assert capsys.readouterr().out.count("waiting for the lock of") == 1
    waiting.cancel()
    await asyncio.wait({waiting})
    for each in (first, second):
        os.close(each._lock_file)


def test_unusable_state_folder_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / ".berth").write_text("")
    scheduler = str(EXAMPLES / "dir_scheduler/scheduler.py")
    program = [sys.executable, "-B", scheduler, "--manifests", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent / "src")}
    result = subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("cannot use ")
    assert ".berth" in line


# --- the registry client of the example host


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_pulls_script_from_registry_of_either_address_family(
    host: str, load_registry: Callable[..., Any]
) -> None:
    from hashlib import sha256

    script = b"def main(): pass\n"
    digest = f"sha256:{sha256(script).hexdigest()}"
    manifest_json = json.dumps({"layers": [{"digest": digest, "size": len(script)}]}).encode()
    paths = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split()[1].decode()
        paths.append(path)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + (script if "/blobs/" in path else manifest_json))
        writer.close()

    server = await asyncio.start_server(serve, host.strip("[]"), 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        pull = load_registry()
        for suffix in (":1", f"@sha256:{sha256(manifest_json).hexdigest()}", ""):
            assert await pull(f"{host}:{port}/team/hello{suffix}") == script
    assert paths[0] == "/v2/team/hello/manifests/1"
    assert paths[4] == "/v2/team/hello/manifests/latest"


@pytest.fixture
def load_registry(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def load() -> Any:
        monkeypatch.syspath_prepend(str(EXAMPLES / "script_host"))
        import registry

        return registry.pull

    return load


async def test_script_host_ends_its_services_when_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also without SIGTERM: a program that embeds the host cancels it."""
    monkeypatch.syspath_prepend(str(EXAMPLES / "script_host"))
    import berth
    import host as script_host
    from support import Broker

    script = b"import time, os\ndef main():\n    time.sleep(600)\n"

    async def pull(_reference: str) -> bytes:
        return script

    monkeypatch.setattr(script_host, "pull", pull)
    processes = []
    launch = script_host.ServiceProcess.launch

    async def record(script: bytes, environment: dict[str, str]) -> Any:
        processes.append(await launch(script, environment))
        return processes[-1]

    monkeypatch.setattr(script_host.ServiceProcess, "launch", record)
    broker = Broker(tmp_path)
    async with berth.connect(broker.url) as bus, berth.Fleet(bus) as fleet:
        serving = asyncio.create_task(berth.serve(bus, script_host.ScriptHost()))
        joined = await anext(aiter(fleet))
        assert isinstance(joined, berth.HostJoined)
        workload = berth.Workload(service=berth.proto.Service(image="a"))
        status = await fleet.client(joined.host.id).start("a", workload)
        assert status.state is berth.WorkloadState.RUNNING
        serving.cancel()
        await asyncio.wait({serving})
    [process] = processes

    async def poll() -> bool | None:
        return process.process.returncode is not None or None

    await eventually("the process of the service has ended", poll)
    broker.stop()
