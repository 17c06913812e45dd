"""A scheduler for a directory of manifests: spreads the workloads over the fleet and keeps them running.

python scheduler.py --nats-url nats://127.0.0.1:4222 --manifests DIR

Each workload has its own task, so that a slow host does not delay other workloads. An ID is persisted before it
is started, and removed after its host has replied NOT_FOUND.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import berth
from berth import Health, WorkloadState
from intake import Directory, Manifest, ready_condition
from placement import Assignment, place

T = TypeVar("T")

SCAN_INTERVAL_S = 0.2
"""Interval between scans of the directory."""

RUNNING_POLL_S = 5.0
"""Interval between status requests for a running ID."""

RETRY_S = 1.0
"""Interval between status requests for an ID that is starting or unknown, and between stop requests."""

STOPPING_POLL_S = 0.3
"""Interval between status requests for a stopping ID; short, because a stop is usually quick."""

STARTING_TIMEOUT_S = 600.0
"""Maximum time in STARTING, which includes image pulls."""

BACKOFF_RESET_S = 60.0
"""Time that a workload must run before its next failure is retried without backoff."""

HOST_TIMEOUT_S = 40.0
"""Time after the start of this scheduler at which a host without a heartbeat is lost."""

TIMEOUTS = berth.Timeouts(stop_s=5.0)


class StartNotDeliveredError(Exception):
    """The start had no responders, so the ID was never used."""


class HostLostError(Exception):
    """The host of an ID that may have run is lost, or has sent no heartbeat to this process."""


@dataclass(frozen=True)
class Ended:
    """Reason why an incarnation ended."""

    message: str
    completed: bool = False


class Scheduler:
    def __init__(self, fleet: berth.Fleet, directory: Directory) -> None:
        self._fleet = fleet
        self._directory = directory
        self._wanted: dict[str, Manifest] = {}
        # Workload and host of each ID that may have run or will be started, and the message if it completed.
        # Persisted by the directory.
        self._ids: dict[str, dict[str, str]] = directory.load_ids()
        # IDs whose start has not been sent.
        self._unsent: set[str] = set()
        self._workload_tasks: dict[str, asyncio.Task[None]] = {}
        self._stop_tasks: dict[str, asyncio.Task[None]] = {}
        # Number of losses of each host, by which a task detects that its host was lost.
        self._losses: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._started_s = now_s()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_fleet())
            group.create_task(self._watch_directory(group))

    async def _watch_fleet(self) -> None:
        async for event in self._fleet:
            if isinstance(event, berth.HostLost):
                self._losses[event.host_id] += 1
            elif isinstance(event, berth.EventsMissed):
                # Restarts need no event: their IDs are NOT_FOUND.
                self._losses.update(host.id for host in self._fleet.hosts() if host.health is Health.LOST)
            self._notify()

    async def _watch_directory(self, group: asyncio.TaskGroup) -> None:
        while True:
            wanted = self._directory.manifests()
            if wanted != self._wanted:
                self._wanted = wanted
                self._notify()
            for key in {*wanted, *(entry["workload"] for entry in self._ids.values())}:
                if key not in self._workload_tasks:
                    self._workload_tasks[key] = group.create_task(self._reconcile(key))
            await asyncio.sleep(SCAN_INTERVAL_S)

    async def _reconcile(self, key: str) -> None:
        """Runs one workload until its manifest is deleted and all its IDs are stopped."""
        while (manifest := self._wanted.get(key)) is not None:
            await self._run_until_changed(key, manifest.spec(), self._run_workload(manifest))
            await self._stop_all(key)
        await self._stop_all(key)
        self._directory.remove_status(key)
        del self._workload_tasks[key]

    async def _run_workload(self, manifest: Manifest) -> None:
        """Runs one incarnation after another."""
        if manifest.error:
            await self._hold(manifest, "Refused", manifest.error)
        failures, avoid = 0, ""
        workload_id, may_have_run = self._adopt_id(manifest.key), True
        while True:
            if workload_id is None:
                workload_id, may_have_run = str(uuid.uuid4()), False
                await self._assign(manifest, avoid, workload_id)
            if "completed" in self._ids[workload_id]:
                await self._hold(manifest, "Completed", self._ids[workload_id]["completed"], workload_id)
            host_id, began_s = self._ids[workload_id]["host"], now_s()
            incarnation = self._run_incarnation(manifest, workload_id, may_have_run=may_have_run)
            try:
                ended = await self._run_until_lost(host_id, incarnation)
            except HostLostError:
                self._stop_in_background(workload_id)
                workload_id, ended = None, None
            except StartNotDeliveredError:
                self._forget(workload_id)
                workload_id = None
                failures, avoid, ended = failures + 1, host_id, Ended(f"no responders for host {host_id}")
            else:
                if ended is not None and ended.completed:
                    # A completed workload is not run again, even if its host is lost.
                    self._ids[workload_id]["completed"] = ended.message
                    self._directory.save_ids(self._ids)
                    may_have_run = True
                    continue
                # The ID may have run, so it is not used again. On a lost host, it is stopped after recovery.
                self._stop_in_background(workload_id)
                workload_id = None
                if ended is not None:
                    await self._stop_all(manifest.key)
                    failures, avoid = 0 if now_s() - began_s > BACKOFF_RESET_S else failures + 1, host_id
            message = f"host {host_id} was lost" if ended is None else ended.message
            self._write_status(manifest, "Ended", message)
            await asyncio.sleep(backoff_s(failures))

    def _adopt_id(self, key: str) -> str | None:
        """Returns an ID that an earlier process of this scheduler started and that is not being stopped."""
        ids = (
            workload_id
            for workload_id, entry in self._ids.items()
            if entry["workload"] == key and workload_id not in self._stop_tasks
        )
        return next(ids, None)

    async def _assign(self, manifest: Manifest, avoid: str, workload_id: str) -> None:
        """Waits for a feasible host, and persists the ID with its host before it is started."""
        while True:
            assigned = Counter(
                entry["host"] for other, entry in self._ids.items() if other not in self._stop_tasks
            )
            choice = place(manifest.constraints, self._fleet.hosts(), assigned, {avoid})
            if isinstance(choice, Assignment):
                self._ids[workload_id] = {"workload": manifest.key, "host": choice.host_id}
                self._unsent.add(workload_id)
                if self._directory.save_ids(self._ids):
                    return
                self._write_status(manifest, "Waiting", "cannot save the ID")
                await asyncio.sleep(RETRY_S)
                continue
            self._write_status(manifest, "Waiting", choice.reason)
            await self._changed.wait()

    async def _run_incarnation(self, manifest: Manifest, workload_id: str, *, may_have_run: bool) -> Ended:
        """Runs one incarnation from its start to its end."""
        host_id = self._ids[workload_id]["host"]
        client = self._fleet.client(host_id, TIMEOUTS)
        try:
            status = await self._start(client, manifest, workload_id, may_have_run=may_have_run)
        except berth.RefusedError as refused:
            return Ended(refused.message)
        deadline_s = now_s() + STARTING_TIMEOUT_S
        while True:
            match status.state:
                case WorkloadState.ERROR | WorkloadState.NOT_FOUND:
                    return Ended(f"{status.state.name} on host {host_id}: {status.message}")
                case WorkloadState.COMPLETED:
                    return Ended(f"completed on host {host_id}: {status.message}", completed=True)
                case WorkloadState.RUNNING:
                    self._write_status(manifest, "Running", f"running on host {host_id}", workload_id)
                case state:
                    message = f"{status.message} on host {host_id}"
                    self._write_status(manifest, state.name.title(), message, workload_id)
                    if now_s() > deadline_s:
                        return Ended(f"not running within {STARTING_TIMEOUT_S:g} s")
            await asyncio.sleep(RUNNING_POLL_S if status.state is WorkloadState.RUNNING else RETRY_S)
            try:
                status = await client.status(workload_id)
            except berth.ClientError:
                continue  # a single failed request proves nothing; the fleet reports lost hosts

    async def _start(
        self, client: berth.HostClient, manifest: Manifest, workload_id: str, *, may_have_run: bool
    ) -> berth.Status:
        """Starts the ID exactly once, even if replies are lost.

        Raises `RefusedError`, `StartNotDeliveredError` or `HostLostError`.
        """
        attempts = 0
        while True:
            attempts += 1
            try:
                if may_have_run:
                    # An earlier start had no reply, or a retry was refused: poll the status first.
                    status = await client.status(workload_id)
                    if status.state is not WorkloadState.NOT_FOUND:
                        return status
                self._unsent.discard(workload_id)
                with self._fleet.expect_busy(client.host_id, duration_s=60):
                    return await client.start(workload_id, manifest.workload)
            except berth.RefusedError as refused:
                if not may_have_run and refused.code != 409:
                    raise
                may_have_run = True
            except berth.NoRespondersError:
                if not may_have_run:
                    raise StartNotDeliveredError from None
                if self._is_host_lost(client.host_id):
                    raise HostLostError from None
                attempts = 0
            except berth.NotSentError as not_sent:
                if not may_have_run:
                    self._unsent.add(workload_id)
                if isinstance(not_sent, berth.RequestTooLargeError):
                    raise berth.RefusedError(None, WorkloadState.ERROR, str(not_sent)) from None
            except berth.ClientError:
                may_have_run = True
            # Linear backoff, so that a host with invalid responses does not get a burst of starts.
            await asyncio.sleep(RETRY_S * min(attempts, 10))

    def _stop_in_background(self, workload_id: str) -> None:
        if workload_id in self._ids and workload_id not in self._stop_tasks:
            self._stop_tasks[workload_id] = asyncio.create_task(self._stop(workload_id))

    async def _stop(self, workload_id: str) -> None:
        """Repeats the stop of an ID until its host replies NOT_FOUND; waits while the host is lost."""
        host_id = self._ids[workload_id]["host"]
        client = self._fleet.client(host_id, TIMEOUTS)
        state = None
        while workload_id not in self._unsent:
            if not self._is_host_lost(host_id):
                # STOPPING acknowledges the stop: poll the status from then on, unless the state changes.
                send = client.status if state is WorkloadState.STOPPING else client.stop
                try:
                    state = (await send(workload_id)).state
                except berth.ClientError:
                    state = None
                if state is WorkloadState.NOT_FOUND:
                    break
            await asyncio.sleep(STOPPING_POLL_S if state is WorkloadState.STOPPING else RETRY_S)
        self._forget(workload_id)

    async def _stop_all(self, key: str) -> None:
        """Stops all IDs of a workload, and waits for the IDs on hosts that are not lost."""
        while True:
            ids = [workload_id for workload_id, entry in self._ids.items() if entry["workload"] == key]
            for workload_id in ids:
                self._stop_in_background(workload_id)
            if all(self._is_host_lost(self._ids[workload_id]["host"]) for workload_id in ids):
                return
            await asyncio.sleep(SCAN_INTERVAL_S)

    def _is_host_lost(self, host_id: str) -> bool:
        host = self._fleet.host(host_id)
        if host is None:
            return now_s() - self._started_s > HOST_TIMEOUT_S
        return host.health is Health.LOST

    def _forget(self, workload_id: str) -> None:
        self._stop_tasks.pop(workload_id, None)
        self._unsent.discard(workload_id)
        del self._ids[workload_id]
        self._directory.save_ids(self._ids)

    def _write_status(self, manifest: Manifest, reason: str, message: str, workload_id: str = "") -> None:
        latest = self._wanted.get(manifest.key, manifest)
        if latest.error and latest.error != message:
            message = f"{message}; {latest.error}"
        host_id = self._ids.get(workload_id, {}).get("host", "")
        ready = ready_condition(reason in ("Running", "Completed"), reason, message)
        status = {"workloadId": workload_id, "hostId": host_id, "conditions": [ready]}
        self._directory.write_status(latest, status)

    async def _hold(self, manifest: Manifest, reason: str, message: str, workload_id: str = "") -> None:
        """Writes a final status and waits until this task is cancelled because the manifest changed."""
        self._write_status(manifest, reason, message, workload_id)
        await asyncio.Event().wait()

    def _notify(self) -> None:
        """Sets the current event and replaces it with a new one for the next change."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _run_until_changed(self, key: str, spec: object, work: Coroutine[None, None, None]) -> None:
        def is_changed() -> bool:
            latest = self._wanted.get(key)
            return latest is None or latest.spec() != spec

        await self._run_until(is_changed, work)

    async def _run_until_lost(self, host_id: str, work: Coroutine[None, None, T]) -> T | None:
        losses = self._losses[host_id]
        return await self._run_until(lambda: self._losses[host_id] > losses, work)

    async def _run_until(self, is_obsolete: Callable[[], bool], work: Coroutine[None, None, T]) -> T | None:
        """Returns the result of `work`; cancels it and returns `None` as soon as `is_obsolete` returns true."""
        task = asyncio.create_task(work)
        try:
            while not task.done():
                if is_obsolete():
                    return None
                changed = asyncio.create_task(self._changed.wait())
                await asyncio.wait({task, changed}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})


def now_s() -> float:
    return asyncio.get_running_loop().time()


def backoff_s(failures: int) -> float:
    """Returns 0 after the first failure, then an exponential backoff from 1 s to 60 s with jitter."""
    if failures <= 1:
        return 0.0
    step_s: float = min(2.0 ** min(failures - 2, 6), 60.0)
    return step_s * random.uniform(0.75, 1.0)


async def schedule(nats_url: str, manifests: Path) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        directory = Directory(manifests)
    except OSError as error:
        sys.exit(f"cannot use {error.filename}: {error.strerror}")
    try:
        async with berth.connect(nats_url, retry_on_failed_connect=True) as bus, berth.Fleet(bus) as fleet:
            await directory.lock()
            await Scheduler(fleet, directory).run()
    except asyncio.CancelledError:
        pass  # workloads continue to run, and the next process adopts their IDs


def main() -> None:
    parser = argparse.ArgumentParser(description="A scheduler for a directory of manifests")
    parser.add_argument(
        "--nats-url",
        "--nats",
        default=os.environ.get("BERTH_NATS_URL", "nats://127.0.0.1:4222"),
        help="NATS server URL [default: BERTH_NATS_URL or nats://127.0.0.1:4222]",
    )
    parser.add_argument("--manifests", type=Path, required=True, help="directory of manifests")
    options = parser.parse_args()
    asyncio.run(schedule(options.nats_url, options.manifests))


if __name__ == "__main__":
    main()
