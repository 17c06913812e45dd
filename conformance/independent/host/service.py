"""The runs of a service: outcomes, restarts and the restart budget."""

import asyncio
import random
import time
from typing import TYPE_CHECKING

from guest import GuestExit, GuestFailed, Instance, Trap
from linking import Part
from violation import count, notes, violates

if TYPE_CHECKING:
    from workload import Workload

BUDGET_RESET_S = 60.0  # HOST-SVC-013
FIRST_DELAY_S = 0.1  # HOST-SVC-011
LONGEST_DELAY_S = 30.0

BETWEEN_RUNS, RUNNING, SUCCEEDED, FAILED = 1, 2, 3, 5  # numbers of the states of the workload


class ServiceRuns:
    """The service of one workload until it succeeds or has no restarts left."""

    def __init__(self, workload: "Workload", service: Part, connected: asyncio.Event) -> None:
        """`connected` tells whether the broker is reachable; only a violation depends on it."""
        self._workload = workload
        self._service = service
        self._connected = connected
        self._total = 0
        self._previous: Instance | None = None
        self._run_count = 0

    def _allowed(self) -> int:
        allowed = int(self._service.spec["maxRestarts"])
        return min(allowed, 5) if violates("restarts-capped-at-5") else allowed

    async def run(self) -> None:
        """Runs the service, and reports each change in the state of the workload."""
        workload, allowed = self._workload, self._allowed()
        while True:
            began = time.monotonic()
            workload.run_began_at = began
            reason = await self._run_once()
            lasted = time.monotonic() - began
            if reason is None:
                workload.finish(SUCCEEDED, "the service completed")
                return
            if lasted >= (0.25 if violates("short-run-renews-restarts") else BUDGET_RESET_S):
                workload.failures = 0
            self._total += 1
            self._count_failure(reason)
            if workload.failures > allowed or (violates("exit-1-not-restarted") and "code 1" in reason):
                is_hidden = violates("last-failure-reported-completed") and allowed > 0
                message = f"failed {self._total} times, no restarts left: {reason}"
                workload.finish(SUCCEEDED if is_hidden else FAILED, message)
                return
            await self._wait(reason, lasted)

    def _count_failure(self, reason: str) -> None:
        """Counts consecutive failures; two violations count under another key than the workload."""
        workload = self._workload
        workload.failures += 1
        if violates("restart-budget-shared-by-image"):
            workload.failures = count(self._service.spec["image"])
        if violates("restart-count-kept-after-stop"):
            workload.failures = count(workload.id)
        if violates("trap-ends-same-name") and reason.startswith("trapped"):
            workload.fail_peers_of_same_name()

    async def _wait(self, reason: str, lasted: float) -> None:
        """HOST-SVC-011: waits before the next run, with exponential backoff and jitter."""
        workload, allowed = self._workload, self._allowed()
        delay = min(FIRST_DELAY_S * 2 ** min(workload.failures - 1, 16), LONGEST_DELAY_S)
        delay *= random.uniform(0.5, 1.5)  # noqa: S311 - jitter
        if violates("restart-delay-from-run-start"):
            delay = max(0.0, delay - lasted)
        is_last = violates("error-before-last-run") and workload.failures == allowed
        workload.state = FAILED if is_last else BETWEEN_RUNS  # HOST-SVC-008
        workload.message = f"restart {workload.failures} of {allowed} in {delay * 1000:.0f} ms: {reason}"
        workload.settled.set()
        workload.restart_components()
        try:
            await asyncio.sleep(delay)
            if violates("no-restarts-without-broker"):
                await self._connected.wait()
        except asyncio.CancelledError:
            if violates("stop-cancels-only-first-restart") and self._total >= 2:
                notes["run"] = asyncio.create_task(self._run_once())
            raise
        workload.restarts += 1
        workload.state, workload.message = RUNNING, "running"

    async def _run_once(self) -> str | None:
        """Returns the reason of a failure, or None after a success."""
        began = time.monotonic()
        self._note_guest_code()
        reason = await self._outcome()
        lasted = time.monotonic() - began
        left = self._workload.failures < self._allowed()
        if violates("quick-success-is-failure") and reason is None and lasted < 0.2 and left:
            return "the run ended early"
        if violates("exit-0-restarts") and reason == "" and left:
            return "exited with code 0"
        if violates("late-error-is-success") and reason == "returned an error" and lasted > 0.2:
            return None
        return reason or None

    def _note_guest_code(self) -> None:
        workload = self._workload
        if not violates("early-failure-may-start-again"):
            workload.ran_guest_code = True
            return

        def note() -> None:
            workload.ran_guest_code = workload.state == RUNNING or workload.ran_guest_code

        asyncio.get_running_loop().call_later(0.1, note)

    async def _outcome(self) -> str | None:
        """Returns the reason of a failure, None if the run returned, or "" if it exited with code 0."""
        if self._service.program.run is None:
            return f"{self._service.label} has no entry point wasi:cli/run"
        try:
            instance = Instance(self._service.grants)
        except Trap as trap:
            return f"trapped: {trap}"
        self._run_count += 1
        if violates("third-run-not-fresh") and self._run_count == 3 and self._previous:
            instance.memory.cells.update(self._previous.memory.cells)
        self._previous = instance
        try:
            run = asyncio.ensure_future(self._service.program.run(instance))
            self._workload.settled.set()
            await run
        except Trap as trap:
            return f"trapped: {trap}"
        except GuestFailed as failure:
            return str(failure)
        except GuestExit as end:
            return "" if end.code == 0 else str(end)
        finally:
            instance.close()
        return None
