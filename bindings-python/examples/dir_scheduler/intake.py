"""A directory of manifests, a JSON file for each thing that is wanted; what became of it is in `.berth/`.

It knows two kinds of `runtime.wasmcloud.dev/v1alpha1`: a Workload is one workload, a WorkloadDeployment is
`replicas` equal ones. A deployment whose template changes is stopped and started anew.
"""

import asyncio
import fcntl
import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from berth import encoding
from berth.errors import ReadError
from berth.proto import Workload
from placement import Conditions

Json = dict[str, Any]

MAX_MANIFEST_BYTES = 16 << 20
MAX_REPLICAS = 1000
LOCK_POLL_S = 0.5

POLICIES = {
    "Always": "IMAGE_PULL_POLICY_ALWAYS",
    "IfNotPresent": "IMAGE_PULL_POLICY_IF_NOT_PRESENT",
    "Never": "IMAGE_PULL_POLICY_NEVER",
}


@dataclass(frozen=True)
class Manifest:
    """One workload that is wanted."""

    key: str
    """Namespace and name."""
    json: Json
    """The object as it is shown."""
    workload: Workload
    """What is sent to a host."""
    conditions: Conditions
    """What the host has to meet."""
    refused: str = ""
    """Why it, or what has come in its place, cannot be started at all."""

    def asks_for(self) -> tuple[Workload, Conditions]:
        """What has to be started anew when it is another."""
        return (self.workload, self.conditions)


@dataclass(frozen=True)
class Submitted:
    """What stands in one file."""

    json: Json
    replicas: tuple[Manifest, ...]


class Directory:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._shown = path / ".berth" / "status"
        self._state = path / ".berth" / "ids.json"
        self._shown.mkdir(parents=True, exist_ok=True)
        self._lock = (path / ".berth" / "lock").open("w")
        self._seen: dict[Path, tuple[int, int, int]] = {}
        self._submitted: dict[Path, Submitted] = {}
        self._told: dict[Path, Json] = {}

    async def own(self) -> None:
        """Waits until no other process acts on this directory. The lock goes with this process."""
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(LOCK_POLL_S)
                continue
            shutil.rmtree(self._shown, ignore_errors=True)
            return

    def manifests(self) -> dict[str, Manifest]:
        """Every workload that is wanted now; files that have not changed are not read again."""
        there = set(self._path.glob("*.json"))
        for path in self._seen.keys() - there:
            del self._seen[path]
            self._submitted.pop(path, None)
        for path in there:
            try:
                self._look(path)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                print(f"{path.name} is no manifest: {error!r}")
        self._tell_of_deployments()
        return {manifest.key: manifest for known in self._submitted.values() for manifest in known.replicas}

    def _look(self, path: Path) -> None:
        stat = path.stat()
        mark = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if self._seen.get(path) == mark:
            return
        self._seen[path] = mark
        if stat.st_size > MAX_MANIFEST_BYTES:
            raise ValueError(f"it has {stat.st_size} bytes")
        submitted = read(json.loads(path.read_bytes()))
        before = self._submitted.get(path)
        refused = next((one.refused for one in submitted.replicas if one.refused), "")
        if refused and before is not None:
            # What is refused changes nothing of what was wanted before.
            submitted = replace(
                before, replicas=tuple(replace(one, refused=refused) for one in before.replicas)
            )
        self._submitted[path] = submitted

    def tell(self, manifest: Manifest, status: Json) -> None:
        """Shows how a workload fares."""
        self._write({**manifest.json, "status": status})
        self._tell_of_deployments()

    def gone(self, key: str) -> None:
        """Shows that it is over."""
        namespace, _, name = key.partition("/")
        path = self._file({"kind": "Workload", "metadata": {"namespace": namespace, "name": name}})
        self._told.pop(path, None)
        path.unlink(missing_ok=True)
        self._tell_of_deployments()

    def _tell_of_deployments(self) -> None:
        """Shows each deployment as the sum of its replicas, until the last of them is over."""
        shown = set()
        for deployment in [known for known in self._submitted.values() if known.json["kind"] != "Workload"]:
            self._write({**deployment.json, "status": self._sum(deployment)})
            shown.add(self._file(deployment.json))
        deleted = [
            path for path, told in self._told.items() if told["kind"] != "Workload" and path not in shown
        ]
        for path in deleted:
            replicas = path.parent.with_name("workload")
            if not any(
                other.parent == replicas and other.stem.startswith(f"{path.stem}-") for other in self._told
            ):
                del self._told[path]
                path.unlink(missing_ok=True)

    def _sum(self, deployment: Submitted) -> Json:
        told = [self._told.get(self._file(one.json), {}).get("status", {}) for one in deployment.replicas]
        conditions = [status["conditions"][0] for status in told if status]
        ready = sum(one["status"] == "True" for one in conditions)
        expected = len(deployment.replicas)
        why = next((one["message"] for one in conditions if one["status"] != "True"), "not all have begun")
        message = "all replicas are ready" if ready == expected else why
        counts = {
            "expected": expected,
            "current": len(conditions),
            "ready": ready,
            "unavailable": expected - ready,
        }
        shown = condition(ready == expected, "Ready" if ready == expected else "Progressing", message)
        return {"replicas": counts, "conditions": [shown]}

    def _write(self, shown: Json) -> None:
        path = self._file(shown)
        if self._told.get(path) != shown:
            self._told[path] = shown
            path.parent.mkdir(parents=True, exist_ok=True)
            put(path, json.dumps(shown, indent=2))

    def _file(self, shown: Json) -> Path:
        metadata = shown["metadata"]
        namespace = metadata.get("namespace") or "default"
        return self._shown / str(namespace) / str(shown["kind"]).lower() / f"{metadata['name']}.json"

    def remember(self, ids: Json) -> None:
        """Keeps what must not be forgotten when this process ends: which ids may run where."""
        put(self._state, json.dumps(ids), durable=True)

    def remembered(self) -> Json:
        return dict(json.loads(self._state.read_bytes())) if self._state.exists() else {}


def put(path: Path, text: str, *, durable: bool = False) -> None:
    """A reader finds the old file or the new one, and nothing in between; if durable, after a power cut too."""
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    part.replace(path)


def condition(ready: bool, reason: str, message: str) -> dict[str, str]:
    """The one that people and tools look at."""
    return {"type": "Ready", "status": str(ready), "reason": reason, "message": message}


def read(submitted: Json) -> Submitted:
    """Raises `ValueError` and its like when it is no manifest."""
    name, spec = str(submitted["metadata"]["name"]), submitted.get("spec") or {}
    if "/" in name or name.startswith("."):
        raise ValueError(f"{name!r} cannot be a name")
    if submitted.get("kind") == "Workload":
        return Submitted(submitted, (workload(submitted, name, spec),))
    if submitted.get("kind") != "WorkloadDeployment":
        raise ValueError(f"kind {submitted.get('kind')!r} is not one that is known here")
    replicas = int(spec.get("replicas", 1))
    if not 0 <= replicas <= MAX_REPLICAS:
        raise ValueError(f"{replicas} replicas are too many or too few")
    template = (spec.get("template") or {}).get("spec") or {}
    each = tuple(workload(submitted, f"{name}-{number}", template) for number in range(replicas))
    return Submitted(submitted, each)


def workload(submitted: Json, name: str, spec: Json) -> Manifest:
    namespace = submitted["metadata"].get("namespace") or "default"
    on_the_wire = {
        "namespace": namespace,
        "name": name,
        "service": part(spec.get("service")),
        "witWorld": {
            "components": [part(component) for component in spec.get("components") or []],
            "hostInterfaces": list(spec.get("hostInterfaces") or []),
        },
        "volumes": [volume(each) for each in spec.get("volumes") or []],
    }
    message, refused = Workload(), ""
    try:
        message = encoding.read(Workload, json.dumps(on_the_wire).encode())
    except ReadError as error:
        refused = f"the manifest is refused: {error}"
    conditions = Conditions(
        labels=dict(spec.get("hostSelector") or {}),
        environment=spec.get("environment") or "",
        host_id=spec.get("hostId") or "",
        interfaces=tuple(message.wit_world.host_interfaces),
    )
    shown = {**submitted, "kind": "Workload", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
    return Manifest(f"{namespace}/{name}", shown, message, conditions, refused)


def part(spec: Json | None) -> Json | None:
    """A component or a service, whose fields have nearly the same names on the wire."""
    if spec is None:
        return None
    sent = {key: value for key, value in spec.items() if key != "imagePullSecret"}
    resources = dict(spec.get("localResources") or {})
    if "environment" in resources:
        resources["environment"] = (resources["environment"] or {}).get("config") or {}
    policy = POLICIES.get(spec.get("imagePullPolicy") or "")
    return sent | {"imagePullPolicy": policy, "localResources": resources or None}


def volume(spec: Json) -> Json:
    if "hostPath" in spec and "ephemeral" not in spec:
        return {"name": spec["name"], "hostPath": {"localPath": spec["hostPath"].get("path")}}
    return {"name": spec["name"], "emptyDir": {}}
