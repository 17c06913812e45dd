"""Executes the actions of the lifecycle: starts and stops runs, and replies to pending requests."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from berth._log_limit import LimitedLog
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

T = TypeVar("T")


class Executor:
    """Runs all workloads of one host, on one event loop. Only status reports may come from other threads."""

    def __init__(self, host: Host[Any], limited_log: LimitedLog | None = None) -> None:
        self._host = host
        self._limited_log = limited_log or LimitedLog(log)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lifecycle = Lifecycle()
        self._last_request = 0
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        # Workloads by start request, until the request has been processed.
        self._requested_workloads: dict[int, Workload] = {}
        self._stop_signals: dict[int, _StopSignal] = {}
        # Tasks of all runs, including the calls of the host's methods.
        self.tasks: set[asyncio.Task[Any]] = set()
        self._is_cancelled = False
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

    def cancel(self) -> None:
        """Cancels all runs, without stopping them gracefully."""
        self._is_cancelled = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self.tasks:
            task.cancel()

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
        stop_signal = self._stop_signals[run] = _StopSignal(self._loop)
        request = StartRequest(workload_id, workload, StatusReporter(lambda report: self._deliver(run, report)))
        self._spawn(self._run(run, request, stop_signal))

    def _spawn(self, operation: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self._loop.create_task(operation)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def _deliver(self, run: int, report: StatusReport) -> None:
        if threading.get_ident() == self._thread:
            self._step(Reported(run, report))
        else:
            with suppress(RuntimeError):  # the loop is closed, so the report has no receiver
                self._loop.call_soon_threadsafe(self._step, Reported(run, report))

    async def _run(self, run: int, request: StartRequest, stop_signal: _StopSignal) -> None:
        """Executes one run until the host has released it."""
        try:
            # The stop may have arrived already, in the same event loop iteration as the start.
            if not stop_signal.requested.done():
                await self._start_and_stop(run, request, stop_signal)
        finally:
            del self._stop_signals[run]
            self._step(Released(run))

    async def _start_and_stop(self, run: int, request: StartRequest, stop_signal: _StopSignal) -> None:
        starting = stop_signal.starting = self._spawn(self._call_start(request))
        await self._wait(starting)
        if starting.cancelled():
            return
        error = starting.exception()
        if error is not None:
            # An error raised during cancellation is ignored.
            if not stop_signal.requested.done():
                self._step(StartFailed(run, self._start_error(error)))
            return
        # A start that was cancelled but succeeded nevertheless is reported too; its instance is then stopped.
        self._step(Started(run))
        await self._wait(stop_signal.requested)
        await self._wait(self._spawn(self._call_stop(starting.result())))

    async def _wait(self, future: asyncio.Future[Any]) -> None:
        """Waits until a future is done.

        Only `cancel` interrupts this. Another cancellation comes from the end of the event loop, as in
        `asyncio.run`, which cancels all tasks: the workloads are then stopped as at a shutdown.
        """
        while not future.done():
            try:
                await asyncio.wait({future})
            except asyncio.CancelledError:
                if self._is_cancelled:
                    raise
                self.shut_down()

    async def _call_start(self, request: StartRequest) -> Any:
        return await self._host.start(request)

    async def _call_stop(self, instance: Any) -> None:
        try:
            await self._host.stop(instance)
        except Exception as error:  # noqa: BLE001  # an error of the host's author; the ID becomes free
            self._limited_log.error("unexpected error while stopping a workload", error)

    def _start_error(self, error: BaseException) -> StartError:
        if isinstance(error, StartError):
            return error
        # Details go to the log only: they may contain a secret.
        self._limited_log.error("unexpected error while starting a workload", error)
        return StartError("unexpected error while starting the workload", non_retryable=True)


class _StopSignal:
    """Signals a run to stop.

    Cancels the start if it is in flight; otherwise, the run stops its instance.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.requested: asyncio.Future[None] = loop.create_future()
        self.starting: asyncio.Task[Any] | None = None

    def set(self) -> None:
        if not self.requested.done():
            self.requested.set_result(None)
        if self.starting is not None and not self.starting.done():
            self.starting.cancel()
