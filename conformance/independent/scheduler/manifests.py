"""Objects of `runtime.wasmcloud.dev/v1alpha1`, checked and reduced to what the scheduler uses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import codec
from violation import violates

SCHEDULED_KINDS = ("Workload", "WorkloadReplicaSet", "WorkloadDeployment")
REFERENCED_KINDS = ("ConfigMap", "Secret", "Artifact")
POLICIES = ("RollingUpdate", "Recreate")
# More replicas than this in one object are a typing error.
MAX_REPLICAS = 10_000


class Refused(Exception):
    """A manifest that no state of the fleet or of other objects can make valid."""


class Key(NamedTuple):
    """Identity of an object."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Desired:
    """A workload, a set or a deployment as its user wants it."""

    key: Key
    replicas: int
    policy: str
    spec: dict[str, Any]
    annotations: dict[str, str]
    artifacts: dict[str, str]
    service: str
    # Text that counts as a part of the template in addition to the requests.
    salt: str = ""

    @property
    def is_workload(self) -> bool:
        return self.key.kind == "Workload"


def key_of(manifest: dict[str, Any]) -> Key:
    """Returns the identity of an object; the default namespace is `default`."""
    metadata = mapping(manifest, "metadata", "")
    kind, name = text(manifest, "kind", ""), text(metadata, "name", "metadata")
    if not name or "/" in name or name.startswith("."):
        raise Refused("metadata.name is missing or is not a file name")
    namespace = text(metadata, "namespace", "metadata") or "default"
    if "/" in namespace or namespace.startswith("."):
        raise Refused("metadata.namespace is not a file name")
    return Key(kind, namespace, name)


def read(key: Key, manifest: dict[str, Any], earlier: Desired | None) -> Desired:
    """Returns the desired state in a manifest of one of the scheduled kinds.

    `earlier` is the desired state of the existing object.
    """
    spec = mapping(manifest, "spec", "")
    if key.kind == "Workload":
        template, metadata = spec, mapping(manifest, "metadata", "")
        path = "spec"
    else:
        holder = mapping(spec, "template", "spec")
        template = mapping(holder, "spec", "spec.template")
        metadata = mapping(holder, "metadata", "spec.template")
        metadata = metadata if "annotations" in metadata else holder
        path = "spec.template.spec"
    if violates("deployment-annotations-sent-instead"):
        metadata = mapping(manifest, "metadata", "")
    services = [_service(spec), _service(template)]
    if violates("template-kubernetes-wins"):
        services.reverse()
    desired = Desired(
        key=key,
        replicas=1 if key.kind == "Workload" else _replicas(spec, earlier),
        policy=_policy(spec, earlier) if key.kind == "WorkloadDeployment" else "RollingUpdate",
        spec=template,
        annotations=strings(metadata, "annotations", "metadata"),
        artifacts=dict(_artifacts(spec)),
        service=services[0] or services[1],
        salt=_salt(key, manifest, spec, template),
    )
    _check_template(key, template, path)
    return desired


def _salt(
    key: Key, manifest: dict[str, Any], spec: dict[str, Any], template: dict[str, Any]
) -> str:
    if violates("reformatted-manifest-restarts"):
        return str(manifest.get("text", ""))
    if violates("replica-number-is-part-of-template"):
        return str(spec.get("replicas"))
    if violates("explicit-default-causes-rollout"):
        return json.dumps(template, sort_keys=True)
    return ""


def _replicas(spec: dict[str, Any], earlier: Desired | None) -> int:
    count = integer(spec, "replicas", "spec", -(2**31), 2**31 - 1)
    if count is None and earlier and violates("removed-replicas-field-keeps-number"):
        return earlier.replicas
    count = 1 if count is None else count
    if count == 0 and violates("zero-replicas-means-one"):
        return 1
    if count < 0 and earlier and violates("negative-replicas-still-change-image"):
        return earlier.replicas
    if count < 0:
        raise Refused(f"spec.replicas: {count} is negative")
    if count > MAX_REPLICAS:
        raise Refused(f"spec.replicas: {count} is more than {MAX_REPLICAS}")
    return count


def _policy(spec: dict[str, Any], earlier: Desired | None) -> str:
    policy = text(spec, "deployPolicy", "spec") or POLICIES[0]
    if policy.lower() == "recreate" and violates("policy-compared-ignoring-case"):
        return "Recreate"
    if policy not in POLICIES and earlier and violates("unknown-policy-accepted-in-update"):
        return POLICIES[0]
    if policy not in POLICIES:
        raise Refused(f"spec.deployPolicy: {policy} is neither RollingUpdate nor Recreate")
    return policy


def _service(spec: dict[str, Any]) -> str:
    return text(mapping(mapping(spec, "kubernetes", "spec"), "service", "kubernetes"), "name", "")


def _artifacts(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for entry in items(spec, "artifacts", "spec"):
        name = text(entry, "name", "spec.artifacts[]")
        source = text(mapping(entry, "artifactFrom", "spec.artifacts[]"), "name", "artifactFrom")
        yield name, source or name


def _check_template(key: Key, spec: dict[str, Any], path: str) -> None:
    """Refuses values that no host could accept; render.py reads the other fields."""
    host_id = text(spec, "hostId", path)
    if host_id and not codec.valid_host_id(host_id):
        raise Refused(f"{path}.hostId is not a valid host id")
    service = mapping(spec, "service", path)
    restarts = integer(service, "maxRestarts", f"{path}.service", -(2**63), 2**64 - 1) or 0
    if restarts == -1 and violates("max-restarts-minus-one-is-unset"):
        return
    if key.kind == "WorkloadDeployment" and violates("template-max-restarts-unchecked"):
        return
    if restarts < 0:
        raise Refused(f"{path}.service.maxRestarts: {restarts} is negative")


def field(message: dict[str, Any], name: str) -> Any:
    """Returns a field, or None if it is absent or null."""
    return message.get(name)


def text(message: dict[str, Any], name: str, path: str) -> str:
    value = field(message, name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Refused(f"{path}.{name} is not a string")
    return value


def boolean(message: dict[str, Any], name: str, path: str) -> bool:
    value = field(message, name)
    if value is not None and not isinstance(value, bool):
        raise Refused(f"{path}.{name} is not a boolean")
    return bool(value)


def integer(
    message: dict[str, Any], name: str, path: str, minimum: int, maximum: int
) -> int | None:
    value = field(message, name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise Refused(f"{path}.{name} is not an integer from {minimum} to {maximum}")
    return value


def mapping(message: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    value = field(message, name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(f"{path}.{name} is not an object")
    return value


def strings(message: dict[str, Any], name: str, path: str) -> dict[str, str]:
    entries = mapping(message, name, path)
    if not all(isinstance(value, str) for value in entries.values()):
        raise Refused(f"{path}.{name} is not a map of strings")
    return entries


def items(message: dict[str, Any], name: str, path: str) -> list[dict[str, Any]]:
    value = field(message, name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise Refused(f"{path}.{name} is not a list of objects")
    return value


def texts(message: dict[str, Any], name: str, path: str) -> list[str]:
    value = field(message, name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, str | int) for entry in value):
        raise Refused(f"{path}.{name} is not a list of strings")
    return [str(entry) for entry in value]
