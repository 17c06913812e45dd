"""A directory of manifests, a JSON file for each workload that is wanted; what became of it is in `.berth/`."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from berth import encoding
from berth.errors import ReadError
from berth.proto import Workload
from placement import Conditions

MAX_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True)
class Manifest:
    """A file of kind Workload, read."""

    key: str
    """Namespace and name."""
    json: dict[str, Any]
    workload: Workload
    """What is sent to a host."""
    conditions: Conditions
    """What the host has to meet."""
    refused: str = ""
    """Why it, or what has come in its place, cannot be started at all."""

    def asks_for(self) -> tuple[Workload, Conditions]:
        """What has to be started anew when it is another."""
        return (self.workload, self.conditions)


class Directory:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._status = path / ".berth"
        self._status.mkdir(parents=True, exist_ok=True)
        self._seen: dict[Path, tuple[int, int, int]] = {}
        self._read: dict[Path, Manifest] = {}
        self._told: dict[str, tuple[Manifest, dict[str, Any]]] = {}

    def manifests(self) -> dict[str, Manifest]:
        """Everything that is wanted now; files that have not changed are not read again."""
        there = set(self._path.glob("*.json"))
        for path in self._seen.keys() - there:
            del self._seen[path]
            self._read.pop(path, None)
        for path in there:
            try:
                self._look(path)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                print(f"{path.name} is no manifest: {error!r}")
        return {manifest.key: manifest for manifest in self._read.values()}

    def _look(self, path: Path) -> None:
        stat = path.stat()
        mark = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if self._seen.get(path) == mark:
            return
        self._seen[path] = mark
        if stat.st_size > MAX_MANIFEST_BYTES:
            raise ValueError(f"it has {stat.st_size} bytes")
        manifest = read(json.loads(path.read_bytes()))
        before = self._read.get(path)
        if manifest.refused and before is not None:
            # What is refused changes nothing of what was wanted before.
            manifest = replace(before, refused=manifest.refused)
        self._read[path] = manifest

    def tell(self, manifest: Manifest, status: dict[str, Any]) -> None:
        """Shows how a workload fares, when that has changed."""
        if self._told.get(manifest.key) == (manifest, status):
            return
        self._told[manifest.key] = (manifest, status)
        path = self._file(manifest.key)
        part = path.with_suffix(".part")
        part.write_text(json.dumps({**manifest.json, "status": status}, indent=2), encoding="utf-8")
        part.replace(path)

    def gone(self, key: str) -> None:
        """Shows that it is over."""
        self._told.pop(key, None)
        self._file(key).unlink(missing_ok=True)

    def remember(self, state: dict[str, Any]) -> None:
        """Keeps what must not be forgotten when this process ends: which ids may run where."""
        path = self._status / "state" / "ids.json"
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("w", encoding="utf-8") as file:
            json.dump(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)

    def remembered(self) -> dict[str, Any]:
        path = self._status / "state" / "ids.json"
        return dict(json.loads(path.read_bytes())) if path.exists() else {}

    def _file(self, key: str) -> Path:
        namespace, _, name = key.partition("/")
        folder = self._status / namespace
        folder.mkdir(exist_ok=True)
        return folder / f"{name}.json"


def read(manifest: dict[str, Any]) -> Manifest:
    """Raises `ValueError` and its like when it is none."""
    if manifest.get("kind") != "Workload":
        raise ValueError(f"kind {manifest.get('kind')!r} is not one that is known here")
    metadata, spec = manifest["metadata"], dict(manifest.get("spec") or {})
    name, namespace = metadata["name"], metadata.get("namespace") or "default"
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
    refused = ""
    try:
        workload = encoding.read(Workload, json.dumps(on_the_wire).encode())
    except ReadError as error:
        workload, refused = Workload(), f"the manifest is refused: {error}"
    conditions = Conditions(
        labels=dict(spec.get("hostSelector") or {}),
        environment=spec.get("environment") or "",
        host_id=spec.get("hostId") or "",
        interfaces=tuple(workload.wit_world.host_interfaces),
    )
    return Manifest(f"{namespace}/{name}", manifest, workload, conditions, refused)


def part(spec: dict[str, Any] | None) -> dict[str, Any] | None:
    """A component or a service, whose fields have nearly the same names on the wire."""
    if spec is None:
        return None
    sent = {key: value for key, value in spec.items() if key not in ("imagePullPolicy", "imagePullSecret")}
    policy = POLICIES.get(spec.get("imagePullPolicy") or "")
    resources = dict(spec.get("localResources") or {})
    if "environment" in resources:
        resources["environment"] = (resources["environment"] or {}).get("config") or {}
    return sent | {"imagePullPolicy": policy, "localResources": resources or None}


POLICIES = {
    "Always": "IMAGE_PULL_POLICY_ALWAYS",
    "IfNotPresent": "IMAGE_PULL_POLICY_IF_NOT_PRESENT",
    "Never": "IMAGE_PULL_POLICY_NEVER",
}


def volume(spec: dict[str, Any]) -> dict[str, Any]:
    if "hostPath" in spec and "ephemeral" not in spec:
        return {"name": spec["name"], "hostPath": {"localPath": spec["hostPath"].get("path")}}
    return {"name": spec["name"], "emptyDir": {}}


def condition(ready: bool, reason: str, message: str) -> dict[str, str]:
    """The one that people and tools look at."""
    return {"type": "Ready", "status": str(ready), "reason": reason, "message": message}
