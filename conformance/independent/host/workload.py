"""One workload: its start, the runs of its service, its requests, and its end."""

import asyncio
import logging
import random
import time
from dataclasses import dataclass
from pathlib import Path

import routes
from allowlist import AllowLists, InvalidEntry
from codec import Message
from guest import DEFAULT_MEMORY_MIB, Grants, GuestExit, GuestFailed, Instance, Request, Response, Trap
from images import ImageStore
from interfaces import OFFERS, covers, in_baseline
from program import NotRunnable, Program, parse_program
from reference import InvalidReference, parse_reference
from registry import Credentials, PullFailed
from volumes import VolumeRefused, Volumes

log = logging.getLogger("workload")

BUDGET_RESET_S = 60.0  # HOST-SVC-013
FIRST_DELAY_S = 0.1  # HOST-SVC-011
LONGEST_DELAY_S = 30.0
MAX_CONCURRENT_REQUESTS = 256  # of one workload; beyond it, a request gets 503

STARTING, RUNNING, COMPLETED, STOPPING, ERROR, NOT_FOUND = range(1, 7)


class StartFailed(Exception):  # noqa: N818 - an outcome of a valid request
    """A workload that the host cannot run; the text is the message of the status."""


@dataclass(frozen=True)
class Environment:
    """Parts of the host that all workloads share."""

    images: ImageStore
    routes: routes.Routes
    directory: Path
    host_paths: list[Path]


@dataclass(frozen=True)
class Part:
    """A component or the service, with its code and its grants."""

    program: Program
    grants: Grants


class Workload:
    """A workload from the claim of its id until the release of everything that it holds."""

    def __init__(self, workload_id: str, spec: Message, environment: Environment) -> None:
        """Claims nothing yet; `begin` starts the work."""
        self.id = workload_id
        self.state = STARTING
        self.message = "starting"
        self.ran_guest_code = False
        self.settled = asyncio.Event()  # the start has an outcome, or was canceled
        self.counted = False
        self.component_count = 0
        self._spec = spec
        self._environment = environment
        self._volumes = Volumes(environment.directory, environment.host_paths)
        self._buckets: dict[str, dict[str, bytes]] = {}
        self._hosts: list[str] = []
        self._handler: Part | None = None
        self._requests: set[asyncio.Task[Response]] = set()
        self._life: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Starts the workload in the background."""
        self._life = asyncio.create_task(self._live())

    async def _live(self) -> None:
        try:
            service = await self._start()
            if service:
                await self._run_service(service)
        except StartFailed as failure:
            self._finish(ERROR, str(failure))
        except Exception:  # a defect of the host ends one workload, not the host
            log.exception("cannot run workload")
            self._finish(ERROR, "internal error of the host")

    def _finish(self, state: int, message: str) -> None:
        """Releases everything; the id and its outcome stay."""
        self._release()
        self.state, self.message = state, message
        self.settled.set()

    def _release(self) -> None:
        self.counted = False
        self._environment.routes.remove(self._hosts, self.handle)
        for task in self._requests:
            task.cancel()
        self._volumes.close()
        self._handler = None

    async def _start(self) -> Part | None:
        """Fetches and links all parts and activates the routes; returns the service."""
        world = self._spec["witWorld"] or {"components": [], "hostInterfaces": []}
        specs = [(_label("component", item), item) for item in world["components"]]
        service_spec = self._spec["service"]
        if service_spec:
            specs.append((_label("service", service_spec), service_spec))
        try:
            self._volumes.create(self._spec["volumes"])
        except VolumeRefused as error:
            raise StartFailed(str(error)) from error
        grants = [self._grant(label, spec["localResources"]) for label, spec in specs]
        programs = await self._fetch(specs)
        for (label, _), program in zip(specs, programs, strict=True):
            _check_imports(label, program, world["hostInterfaces"])
        parts = [Part(program, grant) for program, grant in zip(programs, grants, strict=True)]
        if service_spec and parts[-1].program.run is None:  # HOST-SVC-015
            raise StartFailed(f"{specs[-1][0]} has no entry point wasi:cli/run")
        self._route(parts, world["hostInterfaces"])
        self.component_count = len(world["components"])
        self.counted = True
        self.state, self.message = RUNNING, "running"
        self._environment.routes.add(self._hosts, self.handle)
        if not service_spec:
            self.settled.set()
            return None
        return parts[-1]

    def _grant(self, label: str, resources: Message | None) -> Grants:
        if resources is None:
            return Grants({}, {}, self._buckets, [], AllowLists([], [], []), DEFAULT_MEMORY_MIB)
        try:
            allow_lists = AllowLists(
                resources["allowedHosts"],
                resources["allowedIpNameLookups"],
                resources["allowedHostLoopbackPorts"],
            )
            mounts = self._volumes.mounts(resources["volumeMounts"])
        except (InvalidEntry, VolumeRefused) as error:
            raise StartFailed(f"{label}: {error}") from error
        limit = resources["memoryLimitMb"]
        return Grants(
            resources["environment"],
            resources["config"],
            self._buckets,
            mounts,
            allow_lists,
            limit if limit > 0 else DEFAULT_MEMORY_MIB,
        )

    async def _fetch(self, specs: list[tuple[str, Message]]) -> list[Program]:
        """Fetches all images concurrently, so that they share the time of one."""
        fetches = [asyncio.create_task(self._fetch_one(label, spec)) for label, spec in specs]
        try:
            return list(await asyncio.gather(*fetches))
        finally:
            for fetch in fetches:
                fetch.cancel()

    async def _fetch_one(self, label: str, spec: Message) -> Program:
        secret = spec["imagePullSecret"]
        credentials = None
        if secret and (secret["username"] or secret["password"]):
            credentials = Credentials(secret["username"], secret["password"])
        try:
            reference = parse_reference(spec["image"])
            content = await self._environment.images.get(reference, credentials, spec["imagePullPolicy"])
            return parse_program(content)
        except (InvalidReference, PullFailed, NotRunnable) as error:
            raise StartFailed(f"{label}: {error}") from error

    def _route(self, parts: list[Part], declarations: list[Message]) -> None:
        """Selects the first part that exports a declared HTTP handler."""
        for part in parts:
            interface = part.program.handler_interface()
            declared = [item for item in declarations if routes.declares_handler(item)]
            if interface is None or not covers(declared, interface):  # HOST-HTTP-012
                continue
            hosts = routes.declared_hosts(declared)
            if hosts is None:  # HOST-HTTP-007
                raise StartFailed("the declaration of wasi:http has no valid host name in its config")
            self._hosts, self._handler = hosts, part
            return

    async def _run_service(self, service: Part) -> None:
        """Runs the service until it succeeds or has no restarts left."""
        allowed = self._spec["service"]["maxRestarts"]
        failures = 0
        total = 0
        while True:
            began = time.monotonic()
            reason = await self._run_once(service)
            if reason is None:
                self._finish(COMPLETED, "the service completed")
                return
            if time.monotonic() - began >= BUDGET_RESET_S:
                failures = 0
            failures += 1
            total += 1
            if failures > allowed:
                self._finish(ERROR, f"failed {total} times, no restarts left: {reason}")
                return
            delay = min(FIRST_DELAY_S * 2 ** min(failures - 1, 16), LONGEST_DELAY_S)
            delay *= random.uniform(0.5, 1.5)  # noqa: S311 - jitter
            self.state = STARTING  # HOST-SVC-008
            self.message = f"restart {failures} of {allowed} in {delay * 1000:.0f} ms: {reason}"
            self.settled.set()
            for task in self._requests:  # HOST-SVC-020
                task.cancel()
            await asyncio.sleep(delay)
            self.state, self.message = RUNNING, "running"

    async def _run_once(self, service: Part) -> str | None:
        """Returns the reason of a failure, or None after a success."""
        self.ran_guest_code = True
        try:
            instance = Instance(service.grants)
        except Trap as trap:
            return f"trapped: {trap}"
        try:
            if service.program.run:
                run = asyncio.ensure_future(service.program.run(instance))
                self.settled.set()
                await run
        except Trap as trap:
            return f"trapped: {trap}"
        except GuestFailed as failure:
            return str(failure)
        except GuestExit as end:
            return None if end.code == 0 else str(end)
        finally:
            instance.close()
        return None

    async def handle(self, request: Request) -> Response:
        """Passes an HTTP request to the handler; each request gets a fresh instance."""
        part = self._handler
        if part is None or self.state != RUNNING or len(self._requests) >= MAX_CONCURRENT_REQUESTS:
            raise routes.Unavailable
        task = asyncio.create_task(_handle(part, request))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
        if task.cancelled():
            raise routes.Unavailable
        return task.result()

    def stop(self) -> asyncio.Task[None]:
        """Ends the workload in any state; the task ends when everything is released."""
        if self._ending is None:
            self.state, self.message = STOPPING, "stopping"
            self.counted = False
            self._ending = asyncio.create_task(self._end())
            self.settled.set()
        return self._ending

    async def _end(self) -> None:
        pending = {task for task in (self._life, *self._requests) if task and not task.done()}
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)
        self._release()
        self.state, self.message = NOT_FOUND, ""


async def _handle(part: Part, request: Request) -> Response:
    if part.program.handler is None:
        return Response(b"", 500)
    try:
        instance = Instance(part.grants)
    except Trap:
        return Response(b"the guest cannot be instantiated\n", 500)
    try:
        return await part.program.handler(instance, request)
    except Trap:  # HOST-HTTP-008
        return Response(b"the guest trapped\n", 500)
    finally:
        instance.close()


def _label(kind: str, spec: Message) -> str:
    """HOST-START-018: names the part and its image."""
    name = f" {spec['name']}" if spec.get("name") else ""
    return f"{kind}{name} ({spec['image'] or 'no image'})"


def _check_imports(label: str, program: Program, declarations: list[Message]) -> None:
    for interface in program.imports:
        if in_baseline(interface):
            continue
        if not covers(declarations, interface):  # HOST-RES-008
            raise StartFailed(
                f"{label} imports {interface}, which the workload does not declare in hostInterfaces"
            )
        if not covers(OFFERS, interface):  # HOST-RES-009
            raise StartFailed(f"{label} imports {interface}, which this host does not offer")
