"""The inbox: one subscription for the replies to all requests."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from berth.bus._subscription import Delivery

DEFAULT_PREFIX = "_INBOX"


def new_inbox(prefix: str | None) -> str:
    """Returns a new subject for replies, under `prefix` or the default one."""
    return f"{prefix or DEFAULT_PREFIX}.{uuid4().hex}"


class Inbox:
    """Routes each reply to its request by the last token of the reply subject."""

    def __init__(self, prefix: str | None) -> None:
        self._prefix = f"{new_inbox(prefix)}."
        self._tokens = itertools.count()
        self._pending: dict[str, asyncio.Future[Delivery | None]] = {}

    @property
    def subject(self) -> str:
        """The subject to subscribe to."""
        return f"{self._prefix}*"

    @contextmanager
    def expect_reply(self) -> Iterator[tuple[str, asyncio.Future[Delivery | None]]]:
        """Yields a reply subject and a future for its first reply; later replies are dropped.

        The future is `None` if the bus is closed before the reply.
        """
        token = str(next(self._tokens))
        reply: asyncio.Future[Delivery | None] = asyncio.get_running_loop().create_future()
        self._pending[token] = reply
        try:
            yield f"{self._prefix}{token}", reply
        finally:
            del self._pending[token]

    def receive(self, delivery: Delivery) -> None:
        """Resolves the pending request that this reply belongs to."""
        reply = self._pending.get(delivery.subject.removeprefix(self._prefix))
        if reply is not None and not reply.done():
            reply.set_result(delivery)

    def close(self) -> None:
        """Ends all pending requests."""
        for reply in self._pending.values():
            if not reply.done():
                reply.set_result(None)
