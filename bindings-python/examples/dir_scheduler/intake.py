"""Intake from a directory: one JSON manifest per object; the status of each object is written to `.berth/`.

Two kinds of `runtime.wasmcloud.dev/v1alpha1` are supported: a Workload is a single workload, a
WorkloadDeployment is a number of identical replicas. If the template of a deployment changes, its replicas are
stopped and recreated.
"""

import asyncio
import fcntl
import json
import os
import re
import shutil
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from berth import encoding
from berth.errors import DecodeError
from berth.proto import Workload
from placement import Constraints
from schema import unknown_fields

Json = dict[str, Any]

MAX_MANIFEST_BYTES = 16 << 20
"""Maximum size of one manifest."""

MAX_REPLICAS = 1000
"""Maximum number of replicas of one deployment."""

NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", re.ASCII)

MAX_NAME_CHARS = 240
"""Maximum length of a name or a namespace: a replica's number and a suffix must fit into a file name, too."""

LOCK_POLL_S = 0.5
"""Interval between attempts to lock the directory."""

PULL_POLICIES = {
    "Always": "IMAGE_PULL_POLICY_ALWAYS",
    "IfNotPresent": "IMAGE_PULL_POLICY_IF_NOT_PRESENT",
    "Never": "IMAGE_PULL_POLICY_NEVER",
}


@dataclass(frozen=True)
class Manifest:
    """Manifest of one wanted workload."""

    key: str
    """Namespace and name."""
    json: Json
    """Object as written to the status file."""
    workload: Workload
    """Workload as sent to a host."""
    constraints: Constraints
    """Constraints on the host."""
    error: str = ""
    """Error of this manifest, or of a later version that was rejected; empty if both are valid."""

    def spec(self) -> tuple[Workload, Constraints]:
        """Returns the parts whose change requires a new incarnation."""
        return (self.workload, self.constraints)


@dataclass(frozen=True)
class SubmittedObject:
    """An object submitted in one file, with the manifests of its replicas."""

    json: Json
    replicas: tuple[Manifest, ...]
    error: str = ""
    """Error of a later version of the file, which has no effect."""


class Directory:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._status_dir = path / ".berth" / "status"
        self._ids_file = path / ".berth" / "ids.json"
        self._status_dir.mkdir(parents=True, exist_ok=True)
        self._lock_file = os.open(path / ".berth" / "lock", os.O_CREAT | os.O_RDWR)
        self._fingerprints: dict[Path, tuple[int, int, int]] = {}
        self._objects: dict[Path, SubmittedObject] = {}
        self._written: dict[Path, Json] = {}
        # The latest problem of each file and folder, so that it is printed once.
        self._problems: dict[Path, str] = {}

    async def lock(self) -> None:
        """Waits for the exclusive lock on the directory, which is released when this process ends."""
        while True:
            try:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._report(self._path, f"waiting for the lock of {self._path}, which another scheduler holds")
                await asyncio.sleep(LOCK_POLL_S)
                continue
            shutil.rmtree(self._status_dir, ignore_errors=True)
            return

    def manifests(self) -> dict[str, Manifest]:
        """Returns the manifests of all wanted workloads. Unchanged files are not read again."""
        try:
            paths = {path for path in self._path.iterdir() if path.suffix == ".json"}
        except OSError as error:
            # An unreadable directory is not an empty one: its workloads keep running.
            self._report(self._path, f"cannot read {self._path}: {error.strerror}")
            paths = set(self._objects)
        else:
            self._report(self._path, "")
        for path in self._fingerprints.keys() - paths:
            del self._fingerprints[path]
            self._objects.pop(path, None)
            self._report(path, "")
        for path in sorted(paths):
            try:
                self._refresh(path)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                missing = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
                self._report(path, f"invalid manifest {path.name}: {missing}")
                if (previous := self._objects.get(path)) is not None:
                    self._objects[path] = replace(previous, error=f"invalid manifest: {missing}")
        self._write_deployment_statuses()
        wanted: dict[str, Manifest] = {}
        for path, submitted in sorted(self._objects.items()):
            for replica in submitted.replicas:
                if wanted.setdefault(replica.key, replica) is not replica:
                    self._report(path, f"ignoring {path.name}: another file has {replica.key}, too")
        return wanted

    def _report(self, path: Path, problem: str) -> None:
        """Prints a problem of a file once, until it has another one."""
        if self._problems.get(path, "") != problem:
            self._problems[path] = problem
            if problem:
                # A file name need not be valid UTF-8.
                print(problem.encode(errors="backslashreplace").decode(), flush=True)

    def _refresh(self, path: Path) -> None:
        status = path.stat()
        fingerprint = (status.st_mtime_ns, status.st_size, status.st_ino)
        if self._fingerprints.get(path) == fingerprint:
            return
        if not stat.S_ISREG(status.st_mode):  # reading a pipe, for example, would take forever
            raise ValueError("not a regular file")
        if status.st_size > MAX_MANIFEST_BYTES:
            raise ValueError(f"the file has {status.st_size} bytes; the maximum is {MAX_MANIFEST_BYTES}")
        content = path.read_bytes()
        self._fingerprints[path] = fingerprint
        raw = json.loads(content)
        warnings = unknown_fields(raw)
        submitted = parse_object(raw)
        self._report(path, "; ".join(f"manifest {path.name}: {warning}" for warning in warnings))
        previous = self._objects.get(path)
        error = next((replica.error for replica in submitted.replicas if replica.error), "")
        if error and previous is not None:
            # An invalid version does not replace the previous one; it only adds an error to its status.
            replicas = tuple(replace(replica, error=error) for replica in previous.replicas)
            submitted = replace(previous, replicas=replicas, error=error)
        self._objects[path] = submitted

    def write_status(self, manifest: Manifest, status: Json) -> None:
        """Writes the status of a workload."""
        self._write({**manifest.json, "status": status})
        self._write_deployment_statuses()

    def remove_status(self, key: str) -> None:
        """Removes the status of a workload that was deleted and stopped."""
        namespace, _, name = key.partition("/")
        path = self._status_path({"kind": "Workload", "metadata": {"namespace": namespace, "name": name}})
        self._written.pop(path, None)
        path.unlink(missing_ok=True)
        self._write_deployment_statuses()

    def _write_deployment_statuses(self) -> None:
        """Writes the aggregated status of each deployment, and removes it when the last replica is gone."""
        current_paths = set()
        deployments = [each for each in self._objects.values() if each.json["kind"] != "Workload"]
        for deployment in deployments:
            self._write({**deployment.json, "status": self._aggregate(deployment)})
            current_paths.add(self._status_path(deployment.json))
        deleted = [
            path
            for path, raw in self._written.items()
            if raw["kind"] != "Workload" and path not in current_paths
        ]
        for path in deleted:
            replica_status_dir = path.parent.with_name("workload")
            if not any(
                other.parent == replica_status_dir and other.stem.startswith(f"{path.stem}-")
                for other in self._written
            ):
                del self._written[path]
                path.unlink(missing_ok=True)

    def _aggregate(self, deployment: SubmittedObject) -> Json:
        statuses = [
            self._written.get(self._status_path(replica.json), {}).get("status", {})
            for replica in deployment.replicas
        ]
        conditions = [status["conditions"][0] for status in statuses if status]
        ready = sum(condition["status"] == "True" for condition in conditions)
        expected = len(deployment.replicas)
        not_ready = (condition["message"] for condition in conditions if condition["status"] != "True")
        message = "all replicas are ready" if ready == expected else next(not_ready, "waiting for replicas")
        if deployment.error:
            message = f"{message}; {deployment.error}"
        counts = {
            "expected": expected,
            "current": len(conditions),
            "ready": ready,
            "unavailable": expected - ready,
        }
        reason = "Ready" if ready == expected else "Progressing"
        return {"replicas": counts, "conditions": [ready_condition(ready == expected, reason, message)]}

    def _write(self, raw: Json) -> None:
        path = self._status_path(raw)
        if self._written.get(path) != raw:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, json.dumps(raw, indent=2))
            except OSError as error:  # a full disk, for example, does not affect the workloads
                self._report(path, f"cannot write {path}: {error.strerror}")
            else:
                self._written[path] = raw
                self._report(path, "")

    def _status_path(self, raw: Json) -> Path:
        metadata = raw["metadata"]
        namespace = metadata.get("namespace") or "default"
        return self._status_dir / str(namespace) / str(raw["kind"]).lower() / f"{metadata['name']}.json"

    def save_ids(self, ids: Json) -> bool:
        """Persists the IDs that may be in use on a host, with their hosts, for the next scheduler process.

        Returns whether this succeeded; no ID may be started before.
        """
        try:
            write_atomically(self._ids_file, json.dumps(ids), durable=True)
        except OSError as error:
            self._report(self._ids_file, f"cannot write {self._ids_file}: {error.strerror}")
            return False
        self._report(self._ids_file, "")
        return True

    def load_ids(self) -> Json:
        """Returns the saved IDs. Sets a damaged file aside; the IDs in it are then never stopped."""
        if not self._ids_file.exists():
            return {}
        try:
            ids = dict(json.loads(self._ids_file.read_bytes()))
            for entry in ids.values():
                _ = entry["workload"], entry["host"]
            return ids
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            damaged = self._ids_file.with_suffix(".damaged")
            self._ids_file.replace(damaged)
            print(f"cannot read the IDs of running workloads, moved to {damaged}: {error!r}", flush=True)
            return {}


def write_atomically(path: Path, text: str, *, durable: bool = False) -> None:
    """Replaces a file atomically, so that readers see either the old or the new content.

    With `durable`, this also holds after a power failure.
    """
    temporary = path.with_suffix(".part")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
    if durable:
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def ready_condition(ready: bool, reason: str, message: str) -> dict[str, str]:
    """Returns the condition `Ready`, which users and tools read."""
    return {"type": "Ready", "status": str(ready), "reason": reason, "message": message}


def parse_object(raw: Json) -> SubmittedObject:
    """Parses a submitted object, whose fields have the right types. Raises `ValueError` or `KeyError`."""
    name, spec = raw["metadata"]["name"], raw.get("spec") or {}
    for text in (name, raw["metadata"].get("namespace") or "default"):
        if not NAME.fullmatch(text) or len(text) > MAX_NAME_CHARS:
            rule = f"lower-case letters, digits, '-' and '.', at most {MAX_NAME_CHARS} characters"
            raise ValueError(f"invalid name or namespace {text[:50]!r}: {rule}")
    if raw.get("kind") == "Workload":
        return SubmittedObject(raw, (workload_manifest(raw, name, spec),))
    if raw.get("kind") != "WorkloadDeployment":
        raise ValueError(f"unsupported kind {raw.get('kind')!r}")
    replicas = 1 if spec.get("replicas") is None else spec["replicas"]
    if not 0 <= replicas <= MAX_REPLICAS:
        raise ValueError(f"invalid number of replicas {replicas}: must be between 0 and {MAX_REPLICAS}")
    template = (spec.get("template") or {}).get("spec") or {}
    manifests = (workload_manifest(raw, f"{name}-{index}", template) for index in range(replicas))
    return SubmittedObject(raw, tuple(manifests))


def workload_manifest(raw: Json, name: str, spec: Json) -> Manifest:
    namespace = raw["metadata"].get("namespace") or "default"
    wire = {
        "namespace": namespace,
        "name": name,
        "service": convert_part(spec.get("service")),
        "witWorld": {
            "components": [convert_part(component) for component in spec.get("components") or []],
            "hostInterfaces": list(spec.get("hostInterfaces") or []),
        },
        "volumes": [convert_volume(volume) for volume in spec.get("volumes") or []],
    }
    workload, invalid = Workload(), ""
    try:
        workload = encoding.decode(Workload, json.dumps(wire).encode())
    except DecodeError as error:
        invalid = f"invalid manifest: {error}"
    constraints = Constraints(
        labels=dict(spec.get("hostSelector") or {}),
        environment=spec.get("environment") or "",
        host_id=spec.get("hostId") or "",
        interfaces=tuple(workload.wit_world.host_interfaces),
    )
    metadata = {"name": name, "namespace": namespace}
    shown = {**raw, "kind": "Workload", "metadata": metadata, "spec": spec}
    return Manifest(f"{namespace}/{name}", shown, workload, constraints, invalid)


def convert_part(spec: Json | None) -> Json | None:
    """Converts a component or a service to the wire format, which has nearly the same field names."""
    if spec is None:
        return None
    wire = {key: value for key, value in spec.items() if key != "imagePullSecret"}
    resources = dict(spec.get("localResources") or {})
    if "environment" in resources:
        resources["environment"] = (resources["environment"] or {}).get("config") or {}
    policy = PULL_POLICIES.get(spec.get("imagePullPolicy") or "")
    return wire | {"imagePullPolicy": policy, "localResources": resources or None}


def convert_volume(spec: Json) -> Json:
    if "hostPath" in spec and "ephemeral" not in spec:
        return {"name": spec["name"], "hostPath": {"localPath": spec["hostPath"].get("path")}}
    return {"name": spec["name"], "emptyDir": {}}
