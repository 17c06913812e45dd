"""Carries out what the table of ids decides: starts, ends and watches runs, and answers callers."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from berth._reply import Reply
from berth.errors import Refusal
from berth.host._lifecycle import (
    Answer,
    Begin,
    CouldNot,
    End,
    Event,
    Gone,
    Lifecycle,
    Reported,
    Shutdown,
    StartAsked,
    StatusAsked,
    StopAsked,
    Tick,
    Up,
)
from berth.host.host import Host, Start
from berth.host.reporter import Report, Reporter
from berth.proto import Workload

log = logging.getLogger("berth")


class Runs:
    """All workloads of one host. It belongs to one event loop; only reporters may come from elsewhere."""

    def __init__(self, host: Host[Any]) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lifecycle = Lifecycle()
        self._last_request = 0
        self._callers: dict[int, asyncio.Future[Reply]] = {}
        self._workloads: dict[int, Workload] = {}
        self._ends: dict[int, _End] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def start(self, workload_id: str, workload: Workload) -> asyncio.Future[Reply]:
        """Starts a workload, unless its id is known.

        The answer is the outcome, or STARTING when that takes long.
        """
        return self._ask(StartAsked, workload_id, workload)

    def stop(self, workload_id: str) -> asyncio.Future[Reply]:
        """Stops one; answered at once."""
        return self._ask(StopAsked, workload_id)

    def status(self, workload_id: str) -> asyncio.Future[Reply]:
        """How it does; answered at once."""
        return self._ask(StatusAsked, workload_id)

    def workload_count(self) -> int:
        """Workloads that the host works for."""
        return self._lifecycle.workload_count()

    def shut_down(self) -> None:
        """Ends everything, begins nothing more."""
        self._step(Shutdown())

    async def idle(self) -> None:
        """Waits until nothing is left in the host. Cancel safe."""
        await self._idle.wait()

    async def cancel(self) -> None:
        """Cancels everything that still runs, without an orderly end."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)

    def _ask(
        self, event: Callable[[int, str], Event], workload_id: str, workload: Workload | None = None
    ) -> asyncio.Future[Reply]:
        self._last_request += 1
        request = self._last_request
        answer = self._callers[request] = self._loop.create_future()
        if workload is not None:
            self._workloads[request] = workload
        self._step(event(request, workload_id))
        self._workloads.pop(request, None)
        return answer

    def _step(self, event: Event) -> None:
        for action in self._lifecycle.step(self._loop.time(), event):
            match action:
                case Answer(request, reply):
                    caller = self._callers.pop(request, None)
                    if caller is not None and not caller.done():
                        caller.set_result(reply)
                case Begin(request, run, workload_id):
                    self._begin(run, workload_id, self._workloads.pop(request))
                case End(run):
                    end = self._ends.get(run)
                    if end is not None:
                        end.now()
        self._set_timer()
        if self._lifecycle.is_idle():
            self._idle.set()
        else:
            self._idle.clear()

    def _set_timer(self) -> None:
        due_s = self._lifecycle.next_tick_s()
        if self._timer is not None:
            if self._timer.when() == due_s:
                return
            self._timer.cancel()
        self._timer = None if due_s is None else self._loop.call_at(due_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._step(Tick())

    def _begin(self, run: int, workload_id: str, workload: Workload) -> None:
        end = self._ends[run] = _End()
        start = Start(workload_id, workload, Reporter(lambda report: self._deliver(run, report)))
        task = self._loop.create_task(self._run(run, start, end))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _deliver(self, run: int, report: Report) -> None:
        if threading.get_ident() == self._thread:
            self._step(Reported(run, report))
        else:
            with suppress(RuntimeError):  # the loop is closed, and nobody is left to be told
                self._loop.call_soon_threadsafe(self._step, Reported(run, report))

    async def _run(self, run: int, start: Start, end: _End) -> None:
        """One run from its start to the moment when nothing of it is left."""
        # The stop may have come in the same moment as the start.
        if not end.told.is_set():
            await self._live(run, start, end)
        del self._ends[run]
        self._step(Gone(run))

    async def _live(self, run: int, start: Start, end: _End) -> None:
        starting = end.starting = self._loop.create_task(self._host.start(start))
        try:
            await asyncio.wait({starting})
        except asyncio.CancelledError:
            starting.cancel()
            raise
        if starting.cancelled():
            return
        error = starting.exception()
        if error is not None:
            # Not when it was cancelled and said something else on its way out.
            if not end.told.is_set():
                self._step(CouldNot(run, _refusal(error)))
            return
        # Also when it was cancelled and came up all the same.
        self._step(Up(run))
        await end.told.wait()
        await self._stop(starting.result())

    async def _stop(self, instance: Any) -> None:
        try:
            await self._host.stop(instance)
        except Exception:
            log.exception("the host failed while it stopped a workload")


class _End:
    """How a run is told to end: its start is cancelled, or what came up is stopped."""

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self.starting: asyncio.Task[Any] | None = None

    def now(self) -> None:
        self.told.set()
        if self.starting is not None and not self.starting.done():
            self.starting.cancel()


def _refusal(error: BaseException) -> Refusal:
    if isinstance(error, Refusal):
        return error
    # What it was is for the log: it may quote a secret.
    log.error("the host failed while it started a workload", exc_info=error)
    return Refusal("the host failed while it started the workload", guest_ran=True)
