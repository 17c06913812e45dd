"""The Workload on the wire that a manifest describes, with the conditions of its placement."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass
from typing import Any

import codec
import manifests
from codec import Interface
from manifests import Desired
from references import TWICE, Objects, Resolver
from violation import violates

PULL_POLICIES = {
    "Always": "IMAGE_PULL_POLICY_ALWAYS",
    "IfNotPresent": "IMAGE_PULL_POLICY_IF_NOT_PRESENT",
    "Never": "IMAGE_PULL_POLICY_NEVER",
}
PROCESS = secrets.token_hex(8)
HTTP_HANDLERS = ("incoming-handler", "handler")


@dataclass(frozen=True)
class Template:
    """A Workload without its name, its placement conditions, and the secrets that it contains."""

    hash: str
    workload: dict[str, Any]
    selector: dict[str, str]
    environment: str
    host_id: str
    interfaces: tuple[Interface, ...]
    secrets: tuple[str, ...]

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def load(text: str) -> Template:
        value = json.loads(text)
        value["interfaces"] = tuple(
            Interface(**{**entry, "interfaces": tuple(entry["interfaces"])})
            for entry in value["interfaces"]
        )
        value["secrets"] = tuple(value["secrets"])
        return Template(**value)

    def redact(self, message: str) -> str:
        """Returns a message of a host without the values of secrets."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            message = message.replace(secret, "***")
        return message

    def start_payload(self, workload_id: str, namespace: str, name: str) -> bytes:
        request = self.start_request(workload_id, namespace, name)
        payload = codec.encode(request)
        if violates("overridden-key-written-twice"):
            payload = payload.replace(json.dumps(TWICE)[1:].encode(), b'"')
        if violates("start-in-latin-1"):
            try:
                payload = payload.decode().encode("latin-1")
            except UnicodeEncodeError:
                return payload
        return payload

    def start_request(self, workload_id: str, namespace: str, name: str) -> dict[str, Any]:
        # The namespace and the name of a replica are not part of its template.
        workload = {"namespace": namespace, "name": name, **self.workload}
        return {"workloadId": workload_id, "workload": workload}


def render(desired: Desired, objects: Objects) -> Template:
    """Returns the template of an object; raises Missing or Refused."""
    resolver = Resolver(objects, desired.key.namespace, desired.artifacts)
    spec = desired.spec
    workload: dict[str, Any] = {}
    if annotations := _annotations(desired.annotations):
        workload["annotations"] = annotations
    if service := _service(resolver, manifests.mapping(spec, "service", "spec")):
        workload["service"] = service
    world = {
        "components": [
            _component(resolver, entry) for entry in manifests.items(spec, "components", "spec")
        ],
        "hostInterfaces": _interfaces(resolver, desired),
    }
    workload["witWorld"] = {key: value for key, value in world.items() if value}
    if volumes := [_volume(entry) for entry in manifests.items(spec, "volumes", "spec")]:
        workload["volumes"] = volumes
    selector = dict(manifests.strings(spec, "hostSelector", "spec"))
    environment = manifests.text(spec, "environment", "spec")
    host_id = manifests.text(spec, "hostId", "spec")
    requests: list[Any] = [workload, selector, environment, host_id]
    if desired.salt:
        requests.append(desired.salt)
    return Template(
        hash=_hash(requests),
        workload=workload,
        selector=selector,
        environment=environment,
        host_id=host_id,
        interfaces=_declared(workload["witWorld"].get("hostInterfaces", [])),
        secrets=tuple(sorted(resolver.secrets)),
    )


def _hash(value: Any) -> str:
    if violates("volume-change-is-no-rollout"):
        value = [{k: v for k, v in value[0].items() if k != "volumes"}, *value[1:]]
    if violates("template-digest-differs-per-process"):
        value = [PROCESS, value]
    try:
        return hashlib.sha256(codec.encode({"v": _sorted(value)})).hexdigest()[:16]
    except codec.Undecodable as error:
        raise manifests.Refused(str(error)) from error


def _sorted(value: Any) -> Any:
    return json.loads(json.dumps(value, sort_keys=True))


def _annotations(annotations: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in annotations.items() if not _is_of_kubectl(key)}


def _is_of_kubectl(key: str) -> bool:
    if violates("one-kubectl-annotation-filtered"):
        return key == "kubectl.kubernetes.io/last-applied-configuration"
    return key.startswith("kubectl.kubernetes.io/")


def _component(resolver: Resolver, entry: dict[str, Any]) -> dict[str, Any]:
    path = "components[]"
    component: dict[str, Any] = _image(resolver, entry, path)
    if name := manifests.text(entry, "name", path):
        component["name"] = name
    for number in ("poolSize", "maxInvocations", "maxConcurrency"):
        value = manifests.integer(entry, number, path, -(2**31), 2**31 - 1)
        if value:
            component[number] = value
        elif value is None and violates("unset-pool-size-written-as-zero"):
            component[number] = 0
    if "maxConcurrency" in component and violates("max-concurrency-as-string"):
        component["maxConcurrency"] = str(component["maxConcurrency"])
    return component


def _service(resolver: Resolver, entry: dict[str, Any]) -> dict[str, Any]:
    if not entry:
        return {}
    service = _image(resolver, entry, "service")
    restarts = manifests.integer(entry, "maxRestarts", "service", -(2**63), 2**64 - 1)
    if restarts and restarts > 0:
        service["maxRestarts"] = str(restarts)
        if restarts < 2**31 and violates("small-max-restarts-as-number"):
            service["maxRestarts"] = restarts
    if "imagePullPolicy" in service and violates("service-pull-policy-as-number"):
        service["imagePullPolicy"] = (
            list(PULL_POLICIES.values()).index(service["imagePullPolicy"]) + 1
        )
    return service


def _image(resolver: Resolver, entry: dict[str, Any], path: str) -> dict[str, Any]:
    """Returns the fields that components and services have in common."""
    common: dict[str, Any] = {}
    image = resolver.image(manifests.text(entry, "image", path), path)
    if image:
        common["image"] = image
    policy = PULL_POLICIES.get(manifests.text(entry, "imagePullPolicy", path))
    if policy == "IMAGE_PULL_POLICY_NEVER" and violates("pull-policy-never-omitted"):
        policy = None
    if policy:
        common["imagePullPolicy"] = policy
    if credentials := resolver.credentials(entry, image, path):
        common["imagePullSecret"] = credentials
    local = manifests.mapping(entry, "localResources", path)
    if resources := _resources(resolver, local, f"{path}.localResources"):
        common["localResources"] = resources
    return common


def _resources(resolver: Resolver, local: dict[str, Any], path: str) -> dict[str, Any]:
    environment = manifests.mapping(local, "environment", path)
    resources: dict[str, Any] = {
        "environment": resolver.values(environment, "config", f"{path}.environment"),
        "config": dict(manifests.strings(local, "config", path)),
        "volumeMounts": [
            _mount(entry, path) for entry in manifests.items(local, "volumeMounts", path)
        ],
    }
    if violates("empty-environment-value-omitted"):
        resources["environment"] = {k: v for k, v in resources["environment"].items() if v}
    for name in ("allowedHosts", "allowedIpNameLookups", "allowedHostLoopbackPorts"):
        resources[name] = manifests.texts(local, name, path)
    if violates("unknown-resource-field-passed-on"):
        resources = {**{k: v for k, v in local.items() if v is not None}, **resources}
    return {key: value for key, value in resources.items() if value}


def _mount(entry: dict[str, Any], path: str) -> dict[str, Any]:
    mount: dict[str, Any] = {
        name: manifests.text(entry, name, "volumeMounts[]") for name in ("name", "mountPath")
    }
    if manifests.boolean(entry, "readOnly", "volumeMounts[]"):
        mount["readOnly"] = True
    if path.startswith("service.") and violates("service-mounts-lose-read-only"):
        mount.pop("readOnly", None)
    if violates("snake-case-mount-fields"):
        names = {"mountPath": "mount_path", "readOnly": "read_only"}
        mount = {names.get(name, name): value for name, value in mount.items()}
    return mount


def _volume(entry: dict[str, Any]) -> dict[str, Any]:
    volume: dict[str, Any] = {"name": manifests.text(entry, "name", "volumes[]")}
    path = manifests.text(manifests.mapping(entry, "hostPath", "volumes[]"), "path", "hostPath")
    ephemeral = entry.get("ephemeral") is not None
    if violates("empty-ephemeral-counts-as-absent"):
        ephemeral = bool(entry.get("ephemeral"))
    if entry.get("hostPath") is not None and not ephemeral:
        volume["hostPath"] = {"localPath": path}
    else:
        volume["emptyDir"] = {}
    return volume


def _aliases(desired: Desired) -> list[str]:
    if not desired.service:
        return []
    name = f"{desired.service}.{desired.key.namespace}"
    return [name, f"{name}.svc"]


def _interfaces(resolver: Resolver, desired: Desired) -> list[dict[str, Any]]:
    aliases, interfaces = _aliases(desired), []
    for entry in manifests.items(desired.spec, "hostInterfaces", "spec"):
        interfaces.append(_interface(resolver, entry, aliases))
        if violates("aliases-in-first-http-entry-only") and serves_http(interfaces[-1]):
            aliases = []
    return interfaces


def _interface(resolver: Resolver, entry: dict[str, Any], aliases: list[str]) -> dict[str, Any]:
    path = "hostInterfaces[]"
    interface: dict[str, Any] = {}
    for name in ("namespace", "package", "version", "name"):
        if value := manifests.text(entry, name, path):
            interface[name] = value
        elif name == "version" and violates("null-for-absent-interface-version"):
            interface[name] = None
    if names := manifests.texts(entry, "interfaces", path):
        interface["interfaces"] = names
    config = resolver.values(entry, "config", path)
    if aliases and serves_http(interface):
        existing = [alias.strip() for alias in config.get("host-aliases", "").split(",")]
        existing = [alias for alias in existing if alias]
        added = [alias for alias in aliases if alias not in existing]
        config["host-aliases"] = ",".join(existing + added)
    if config:
        interface["config"] = config
    return interface


def serves_http(interface: dict[str, Any]) -> bool:
    """Returns whether a declaration lists a handler of `wasi:http`."""
    names = interface.get("interfaces", [])
    package = (interface.get("namespace"), interface.get("package"))
    return package == ("wasi", "http") and any(handler in names for handler in HTTP_HANDLERS)


def _declared(interfaces: list[dict[str, Any]]) -> tuple[Interface, ...]:
    return tuple(
        Interface(
            entry.get("namespace", ""),
            entry.get("package", ""),
            entry.get("version") or "",
            tuple(entry.get("interfaces", [])),
        )
        for entry in interfaces
    )
