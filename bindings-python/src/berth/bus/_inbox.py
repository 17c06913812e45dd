"""Where the answers to requests arrive: one subscription for all of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from berth.bus._subscription import Delivery

DEFAULT_PREFIX = "_INBOX"


class Inbox:
    """Tells answers apart by the last token of their subject."""

    def __init__(self, prefix: str | None) -> None:
        self._prefix = f"{prefix or DEFAULT_PREFIX}.{uuid4().hex}."
        self._tokens = itertools.count()
        self._expected: dict[str, asyncio.Future[Delivery]] = {}

    @property
    def subject(self) -> str:
        """What is to be subscribed to."""
        return f"{self._prefix}*"

    @contextmanager
    def expect(self) -> Iterator[tuple[str, asyncio.Future[Delivery]]]:
        """The subject for one answer, and the answer; a later one is dropped."""
        token = str(next(self._tokens))
        answer: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        self._expected[token] = answer
        try:
            yield f"{self._prefix}{token}", answer
        finally:
            del self._expected[token]

    def receive(self, delivery: Delivery) -> None:
        """Hands an answer to whoever waits for it."""
        answer = self._expected.get(delivery.subject.removeprefix(self._prefix))
        if answer is not None and not answer.done():
            answer.set_result(delivery)
