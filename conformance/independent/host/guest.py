"""The instance of a guest: its memory, its processor time and the access that its workload grants."""

import asyncio
import logging
import mmap
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urljoin

import http1
from allowlist import AllowLists
from violation import notes, violates
from volumes import Mount

log = logging.getLogger("guest")

MIB = 1024 * 1024
PAGE_BYTES = 4096
INITIAL_BYTES = 64 * 1024  # one page of WebAssembly
DEFAULT_MEMORY_MIB = 320  # HOST-RES-002: more than the guaranteed 256 MiB
SLICE_S = 0.002  # HOST-RES-015: processor time of a guest before the host takes the processor back
PAUSE_S = 0.002  # the share of one guest is half a processor
FETCH_S = 10.0  # an outgoing request or connection, until the head of the response


class Trap(Exception):  # noqa: N818 - an outcome of the guest
    """The end of a guest by a violation of its instruction set."""


class GuestFailed(Exception):  # noqa: N818 - an outcome of the guest
    """The end of a run with an error."""


class GuestExit(Exception):  # noqa: N818 - an outcome of the guest
    """The end of a run with an exit code."""

    def __init__(self, code: int) -> None:
        """Stores the code."""
        super().__init__(f"exited with code {code}")
        self.code = code


class Denied(Exception):  # noqa: N818 - an outcome for the guest
    """A destination that no entry of an allow-list permits, or that cannot be reached."""


class Memory:
    """Linear memory with a limit; `cells` holds the variables of the guest."""

    def __init__(self, limit_mib: int) -> None:
        """HOST-RES-001: refuses an instance whose initial memory exceeds its limit."""
        self._limit = limit_mib * MIB
        self._size = INITIAL_BYTES
        self._blocks: list[mmap.mmap] = []
        self.cells: dict[str, str] = {}
        if self._size > self._limit:
            raise Trap("the initial memory exceeds the limit")

    def grow(self, mib: int) -> mmap.mmap | None:
        """Returns new zeroed memory, or None if the limit or the machine does not permit it."""
        if mib <= 0 or self._size + mib * MIB > self._limit:
            return None
        try:
            block = mmap.mmap(-1, mib * MIB)
        except (OSError, OverflowError, ValueError):
            return None
        self._size += mib * MIB
        self._blocks.append(block)
        return block

    def close(self) -> None:
        """Releases the memory."""
        for block in self._blocks:
            block.close()
        self._blocks.clear()


@dataclass(frozen=True)
class Grants:
    """Access of one component or the service, as its workload grants it."""

    environment: dict[str, str] = field(repr=False)
    config: dict[str, str] = field(repr=False)
    buckets: dict[str, dict[str, bytes]] = field(repr=False)
    mounts: list[Mount]
    allow_lists: AllowLists
    memory_mib: int


@dataclass(frozen=True)
class Request:
    """An HTTP request to a guest."""

    method: str
    path: str
    headers: http1.Headers
    body: AsyncIterator[bytes]
    connection: "asyncio.Task[None] | None" = None


@dataclass(frozen=True)
class Response:
    """The HTTP response of a guest."""

    body: bytes
    status: int = 200
    headers: http1.Headers = field(default_factory=lambda: [("content-type", "text/plain")])


class Instance:
    """One instance; released by `close`."""

    def __init__(self, grants: Grants) -> None:
        """HOST-SVC-012: each instance has fresh memory."""
        self.grants = grants
        self.memory = Memory(grants.memory_mib)

    def close(self) -> None:
        """Releases the memory of the instance."""
        self.memory.close()

    def first_variable(self) -> str:
        """Returns the value of the first environment variable, or an empty string."""
        return next(iter(self.grants.environment.values()), "")

    async def beacon(self, name: str) -> None:
        """Sends a beacon; a failure is ignored."""
        if address := self.first_variable():
            with suppress(Denied):
                await self.fetch(f"http://{address}/{name}")

    async def fetch(self, url: str) -> int:
        """Returns the status of the response to a GET request, or raises Denied."""
        try:
            target = http1.parse_url(url)
            if not self.grants.allow_lists.permits_request(
                target.scheme, target.hostname or "", http1.port_of(target)
            ):
                raise Denied
            if violates("hanging-request-delays-stop"):
                return await _uncancelable(asyncio.ensure_future(_get(target)))
            return await _get(target)
        except (OSError, EOFError, http1.HttpError):
            raise Denied from None

    async def connect(self, address: str, port: int) -> None:
        """Opens and closes a TCP connection, or raises Denied."""
        try:
            if not self.grants.allow_lists.permits_connection(address, port):
                raise Denied
            async with asyncio.timeout(FETCH_S):
                _, writer = await asyncio.open_connection(address, port)
            writer.close()
        except (OSError, ValueError):
            raise Denied from None

    async def compute_forever(self) -> None:
        """Runs an endless loop, which the host preempts after each slice."""
        notes["spinners"] = notes.get("spinners", 0) + 1
        try:
            await self._compute()
        finally:
            notes["spinners"] = notes.get("spinners", 0) - 1

    async def _compute(self) -> None:
        while True:
            end = time.monotonic() + SLICE_S
            while time.monotonic() < end:
                pass
            await asyncio.sleep(PAUSE_S)

    def log(self, context: str, text: str) -> None:
        """Writes to the log of the host."""
        log.info("%s: %s", context, text)


async def _get(target: SplitResult) -> int:
    async with asyncio.timeout(FETCH_S), http1.get(target, {}) as response:
        location = response.head.value("location")
        if violates("redirects-not-checked") and location and 300 <= response.status < 400:
            async with http1.get(http1.parse_url(urljoin(target.geturl(), location)), {}) as second:
                return second.status
        return response.status


async def _uncancelable(request: "asyncio.Future[int]") -> int:
    """Waits for a response even if the guest is ended meanwhile; the guest ends when it arrived."""
    try:
        return await asyncio.shield(request)
    except asyncio.CancelledError:
        status = await request
        if current := asyncio.current_task():
            asyncio.get_running_loop().call_later(0.01, current.cancel)
        return status
