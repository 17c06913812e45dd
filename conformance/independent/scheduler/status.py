"""The state of the objects, as files that users read."""

from __future__ import annotations

import contextlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleet import Host
from manifests import Key
from replica import Replica
from replicaset import ReplicaSet
from violation import violates

MAX_MESSAGE = 2000


class StatusFiles:
    """Writes `{directory}/{namespace}/{kind}/{name}.json` for each object."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._shown: dict[Key, dict[str, Any]] = {}
        self._since: dict[Key, tuple[str, str]] = {}

    def remove_unknown(self, keys: set[Key]) -> None:
        """Removes files that an earlier process left for objects that no longer exist."""
        for path in self.directory.glob("*/*/*.json"):
            key = Key(path.parent.name, path.parent.parent.name, path.stem)
            if key not in keys:
                path.unlink(missing_ok=True)

    def show(self, key: Key, status: dict[str, Any]) -> None:
        """Writes the status of an object if it has changed."""
        condition = status["conditions"][0]
        state, since = self._since.get(key, ("", ""))
        if state != condition["status"]:
            since = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
            self._since[key] = (condition["status"], since)
        condition["lastTransitionTime"] = since
        if self._shown.get(key) == status:
            return
        self._shown[key] = status
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "apiVersion": "runtime.wasmcloud.dev/v1alpha1",
            "kind": key.kind,
            "metadata": {"namespace": key.namespace, "name": key.name},
            "status": status,
        }
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(json.dumps(document, indent=1))
        os.replace(temporary, path)

    def remove(self, key: Key) -> None:
        self._shown.pop(key, None)
        self._since.pop(key, None)
        with contextlib.suppress(OSError):
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: Key) -> Path:
        return self.directory / key.namespace / key.kind / f"{key.name}.json"


def status_of(replicas: ReplicaSet, hosts: dict[str, Host]) -> dict[str, Any]:
    """Returns the status of an object."""
    desired = replicas.desired
    members = replicas.members
    expected = desired.replicas if desired is not None else 0
    template = replicas.template
    new = [m for m in members if template is None or m.hash == template.hash]
    ready = [member for member in members if _counts_as_ready(member)]
    is_ready = (
        desired is not None
        and len(new) == len(members) == expected
        and all(m.ready for m in members)
    )
    reason, message = _reason(replicas, new, is_ready)
    shown = _shown_count(replicas, expected)
    status: dict[str, Any] = {
        "conditions": [
            {
                "type": "Ready",
                "status": "True" if is_ready else "False",
                "reason": reason,
                "message": message[:MAX_MESSAGE],
            }
        ],
        "replicas": {
            "expected": shown,
            "current": len(members),
            "ready": len(ready),
            "unavailable": max(expected - len(ready), 0),
        },
    }
    if expected == 0 and violates("no-counts-for-zero-replicas"):
        del status["replicas"]
    current = members[0].current if members else None
    if replicas.key.kind == "Workload" and current is not None:
        status["hostId"], status["workloadId"] = current.host, current.id
        if violates("status-keeps-first-host-id"):
            replicas.first_shown = replicas.first_shown or (current.host, current.id)
            status["hostId"], status["workloadId"] = replicas.first_shown
        if current.host in hosts:
            status["environment"] = hosts[current.host].heartbeat.environment
        if violates("status-has-environment-of-workload"):
            status.pop("environment", None)
            if members[0].template.environment:
                status["environment"] = members[0].template.environment
    return status


def _counts_as_ready(member: Replica) -> bool:
    if member.lost_and_waiting and violates("ready-count-keeps-lost-replicas"):
        return True
    return member.ready


def _shown_count(replicas: ReplicaSet, expected: int) -> int:
    if not violates("desired-count-shown-late"):
        return expected
    states = [(m.uid, m.current.state) for m in replicas.members if m.current is not None]
    if replicas.shown_count is None or replicas.shown_count[0] != states:
        replicas.shown_count = (states, expected)
    return replicas.shown_count[1]


def _reason(replicas: ReplicaSet, new: list[Replica], is_ready: bool) -> tuple[str, str]:
    refusal = f"refused: {replicas.refusal}" if replicas.refusal else ""
    if replicas.desired is None:
        return ("Refused", refusal) if refusal else ("Deleting", "waiting for the hosts to stop")
    if is_ready:
        return _ready_reason(replicas, refusal)
    if refusal:
        return "Refused", refusal
    if replicas.missing:
        return "MissingReference", f"waiting: {replicas.missing}"
    pending = [member for member in new if not member.ready]
    details = [text for member in pending if (text := _explain(member))]
    text = details[0] if details else "waiting for replicas"
    if any(member.hash != m.hash for m in new[:1] for member in replicas.members):
        stuck = any(member.failure or member.waiting for member in pending)
        waits_only = stuck and all(not member.failure for member in pending)
        if waits_only and violates("rollout-waiting-for-host-not-shown"):
            return "RolloutInProgress", "the rollout is in progress"
        verb = "blocked" if stuck else "in progress"
        return f"Rollout{'Blocked' if stuck else 'InProgress'}", f"the rollout is {verb}: {text}"
    waits = all(member.waiting for member in pending) if pending else False
    return ("NoHostFits" if waits else "NotReady"), text


def _ready_reason(replicas: ReplicaSet, refusal: str) -> tuple[str, str]:
    if refusal:
        return "Refused", f"{refusal}; the earlier object remains"
    members = replicas.members
    if members and all(member.completed for member in members):
        return "Completed", "completed"
    failure = next((member.failure for member in members if member.failure), "")
    suffix = f"; an earlier run ended: {failure}" if failure else ""
    return "Running", f"{len(members)} of {len(members)} replicas are ready{suffix}"


def _explain(member: Replica) -> str:
    current = member.current
    text = ""
    if current is None:
        text = member.waiting
    elif current.state in ("", "STARTING", "STOPPING"):
        text = f"{(current.state or 'starting').lower()} on host {current.host}"
        if current.message:
            text += f": {member.template.redact(current.message)}"
    return "; ".join(part for part in (member.failure, text) if part)
