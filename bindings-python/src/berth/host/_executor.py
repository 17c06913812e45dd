"""Executes the actions of the lifecycle: starts and stops runs, and replies to pending requests."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from berth._reply import Reply
from berth.errors import StartError
from berth.host._lifecycle import (
    Event,
    Lifecycle,
    Released,
    Reported,
    SendReply,
    Shutdown,
    Started,
    StartFailed,
    StartRequested,
    StartRun,
    StatusRequested,
    StopRequested,
    StopRun,
    Tick,
)
from berth.host.host import Host, StartRequest
from berth.host.status_reporter import StatusReport, StatusReporter
from berth.proto import Workload

log = logging.getLogger("berth")


class Executor:
    """Runs all workloads of one host, on one event loop. Only status reports may come from other threads."""

    def __init__(self, host: Host[Any]) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lifecycle = Lifecycle()
        self._last_request = 0
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        # Workloads by start request, until the request has been processed.
        self._requested_workloads: dict[int, Workload] = {}
        self._stop_signals: dict[int, _StopSignal] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def start(self, workload_id: str, workload: Workload) -> asyncio.Future[Reply]:
        """Starts a workload, unless its ID is in use.

        The reply is the outcome, or STARTING if the start takes longer than `REPLY_STARTING_AFTER_S`.
        """
        return self._request(StartRequested, workload_id, workload)

    def stop(self, workload_id: str) -> asyncio.Future[Reply]:
        """Stops a workload; the reply is available immediately."""
        return self._request(StopRequested, workload_id)

    def status(self, workload_id: str) -> asyncio.Future[Reply]:
        """Returns the status of a workload; the reply is available immediately."""
        return self._request(StatusRequested, workload_id)

    def workload_count(self) -> int:
        """Returns the number of active workloads."""
        return self._lifecycle.workload_count()

    def shut_down(self) -> None:
        """Stops all workloads and refuses all later starts."""
        self._step(Shutdown())

    async def wait_idle(self) -> None:
        """Waits until the host has released all runs. Safe to cancel."""
        await self._idle.wait()

    async def cancel(self) -> None:
        """Cancels all runs, without stopping them gracefully."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)

    def _request(
        self, event: Callable[[int, str], Event], workload_id: str, workload: Workload | None = None
    ) -> asyncio.Future[Reply]:
        self._last_request += 1
        request = self._last_request
        reply = self._replies[request] = self._loop.create_future()
        if workload is not None:
            self._requested_workloads[request] = workload
        self._step(event(request, workload_id))
        self._requested_workloads.pop(request, None)
        return reply

    def _step(self, event: Event) -> None:
        for action in self._lifecycle.step(self._loop.time(), event):
            match action:
                case SendReply(request, reply):
                    future = self._replies.pop(request, None)
                    if future is not None and not future.done():
                        future.set_result(reply)
                case StartRun(request, run, workload_id):
                    self._start_run(run, workload_id, self._requested_workloads.pop(request))
                case StopRun(run):
                    stop_signal = self._stop_signals.get(run)
                    if stop_signal is not None:
                        stop_signal.set()
        self._set_timer()
        if self._lifecycle.is_idle():
            self._idle.set()
        else:
            self._idle.clear()

    def _set_timer(self) -> None:
        due_s = self._lifecycle.next_tick_at_s()
        if self._timer is not None:
            if self._timer.when() == due_s:
                return
            self._timer.cancel()
        self._timer = None if due_s is None else self._loop.call_at(due_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._step(Tick())

    def _start_run(self, run: int, workload_id: str, workload: Workload) -> None:
        stop_signal = self._stop_signals[run] = _StopSignal()
        request = StartRequest(workload_id, workload, StatusReporter(lambda report: self._deliver(run, report)))
        task = self._loop.create_task(self._run(run, request, stop_signal))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _deliver(self, run: int, report: StatusReport) -> None:
        if threading.get_ident() == self._thread:
            self._step(Reported(run, report))
        else:
            with suppress(RuntimeError):  # the loop is closed, so the report has no receiver
                self._loop.call_soon_threadsafe(self._step, Reported(run, report))

    async def _run(self, run: int, request: StartRequest, stop_signal: _StopSignal) -> None:
        """Executes one run until the host has released it."""
        # The stop may have arrived already, in the same event loop iteration as the start.
        if not stop_signal.event.is_set():
            await self._start_and_stop(run, request, stop_signal)
        del self._stop_signals[run]
        self._step(Released(run))

    async def _start_and_stop(self, run: int, request: StartRequest, stop_signal: _StopSignal) -> None:
        starting = stop_signal.starting = self._loop.create_task(self._host.start(request))
        try:
            await asyncio.wait({starting})
        except asyncio.CancelledError:
            starting.cancel()
            raise
        if starting.cancelled():
            return
        error = starting.exception()
        if error is not None:
            # An error raised during cancellation is ignored.
            if not stop_signal.event.is_set():
                self._step(StartFailed(run, _start_error(error)))
            return
        # A start that was cancelled but succeeded nevertheless is reported too; its instance is then stopped.
        self._step(Started(run))
        await stop_signal.event.wait()
        await self._stop(starting.result())

    async def _stop(self, instance: Any) -> None:
        try:
            await self._host.stop(instance)
        except Exception:
            log.exception("unexpected error while stopping a workload")


class _StopSignal:
    """Signals a run to stop.

    Cancels the start if it is in flight; otherwise, the run stops its instance.
    """

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.starting: asyncio.Task[Any] | None = None

    def set(self) -> None:
        self.event.set()
        if self.starting is not None and not self.starting.done():
            self.starting.cancel()


def _start_error(error: BaseException) -> StartError:
    if isinstance(error, StartError):
        return error
    # Details go to the log only: they may contain a secret.
    log.error("unexpected error while starting a workload", exc_info=error)
    return StartError("unexpected error while starting the workload", non_retryable=True)
