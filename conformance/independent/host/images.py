"""A bounded cache of verified images, shared downloads, and the pull policies."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

from reference import Reference
from registry import Credentials, Pull, PullFailed
from schema import ENUMS

PULL_S = 30.0  # HOST-IMG-007: one deadline for all requests of a pull
MAX_CACHE_BYTES = 256 * 1024 * 1024  # content; the oldest is evicted, running guests keep their own copy
MAX_CACHED_REFERENCES = 10_000  # entries from references to digests
MAX_PULLS = 256  # concurrent downloads; more wait for their turn within their deadline

ALWAYS = ENUMS["ImagePullPolicy"].index("IMAGE_PULL_POLICY_ALWAYS")
NEVER = ENUMS["ImagePullPolicy"].index("IMAGE_PULL_POLICY_NEVER")


class ImageStore:
    """Images by reference; downloads outlive the starts that wait for them."""

    def __init__(self, plain_http: frozenset[str]) -> None:
        """`plain_http` contains the registry host names that the operator permits without TLS."""
        self._plain_http = plain_http
        self._digests: OrderedDict[str, str] = OrderedDict()
        # by repository and digest: a repository proves that it has content before the host runs it
        self._content: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._bytes = 0
        self._downloads: dict[tuple[object, ...], asyncio.Task[Any]] = {}
        self._slots = asyncio.Semaphore(MAX_PULLS)

    async def get(self, reference: Reference, credentials: Credentials | None, policy: int) -> bytes:
        """Returns the content of an image according to the pull policy."""
        cached = self._lookup(reference)
        if policy == NEVER:  # HOST-IMG-013
            if cached is None:
                raise PullFailed("the host does not have the image, and the pull policy is NEVER")
            return cached
        if cached is not None and policy != ALWAYS:
            return cached
        if policy == ALWAYS:  # HOST-IMG-011: each start asks; only the content is shared
            return await self._shared((object(),), lambda: self._pull(reference, credentials))
        return await self._shared((str(reference), credentials), lambda: self._pull(reference, credentials))

    async def _shared(self, key: tuple[object, ...], work: Callable[[], Coroutine[Any, Any, bytes]]) -> bytes:
        """HOST-IMG-010, HOST-IMG-019: joins a download in progress; a canceled waiter does not end it."""
        task = self._downloads.get(key)
        if task is None:
            task = asyncio.create_task(self._limited(work()))
            self._downloads[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(task)

    async def _limited(self, work: Coroutine[Any, Any, bytes]) -> bytes:
        try:
            async with asyncio.timeout(PULL_S):
                return await work
        except TimeoutError:
            raise PullFailed(f"the pull took longer than {PULL_S:.0f} s") from None

    def _forget(self, key: tuple[object, ...], done: asyncio.Task[bytes]) -> None:
        self._downloads.pop(key, None)
        if not done.cancelled():
            done.exception()  # all waiters may have been canceled

    async def _pull(self, reference: Reference, credentials: Credentials | None) -> bytes:
        async with self._slots:
            pull = Pull(reference, credentials, self._plain_http)
            layer = await pull.manifest()
            content = self._content.get((reference.repository, layer.digest))
            if content is None:
                key = (reference.repository, layer.digest, credentials)
                content = await self._shared(key, lambda: pull.blob(layer))
        self._store(reference, layer.digest, content)
        return content

    def _lookup(self, reference: Reference) -> bytes | None:
        key = (reference.repository, self._digests.get(str(reference), ""))
        content = self._content.get(key)
        if content is not None:
            self._digests.move_to_end(str(reference))
            self._content.move_to_end(key)
        return content

    def _store(self, reference: Reference, digest: str, content: bytes) -> None:
        self._digests[str(reference)] = digest
        self._digests.move_to_end(str(reference))
        if len(self._digests) > MAX_CACHED_REFERENCES:
            self._digests.popitem(last=False)
        key = (reference.repository, digest)
        if key not in self._content:
            self._content[key] = content
            self._bytes += len(content)
        self._content.move_to_end(key)
        while self._bytes > MAX_CACHE_BYTES:
            _, evicted = self._content.popitem(last=False)
            self._bytes -= len(evicted)

    def close(self) -> None:
        """Ends all downloads."""
        for task in self._downloads.values():
            task.cancel()
