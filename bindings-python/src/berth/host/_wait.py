"""Waiting that a cancellation does not interrupt, for the orderly end of a host."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


async def wait_until_done(futures: Iterable[asyncio.Future[Any]], timeout_s: float | None = None) -> bool:
    """Waits like `asyncio.wait`, and continues to wait when the current task is cancelled.

    Returns whether the current task was cancelled; the caller must then raise `asyncio.CancelledError` at its
    own end.
    """
    loop, pending, was_cancelled = asyncio.get_running_loop(), set(futures), False
    end_s = None if timeout_s is None else loop.time() + timeout_s
    while pending and (end_s is None or loop.time() < end_s):
        try:
            left_s = None if end_s is None else end_s - loop.time()
            _, pending = await asyncio.wait(pending, timeout=left_s)
        except asyncio.CancelledError:
            was_cancelled = True
    return was_cancelled
