"""Warnings and errors that peers can cause any number of times: limited, and counted."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

INTERVAL_S = 10.0
"""Interval over which the lines of one kind are limited."""

MAX_LINES = 10
"""Maximum number of lines of one kind in an interval: enough for the faults of a few peers, and far too few to
fill a disk."""


class LimitedLog:
    """Logs at most `MAX_LINES` lines of one kind in an interval, and then the number of the others.

    The kind is the format string, so the number of kinds is fixed.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._seen: Counter[str] = Counter()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def warning(self, message: str, *args: object) -> None:
        """Logs a warning, or counts it."""
        self._write(logging.WARNING, message, args, None)

    def error(self, message: str, cause: BaseException) -> None:
        """Logs an error with the traceback of its cause, or counts it."""
        self._write(logging.ERROR, message, (), cause)

    def _write(self, level: int, message: str, args: tuple[object, ...], cause: BaseException | None) -> None:
        self._seen[message] += 1
        if message not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[message] = loop.call_later(INTERVAL_S, self._end_interval, message)
        if self._seen[message] <= MAX_LINES:
            self._log.log(level, message, *args, exc_info=cause)

    def close(self) -> None:
        """Logs the numbers that are due."""
        for message, timer in list(self._timers.items()):
            timer.cancel()
            self._end_interval(message)

    def _end_interval(self, message: str) -> None:
        del self._timers[message]
        suppressed = self._seen.pop(message) - MAX_LINES
        if suppressed > 0:
            self._log.warning("suppressed %d more lines like this: %s", suppressed, message)
