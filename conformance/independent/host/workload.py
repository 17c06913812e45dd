"""One workload: its state, its requests, and its end."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import routes
from codec import Message
from guest import Instance, Request, Response, Trap
from images import ImageStore
from linking import Linker, Part, StartFailed
from service import FAILED, ServiceRuns
from violation import count, note_now, notes, violates, within
from volumes import Volumes

log = logging.getLogger("workload")

DRAIN_S = 1.5  # requests in flight at a stop, of the 2 s of HOST-STOP-008
MAX_CONCURRENT_REQUESTS = 256  # of one workload; beyond it, a request gets 503

STARTING, RUNNING, COMPLETED, STOPPING, ERROR, NOT_FOUND = range(1, 7)


def _no_event(_event: str, _workload: "Workload") -> None:
    pass


def _no_peers() -> "Iterable[Workload]":
    return ()


@dataclass
class Environment:
    """Parts of the host that all workloads share."""

    images: ImageStore
    routes: routes.Routes
    directory: Path
    host_paths: list[Path]
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    on_event: Callable[[str, "Workload"], None] = _no_event
    peers: "Callable[[], Iterable[Workload]]" = _no_peers


class Workload:
    """A workload from the claim of its id until the release of everything that it holds."""

    def __init__(self, workload_id: str, spec: Message, environment: Environment) -> None:
        """Claims nothing yet; `begin` starts the work."""
        self.id = workload_id
        self.spec = spec
        self.state = STARTING
        self.message = "starting"
        self.ran_guest_code = False
        self.settled = asyncio.Event()  # the start has an outcome, or was canceled
        self.counted = False
        self.component_count = 0
        self.failures = 0  # consecutive failed runs of the service
        self.restarts = 0
        self.attempt = 1  # starts of the id without a stop
        self.first_reason = ""
        self.began_at = time.monotonic()
        self.ended_at = 0.0
        self.run_began_at = 0.0
        self.completion_was_reported = False
        self.is_forgotten_on_failure = False
        self.outlives_stop = False
        self.on_running: Callable[[], object] = lambda: None
        self.ending: asyncio.Task[None] | None = None
        self.images: list[str] = []
        self.volumes = Volumes(environment.directory, environment.host_paths, workload_id)
        self._environment = environment
        self._hosts: list[str] = []
        self._handler: Part | None = None
        self._requests: set[asyncio.Task[Response]] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._life: asyncio.Task[None] | None = None

    def begin(self, after: asyncio.Task[None] | None) -> None:
        """Starts the workload in the background, after the end of an earlier workload."""
        if after:
            self.settled.set()
        self._life = asyncio.create_task(self._live(after))

    async def _live(self, after: asyncio.Task[None] | None) -> None:
        try:
            if after:
                await asyncio.wait({after})
            if violates("failed-starts-keep-slots") and notes.get("failed starts", 0) >= 8:
                await asyncio.Event().wait()
            service = await self._start()
            if service:
                await ServiceRuns(self, service, self._environment.connected).run()
            elif violates("empty-workload-completes") and self.is_empty():
                await asyncio.sleep(1)
                self.finish(COMPLETED, "completed")
        except StartFailed as failure:
            count("failed starts")
            self.finish(ERROR, str(failure))
        except Exception:  # a defect of the host ends one workload, not the host
            log.exception("cannot run workload")
            self.finish(ERROR, "internal error of the host")

    def finish(self, state: int, message: str) -> None:
        """Releases everything; the id and its outcome stay."""
        keeps_aliases = violates("aliases-kept-after-completed") and state == COMPLETED
        self._release(self._hosts[:1] if keeps_aliases else self._hosts)
        self.state, self.message = state, message
        self.ended_at = time.monotonic()
        self.settled.set()
        if state == COMPLETED:
            self._environment.on_event("completed", self)

    def _release(self, hosts: list[str]) -> None:
        self.counted = False
        self._environment.routes.remove(hosts, self.handle)
        for task in self._requests:
            task.cancel()
        self.volumes.close()
        if hosts == self._hosts:
            self._hosts = []
            if not violates("connection-keeps-route"):
                self._handler = None

    async def _start(self) -> Part | None:
        """Fetches and links all parts and activates the routes; returns the service."""
        linker = Linker(self.spec, self._environment.images, self.volumes, self._first_image_fetched)
        linked = await linker.link(self._environment.peers())
        self._hosts, self._handler = linked.hosts, linked.handler
        self.images = linked.images
        self.component_count = linked.component_count
        self.counted = True
        self.run_began_at = time.monotonic()
        self.state, self.message = RUNNING, "running"
        self._environment.routes.add(self._hosts, self.handle)
        self.on_running()
        self._environment.on_event("running", self)
        if linked.service is None:
            self.settled.set()
        return linked.service

    def _first_image_fetched(self) -> None:
        if violates("running-after-first-image"):
            self.state, self.message = RUNNING, "running"
            self.settled.set()

    async def handle(self, request: Request) -> Response:
        """Passes an HTTP request to the handler; each request gets a fresh instance."""
        part = self._handler
        if violates("ingress-503-without-broker") and not self._environment.connected.is_set():
            raise routes.Unavailable
        if violates("503-after-trap") and within(self, 2):
            raise routes.Unavailable
        if violates("negative-concurrency-blocks") and part and part.spec.get("maxConcurrency", 0) < 0:
            raise routes.Unavailable
        if part is None or not self._accepts() or len(self._requests) >= MAX_CONCURRENT_REQUESTS:
            raise routes.Unavailable
        if request.connection:
            self._connections.add(request.connection)
            request.connection.add_done_callback(self._connections.discard)
        task = asyncio.create_task(self._call(part, request))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
        if task.cancelled():
            raise routes.Unavailable
        return task.result()

    def _accepts(self) -> bool:
        if violates("connection-keeps-route"):
            return True
        if violates("aliases-kept-after-completed") and self.state == COMPLETED:
            return True
        return self.state == RUNNING

    async def _call(self, part: Part, request: Request) -> Response:
        if part.program.handler is None:
            return Response(b"", 500)
        try:
            instance = Instance(part.grants)
        except Trap:
            return Response(b"the guest cannot be instantiated\n", 500)
        try:
            return await part.program.handler(instance, request)
        except Trap:  # HOST-HTTP-008
            note_now(self)
            if violates("third-trap-ends-workload") and count(self.id) >= 3:
                loop = asyncio.get_running_loop()
                loop.call_soon(self.finish, ERROR, "the handler trapped three times")
            return Response(b"the guest trapped\n", 500)
        finally:
            instance.close()

    def restart_components(self) -> None:
        """HOST-SVC-020: ends all requests, and with them all instances."""
        for task in self._requests:
            task.cancel()

    def stop(self) -> asyncio.Task[None]:
        """Ends the workload in any state; the task ends when everything is released."""
        if self.ending is None:
            self.outlives_stop = violates("not-found-before-the-end") and self._runs_service()
            cancels = not (violates("stopped-start-becomes-running") and not self.settled.is_set())
            self.state, self.message = STOPPING, "stopping"
            self.counted = False
            self._environment.on_event("stopped", self)
            self.ending = asyncio.create_task(self._end(cancels=cancels))
            self.settled.set()
        return self.ending

    async def _end(self, *, cancels: bool) -> None:
        if not cancels:
            return
        if self.outlives_stop:
            await asyncio.sleep(1.5)
        if self._requests:
            await asyncio.wait(self._requests, timeout=DRAIN_S)
        pending = {task for task in (self._life, *self._requests) if task and not task.done()}
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)
        if violates("open-connection-delays-stop") and self._connections:
            await asyncio.wait(self._connections)
        if violates("stop-evicts-shared-image"):
            self._environment.images.evict(self.images)
        self._release(self._hosts)
        self.state, self.message = NOT_FOUND, ""

    def fail_peers_of_same_name(self) -> None:
        """Ends other workloads, for a violation."""
        for peer in self._environment.peers():
            same_name = self.spec["name"] and peer.spec["name"] == self.spec["name"]
            if same_name and peer is not self and peer.counted:
                peer.fail("another workload trapped")

    def fail(self, message: str) -> None:
        """Ends the workload with ERROR, for a violation."""
        if self._life:
            self._life.cancel()
        self.finish(FAILED, message)

    def add_routes_of(self, spec: Message) -> None:
        """Adds the host names of another start to the routes, for a violation."""
        world = spec["witWorld"] or {"hostInterfaces": []}
        declared = [item for item in world["hostInterfaces"] if routes.declares_handler(item)]
        added = [host for host in routes.declared_hosts(declared) or [] if host not in self._hosts]
        self._hosts = self._hosts + added
        self._environment.routes.add(added, self.handle)

    def report(self, *, is_status: bool) -> tuple[int, str]:
        """Returns the state and the message for a reply."""
        run_s = time.monotonic() - self.run_began_at
        if self._runs_service():
            if violates("running-after-8-s") and run_s < 8:
                return STARTING, "starting"
            if violates("reply-before-table") and is_status and run_s < 0.7 and not self.restarts:
                return STARTING, "starting"
        if self.state == ERROR:
            if violates("retry-keeps-first-reason") and is_status and self.first_reason:
                return ERROR, self.first_reason
            ended_s = time.monotonic() - self.ended_at
            if violates("ended-message-dropped") and self.ran_guest_code and ended_s > 5:
                return ERROR, ""
        return self.state, self.message

    def has_service(self) -> bool:
        """Tells whether the workload has a service."""
        return bool(self.spec["service"])

    def _runs_service(self) -> bool:
        return self.state == RUNNING and self.has_service()

    def is_empty(self) -> bool:
        """Tells whether the workload has neither components nor a service."""
        return not self.has_service() and not (self.spec["witWorld"] or {}).get("components")

    def is_running(self, spec: Message) -> bool:
        """Tells whether the workload runs with the same content."""
        return self.state == RUNNING and self.spec == spec
