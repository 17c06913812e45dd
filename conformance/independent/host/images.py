"""A bounded cache of verified images, shared downloads, and the pull policies."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, cast

from reference import InvalidReference, Reference, parse_reference
from registry import Credentials, Pull, PullFailed
from schema import ENUMS
from violation import note_now, notes, violates, within

PULL_S = 30.0  # HOST-IMG-007: one deadline for all requests of a pull
MAX_CACHE_BYTES = 256 * 1024 * 1024  # content; the oldest is evicted, running guests keep their own copy
MAX_CACHED_REFERENCES = 10_000  # entries from references to digests
MAX_PULLS = 256  # concurrent downloads; more wait for their turn within their deadline

ALWAYS = ENUMS["ImagePullPolicy"].index("IMAGE_PULL_POLICY_ALWAYS")
IF_NOT_PRESENT = ENUMS["ImagePullPolicy"].index("IMAGE_PULL_POLICY_IF_NOT_PRESENT")
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
        self._downloads: dict[tuple[object, ...], asyncio.Task[bytes]] = {}
        self._slots = asyncio.Semaphore(MAX_PULLS)

    async def get(self, reference: Reference, credentials: Credentials | None, policy: int) -> bytes:
        """Returns the content of an image according to the pull policy."""
        cached = self._lookup(reference)
        if policy == NEVER:  # HOST-IMG-013
            if cached is None:
                raise PullFailed("the host does not have the image, and the pull policy is NEVER")
            if violates("never-checks-credentials") and credentials:
                await Pull(reference, credentials, self._plain_http).probe()
            return cached
        if cached is not None and policy != ALWAYS and not self._is_expired(reference):
            return cached
        if violates("always-asks-every-10-s") and cached is not None and within(("resolved", reference), 10):
            return cached
        try:
            if policy == ALWAYS:  # HOST-IMG-011: each start asks; only the content is shared
                content = await self._shared((object(),), lambda: self._pull(reference, credentials))
            else:
                key = (str(reference), credentials)
                content = await self._shared(key, lambda: self._pull(reference, credentials))
        except PullFailed as error:
            if violates("always-falls-back-to-cache") and cached is not None and error.is_unreachable:
                return cached
            raise
        if violates("always-runs-old-code"):
            return bytes(notes.setdefault(("first content", str(reference)), content))
        return content

    def _is_expired(self, reference: Reference) -> bool:
        return violates("cache-expires-in-use") and not within(("resolved", reference), 6)

    def evict(self, images: list[str]) -> None:
        """Removes images from the cache, for a violation."""
        for text in images:
            with suppress(InvalidReference):
                self._digests.pop(str(parse_reference(text)), None)

    async def _shared(self, key: tuple[object, ...], work: Callable[[], Coroutine[Any, Any, bytes]]) -> bytes:
        """HOST-IMG-010, HOST-IMG-019: joins a download in progress; a canceled waiter does not end it."""
        task = self._downloads.get(key)
        if task is None:
            task = asyncio.create_task(self._limited(work()))
            self._downloads[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        if violates("stop-cancels-shared-pull"):
            try:
                return await task
            except asyncio.CancelledError:
                current = asyncio.current_task()
                if current and current.cancelling():
                    raise
                raise PullFailed("the download was canceled") from None
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
        if violates("failed-pull-blocks-registry") and within(("failed", reference.registry), 10):
            raise PullFailed("a recent pull from the registry failed")
        if violates("missing-tag-remembered") and within(("missing", reference), 30):
            raise PullFailed("the registry responds with 404")
        try:
            return await self._pull_from_registry(reference, credentials)
        except PullFailed as error:
            note_now(("failed", reference.registry))
            if "404" in str(error):
                note_now(("missing", reference))
            older = notes.get(("login", reference.registry))
            if violates("rejected-login-uses-older-login") and credentials and older not in (None, credentials):
                return await self._pull_from_registry(reference, older)
            raise

    async def _pull_from_registry(self, reference: Reference, credentials: Credentials | None) -> bytes:
        async with self._slots:
            pull = Pull(reference, credentials, self._plain_http)
            layer = await pull.manifest()
            content = self._content.get((reference.repository, layer.digest))
            if content is None and violates("bad-content-cached"):
                content = cast("bytes | None", notes.get(("bad content", layer.digest)))
            if content is None:
                key = (reference.repository, layer.digest, credentials)
                content = await self._shared(key, lambda: pull.blob(layer))
        note_now(("resolved", reference))
        if credentials:
            notes["login", reference.registry] = credentials
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
