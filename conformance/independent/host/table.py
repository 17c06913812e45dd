"""The table of the host from workload ids to workloads."""

import asyncio
import time
from collections import OrderedDict

from codec import Message
from violation import note_now, notes, violates, within
from workload import COMPLETED, ERROR, STARTING, STOPPING, Environment, Workload

MAX_WORKLOADS = 10_000  # ids that are not in ERROR or COMPLETED; each costs a few kilobytes
MAX_ENDED = 2_000  # HOST-START-016, HOST-SVC-018: the oldest ids in ERROR or COMPLETED are forgotten


class IdTaken(Exception):  # noqa: N818 - an outcome of a request
    """A start for an id that is known."""

    def __init__(self, holder: Workload) -> None:
        """Stores the workload that holds the id."""
        super().__init__()
        self.holder = holder


class TableFull(Exception):  # noqa: N818 - an outcome of a request
    """A start beyond the limit of the host."""


class Table:
    """Workloads by id, from the claim of the id until it is free again."""

    def __init__(self, environment: Environment) -> None:
        """Creates an empty table."""
        self._environment = environment
        self._workloads: OrderedDict[str, Workload] = OrderedDict()
        environment.peers = self._workloads.values

    def start(self, workload_id: str, spec: Message) -> Workload:
        """HOST-START-003: claims the id before any other work."""
        holder = self.get(workload_id)
        if holder and not self._may_start_again(holder):
            raise IdTaken(holder)
        if violates("status-claims-unknown-id") and notes.get(workload_id) == "claimed":
            raise IdTaken(Workload(workload_id, spec, self._environment))
        if violates("id-locked-after-stop") and within(workload_id, 3):
            raise IdTaken(Workload(workload_id, spec, self._environment))
        if violates("retry-uses-first-content") and holder:
            spec = holder.spec
        self._workloads.pop(_key(workload_id), None)
        self._forget_oldest()
        if len(self._workloads) >= MAX_WORKLOADS + MAX_ENDED:
            raise TableFull
        workload = Workload(workload_id, spec, self._environment)
        self._workloads[_key(workload_id)] = workload
        if holder:
            workload.attempt = holder.attempt + 1
            workload.first_reason = holder.first_reason or holder.message
        workload.begin(holder.ending if holder else None)
        if violates("cancel-flag-kept") and notes.pop(("canceled", workload_id), None):
            self.stop(workload_id)
        return workload

    def _may_start_again(self, holder: Workload) -> bool:
        """HOST-START-017: an id in ERROR is free while no guest code has run."""
        if violates("start-while-stopping-accepted") and holder.state == STOPPING:
            return True
        if violates("reported-completed-starts-again") and holder.completion_was_reported:
            return True
        if violates("restart-of-failed-id-races") and holder.attempt == 2 and not holder.settled.is_set():
            return True
        if violates("second-retry-refused") and holder.attempt >= 2:
            return False
        return holder.state == ERROR and not holder.ran_guest_code

    def _forget_oldest(self) -> None:
        ended = [key for key, item in self._workloads.items() if item.state in (ERROR, COMPLETED)]
        for forgotten in ended[: max(0, len(ended) - MAX_ENDED + 1)]:
            del self._workloads[forgotten]

    def add_failed(self, workload_id: str, message: str) -> None:
        """Adds an id in the state ERROR, for violations that claim ids of refused requests."""
        workload = Workload(workload_id, {"service": None}, self._environment)
        workload.state, workload.message = ERROR, message
        workload.settled.set()
        self._workloads[_key(workload_id)] = workload

    def get(self, workload_id: str) -> Workload | None:
        """Returns the workload that holds an id."""
        workload = self._workloads.get(_key(workload_id))
        if workload and self._is_forgotten(workload):
            del self._workloads[_key(workload_id)]
            return None
        return workload

    def _is_forgotten(self, workload: Workload) -> bool:
        """Tells whether a violation forgets an id that has ended."""
        failed_start = workload.state == ERROR and not workload.ran_guest_code
        if violates("only-50-failed-ids-kept") and failed_start:
            failed = [
                item for item in self._workloads.values() if item.state == ERROR and not item.ran_guest_code
            ]
            return workload not in failed[-50:]
        if violates("completed-forgotten-after-8-s") and workload.state == COMPLETED:
            return time.monotonic() - workload.ended_at > 8
        return failed_start and workload.is_forgotten_on_failure

    def reported(self, workload: Workload) -> None:
        """Notes that a status reply has reported the state of a workload."""
        if workload.state == COMPLETED:
            workload.completion_was_reported = True
        if violates("failed-start-reported-once") and workload.state == ERROR and not workload.ran_guest_code:
            self._free(workload)

    def reconnected(self) -> None:
        """Forgets ids that have ended, for a violation."""
        if violates("ended-ids-lost-on-reconnect"):
            for workload in list(self._workloads.values()):
                if workload.state == COMPLETED or (workload.state == ERROR and workload.ran_guest_code):
                    self._free(workload)

    def stop(self, workload_id: str) -> Workload | None:
        """Stops a workload, and frees its id when it has ended."""
        for other in list(self._workloads.values()):
            same = violates("stop-ignores-case") and other.id.casefold() == workload_id.casefold()
            prefixed = violates("stop-by-prefix") and other.id.startswith(f"{workload_id}-")
            if (same or prefixed) and other.id != workload_id:
                self._stop(other)
        workload = self.get(workload_id)
        if workload:
            self._stop(workload)
        return workload

    def _stop(self, workload: Workload) -> None:
        if violates("cancel-flag-kept") and workload.state == STARTING and not workload.settled.is_set():
            notes["canceled", workload.id] = True
        if violates("completed-needs-two-stops") and workload.state == COMPLETED:
            workload.state = STOPPING
            return
        if violates("stop-of-failed-start-keeps-it") and "reference is malformed" in workload.message:
            return
        if violates("stopped-start-becomes-running") and not workload.settled.is_set():
            workload.on_running = lambda: self._workloads.setdefault(_key(workload.id), workload)
        workload.stop().add_done_callback(lambda _: self._free(workload))
        if workload.outlives_stop:
            self._free(workload)

    def _free(self, workload: Workload) -> None:
        if self._workloads.get(_key(workload.id)) is workload:
            del self._workloads[_key(workload.id)]
            if violates("id-locked-after-stop"):
                note_now(workload.id)

    async def stop_all(self, seconds: float) -> None:
        """HOST-DOWN-005: stops all workloads concurrently."""
        endings = {workload.stop() for workload in self._workloads.values()}
        if endings:
            await asyncio.wait(endings, timeout=seconds)

    def starting(self) -> list[Workload]:
        """Returns the workloads whose start is in progress."""
        return [item for item in self._workloads.values() if not item.settled.is_set()]

    def has_error(self) -> bool:
        """Tells whether an id is in the state ERROR."""
        return any(item.state == ERROR for item in self._workloads.values())

    def names_running(self, workload_id: str, spec: Message) -> bool:
        """Tells whether a workload with the same namespace and name runs under another id."""
        identity = (spec["namespace"], spec["name"])
        return bool(spec["name"]) and any(
            item.counted and item.id != workload_id and identity == (item.spec["namespace"], item.spec["name"])
            for item in self._workloads.values()
        )

    def running(self) -> list[Workload]:
        """HOST-BEAT-009: returns the workloads that run, including those between two runs of a service."""
        return [workload for workload in self._workloads.values() if workload.counted]

    def count(self) -> int:
        """Returns the number of running workloads as the heartbeat reports it."""
        running = self.running()
        if violates("empty-workload-not-counted"):
            running = [workload for workload in running if not workload.is_empty()]
        total = len(running) - int(notes.get("count offset", 0))
        if violates("restart-increments-count"):
            total += sum(workload.restarts for workload in running)
        return max(0, total)


def _key(workload_id: str) -> str:
    return workload_id[:64] if violates("id-compared-by-first-64-chars") else workload_id
