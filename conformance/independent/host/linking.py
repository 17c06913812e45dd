"""The start of a workload: its images, grants, imports and routes."""

import asyncio
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import routes
from allowlist import AllowLists, InvalidEntry
from codec import Message
from guest import DEFAULT_MEMORY_MIB, Grants
from images import ALWAYS, IF_NOT_PRESENT, ImageStore
from interfaces import OFFERS, Interface, compatible, covers, in_baseline
from program import NotRunnable, Program, is_http_handler, parse_program
from reference import InvalidReference, parse_reference
from registry import Credentials, PullFailed
from violation import notes, violates
from volumes import Mount, VolumeRefused, Volumes

if TYPE_CHECKING:
    from workload import Workload

NO_RESOURCES: Message = {
    "memoryLimitMb": 0,
    "config": {},
    "environment": {},
    "volumeMounts": [],
    "allowedHosts": [],
    "allowedIpNameLookups": [],
    "allowedHostLoopbackPorts": [],
}


class StartFailed(Exception):  # noqa: N818 - an outcome of a valid request
    """A workload that the host cannot run; the text is the message of the status."""


@dataclass(frozen=True)
class Part:
    """A component or the service, with its code and its grants."""

    label: str
    spec: Message
    program: Program
    grants: Grants


@dataclass(frozen=True)
class Linked:
    """A workload that is ready to run."""

    hosts: list[str]
    handler: Part | None
    service: Part | None
    component_count: int
    images: list[str]


class Linker:
    """Links one workload."""

    def __init__(
        self, spec: Message, images: ImageStore, volumes: Volumes, on_first_image: Callable[[], None]
    ) -> None:
        """`on_first_image` is called when one of several images has been fetched."""
        world = spec["witWorld"] or {"components": [], "hostInterfaces": []}
        self._spec = spec
        self._components: list[Message] = world["components"]
        self._declarations: list[Message] = world["hostInterfaces"]
        self._service: Message | None = spec["service"]
        self._images = images
        self._volumes = volumes
        self._on_first_image = on_first_image
        self._buckets: dict[str, dict[str, bytes]] = {}
        if violates("empty-service-image-ignored") and self._service and not self._service["image"]:
            self._service = None

    async def link(self, peers: "Iterable[Workload]") -> Linked:
        """Does all work of a start before guest code runs; raises StartFailed."""
        self._check_components()
        specs = [(_label("component", item), item) for item in self._components]
        if self._service:
            specs.append((_label("service", self._service), self._service))
        if violates("failure-names-first-component"):
            specs = [(specs[0][0], spec) for _, spec in specs]
        self._create_volumes(peers)
        grants = self._grants(specs)
        programs = await self._fetch(specs)
        parts = [
            Part(label, spec, program, grant)
            for (label, spec), program, grant in zip(specs, programs, grants, strict=True)
            if program
        ]
        self._check_imports(parts)
        service = parts[-1] if self._service else None
        if service and service.program.run is None and not _is_restarted(service):  # HOST-SVC-015
            raise StartFailed(f"{service.label} has no entry point wasi:cli/run")
        hosts, handler = self._route(parts)
        images = [spec["image"] for _, spec in specs]
        return Linked(hosts, handler, service, len(self._components), images)

    def _check_components(self) -> None:
        images = [item["image"] for item in self._components]
        if violates("unnamed-component-refused") and [item["name"] for item in self._components].count("") > 1:
            raise StartFailed("two components have the same name")
        if violates("unused-declaration-must-be-offered") and not self._components:
            for declared in self._declarations:
                self._check_offered(declared)
        self._is_stuck = violates("same-image-twice-fails") and len(set(images)) < len(images)

    def _check_offered(self, declared: Message) -> None:
        for name in declared["interfaces"]:
            interface = Interface(declared["namespace"], declared["package"], name, declared["version"])
            if not in_baseline(interface) and not covers(OFFERS, interface) and not is_http_handler(interface):
                raise StartFailed(f"the workload declares {interface}, which this host does not offer")

    def _create_volumes(self, peers: "Iterable[Workload]") -> None:
        resources = [part["localResources"] for part in (*self._components, self._service) if part]
        mounts = [mount for each in resources if each for mount in each["volumeMounts"]]
        try:
            self._volumes.create(self._spec["volumes"], {mount["name"] for mount in mounts})
        except VolumeRefused as error:
            raise StartFailed(str(error)) from error
        if violates("volumes-of-others-mountable"):
            self._volumes.borrow([peer.volumes for peer in peers if peer.counted])
        if violates("read-only-decided-by-last-mount"):
            last = {mount["name"]: mount["readOnly"] for mount in mounts}
            for mount in mounts:
                mount["readOnly"] = last[mount["name"]]

    def _grants(self, specs: list[tuple[str, Message]]) -> list[Grants]:
        if violates("components-share-allow-list"):
            resources = [spec["localResources"] for _, spec in specs if spec["localResources"]]
            shared = [entry for each in resources for entry in each["allowedHosts"]]
            for each in resources:
                each["allowedHosts"] = shared
        grants: list[Grants] = []
        for label, spec in specs:
            grant = self._grant(label, spec)
            if violates("components-share-environment") and grants and spec is not self._service:
                own = grant.environment
                grant = replace(grant, environment={**own, **grants[-1].environment, **own})
            grants.append(grant)
        return grants

    def _grant(self, label: str, spec: Message) -> Grants:
        resources = spec["localResources"] or NO_RESOURCES
        is_service = spec is self._service
        return Grants(
            _environment(resources["environment"]),
            _config(spec["image"], resources["config"]),
            self._buckets,
            self._mounts(label, resources, is_service=is_service),
            _allow_lists(label, resources, is_service=is_service),
            _memory_mib(spec, resources),
        )

    def _mounts(self, label: str, resources: Message, *, is_service: bool) -> list[Mount]:
        requested = resources["volumeMounts"]
        is_late = violates("volumes-must-come-first") and self._spec["volumesAreLate"]
        if is_late and not is_service and requested:
            raise StartFailed(f"{label}: a mount names the unknown volume {requested[0]['name']!r}")
        if violates("service-mounts-unchecked") and is_service:
            requested = [mount for mount in requested if self._volumes.has(mount["name"])]
        try:
            return self._volumes.mounts(requested)
        except VolumeRefused as error:
            raise StartFailed(f"{label}: {error}") from error

    async def _fetch(self, specs: list[tuple[str, Message]]) -> list[Program | None]:
        """Fetches all images concurrently, so that they share the time of one."""
        if self._is_stuck:
            await asyncio.Event().wait()
        fetches = [
            asyncio.create_task(self._fetch_one(index, label, spec))
            for index, (label, spec) in enumerate(specs)
        ]
        try:
            if violates("running-after-first-image") and len(fetches) > 1:
                done, _ = await asyncio.wait(fetches, return_when=asyncio.FIRST_COMPLETED)
                if all(fetch.exception() is None for fetch in done):
                    self._on_first_image()
            return list(await asyncio.gather(*fetches))
        finally:
            for fetch in fetches:
                fetch.cancel()

    async def _fetch_one(self, index: int, label: str, spec: Message) -> Program | None:
        secret, policy = spec["imagePullSecret"], spec["imagePullPolicy"]
        if violates("first-secret-for-all-images") and self._components:
            secret = self._components[0]["imagePullSecret"]
        if violates("one-policy-per-workload") and self._components:
            policy = self._components[0]["imagePullPolicy"]
        if violates("always-ignored-for-services") and spec is self._service and policy == ALWAYS:
            policy = IF_NOT_PRESENT
        credentials = None
        if secret and (secret["username"] or secret["password"]):
            credentials = Credentials(secret["username"], secret["password"])
        if credentials and violates("empty-user-name-is-anonymous") and not credentials.username:
            credentials = None
        try:
            reference = parse_reference(spec["image"])
            content = await self._images.get(reference, credentials, policy)
            return parse_program(content)
        except (InvalidReference, PullFailed, NotRunnable) as error:
            is_second = spec is not self._service and index == 1
            if violates("missing-second-image-ignored") and is_second and "404" in str(error):
                return None
            if violates("timeout-error-without-message") and "took longer than" in str(error):
                raise StartFailed("") from error
            raise StartFailed(f"{label}: {error}") from error

    def _check_imports(self, parts: list[Part]) -> None:
        declarations = self._declarations
        if violates("declared-once-for-all"):
            notes.setdefault("declarations", []).extend(declarations)
            declarations = notes["declarations"]
        for part in parts[:1] if violates("only-first-component-checked") else parts:
            for interface in part.program.imports:
                if not in_baseline(interface):
                    _check_import(part.label, interface, declarations)

    def _route(self, parts: list[Part]) -> tuple[list[str], Part | None]:
        """Selects the first part that exports a declared HTTP handler."""
        declared = [item for item in self._declarations if routes.declares_handler(item)]
        for part in parts:
            interface = part.program.handler_interface()
            # Either name declares the handler; the export decides which release is served.
            is_declared = interface is not None and any(
                compatible(item.get("version", ""), interface.version) for item in declared
            )
            if violates("any-http-declaration-routes"):
                is_declared = interface is not None and bool(declared)
            if not is_declared:  # HOST-HTTP-012
                continue
            hosts = routes.declared_hosts(declared)
            if hosts is None:  # HOST-HTTP-007
                raise StartFailed("the declaration of wasi:http has no valid host name in its config")
            return hosts, part
        return [], None


def _label(kind: str, spec: Message) -> str:
    """HOST-START-018: names the part and its image."""
    name = f" {spec['name']}" if spec.get("name") else ""
    return f"{kind}{name} ({spec['image'] or 'no image'})"


def _is_restarted(service: Part) -> bool:
    return violates("missing-entry-point-is-restarted") and service.spec["maxRestarts"] > 0


def _check_import(label: str, interface: Interface, declarations: list[Message]) -> None:
    shown = interface.package_name if violates("refusal-names-only-package") else str(interface)
    if not covers(declarations, interface):  # HOST-RES-008
        raise StartFailed(f"{label} imports {shown}, which the workload does not declare in hostInterfaces")
    named = [item for item in declarations if item["name"] and covers([item], interface)]
    if violates("named-declaration-unchecked") and named:
        return
    if not covers(OFFERS, interface):  # HOST-RES-009
        raise StartFailed(f"{label} imports {shown}, which this host does not offer")


def _environment(variables: dict[str, str]) -> dict[str, str]:
    """HOST-RES-004: returns the variables that the guest sees."""
    if violates("empty-variable-dropped"):
        return {key: value for key, value in variables.items() if value}
    if violates("variables-expanded"):
        return {key: os.path.expandvars(value) for key, value in variables.items()}
    if violates("value-cut-at-equals-sign"):
        return {key: value.partition("=")[0] for key, value in variables.items()}
    return variables


def _config(image: str, config: dict[str, str]) -> dict[str, str]:
    """HOST-RES-017: returns the values that the guest reads."""
    if violates("config-shared-by-image"):
        shared: dict[str, str] = notes.setdefault(("config", image), {})
        shared.clear()
        shared.update(config)
        return shared
    return config


def _memory_mib(spec: Message, resources: Message) -> int:
    limit: int = resources["memoryLimitMb"]
    default = DEFAULT_MEMORY_MIB
    if violates("negative-memory-limit-is-zero") and limit < 0:
        return 0
    if violates("small-default-with-resources"):
        default = 64 if spec["localResources"] else 256
    granted = limit if limit > 0 else default
    if violates("memory-limit-kept-by-image"):
        granted = notes.setdefault(("memory", spec["image"]), granted)
    return granted


def _allow_lists(label: str, resources: Message, *, is_service: bool) -> AllowLists:
    hosts = resources["allowedHosts"]
    lookups, ports = resources["allowedIpNameLookups"], resources["allowedHostLoopbackPorts"]
    is_lenient = violates("service-allow-lists-unchecked") and is_service
    try:
        return AllowLists(hosts, lookups, ports, skips_malformed=is_lenient)
    except InvalidEntry as error:
        if violates("refusal-quotes-environment"):
            raise StartFailed(f"{label}: {error} in {resources}") from error
        raise StartFailed(f"{label}: {error}") from error
