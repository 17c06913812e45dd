"""Shutdown by SIGTERM and SIGINT, for any number of hosts in one process."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from berth.errors import ServeError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

# Signal handlers belong to the process, and so do these lists.
_waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
_previous_handlers: dict[int, Any] = {}


@contextmanager
def shutdown_signals(requested: asyncio.Event) -> Iterator[None]:
    """Sets `requested` at the first SIGTERM or SIGINT; all hosts of the process get the same signal.

    The previous handlers are restored at that signal, so that a second one has its usual effect, and otherwise
    when the last host has ended.

    Raises `ServeError` outside of the main thread, where Python handles no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ServeError("signals can be handled in the main thread only: use `shutdown` in other threads")
    entry = (asyncio.get_running_loop(), requested)
    _waiting.append(entry)
    for number in _SIGNALS:
        # Not `loop.add_signal_handler`: it replaces the handler of `asyncio.run` and cannot restore it.
        if signal.getsignal(number) is not _on_signal:
            _previous_handlers[number] = signal.signal(number, _on_signal)
    try:
        yield
    finally:
        if entry in _waiting:
            _waiting.remove(entry)
        if not _waiting:
            _restore_handlers()


def _on_signal(_number: int, _frame: object) -> None:
    _restore_handlers()
    while _waiting:
        loop, requested = _waiting.pop()
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(requested.set)


def _restore_handlers() -> None:
    while _previous_handlers:
        number, previous = _previous_handlers.popitem()
        # A handler that was installed in the meantime stays.
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
