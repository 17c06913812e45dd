"""A scheduler for a directory of manifests: starts them on the fleet, spread out, and keeps them running.

python scheduler.py --nats nats://127.0.0.1:4222 --manifests DIR

Each workload has a task of its own, so that nothing a host does delays another one. Each id is written down
before it is started, and forgotten when its host has said NOT_FOUND.
"""

import argparse
import asyncio
import os
import random
import signal
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import berth
from berth import Health, WorkloadState
from intake import Directory, Manifest, condition
from placement import Placed, place

T = TypeVar("T")

LOOK_S = 0.2
"""How often the directory is looked at."""

POLL_S = 5.0
"""How often each id that runs is asked for."""

ASK_AGAIN_S = 1.0
"""Between two questions about an id that is starting, or of which nothing is known, and between two stops."""

ENDING_S = 0.3
"""Between two questions about an id that is stopping: the end takes moments."""

STARTING_PATIENCE_S = 600.0
"""How long an id may be STARTING: pulls take their time."""

HEALTHY_S = 60.0
"""A workload that ran this long and ends is started anew at once."""

UNKNOWN_S = 40.0
"""A host that was not heard of for so long after our own start is lost."""

TIMEOUTS = berth.Timeouts(stop_s=5.0)


class NobodyListened(Exception):
    """The start reached nobody: the id is as good as new."""


class HostIsAway(Exception):
    """An id was adopted whose host has not been heard of since."""


@dataclass(frozen=True)
class Ended:
    """Why an incarnation is over."""

    message: str
    completed: bool = False


class Scheduler:
    def __init__(self, fleet: berth.Fleet, directory: Directory) -> None:
        self._fleet = fleet
        self._directory = directory
        self._wanted: dict[str, Manifest] = {}
        # Every id that may run: for which workload, on which host. It is written down.
        self._ids: dict[str, dict[str, str]] = directory.remembered()
        # Those of them whose start has not left yet.
        self._unsent: set[str] = set()
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._enders: dict[str, asyncio.Task[None]] = {}
        self._losses: Counter[str] = Counter()
        self._news = asyncio.Event()
        self._began_s = now_s()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_the_fleet())
            group.create_task(self._follow_the_directory(group))

    async def _follow_the_fleet(self) -> None:
        async for event in self._fleet:
            if isinstance(event, berth.Lost):
                self._losses[event.host_id] += 1
            self._tell()

    async def _follow_the_directory(self, group: asyncio.TaskGroup) -> None:
        while True:
            wanted = self._directory.manifests()
            if wanted != self._wanted:
                self._wanted = wanted
                self._tell()
            for key in {*wanted, *(at["for"] for at in self._ids.values())}:
                if key not in self._keepers:
                    self._keepers[key] = group.create_task(self._keep(key))
            await asyncio.sleep(LOOK_S)

    async def _keep(self, key: str) -> None:
        """One workload, from the first sight of its manifest until it is deleted and gone."""
        while (manifest := self._wanted.get(key)) is not None:
            await self._unless_changed(key, manifest.asks_for(), self._live(manifest))
            await self._end_all(key)
        await self._end_all(key)
        self._directory.gone(key)
        del self._keepers[key]

    async def _live(self, manifest: Manifest) -> None:
        """One incarnation after the other."""
        if manifest.refused:
            await self._for_good(manifest, "Refused", manifest.refused)
        failures, avoid = 0, ""
        workload_id, begun = self._adopted(manifest.key), True
        while True:
            if workload_id is None or not begun:
                workload_id, begun = workload_id or str(uuid.uuid4()), False
                await self._place(manifest, avoid, workload_id)
            if "completed" in self._ids[workload_id]:
                await self._for_good(manifest, "Completed", self._ids[workload_id]["completed"], workload_id)
            host_id, began_s = self._ids[workload_id]["host"], now_s()
            try:
                ended = await self._unless_lost(host_id, self._incarnation(manifest, workload_id, begun=begun))
            except HostIsAway:
                self._end_soon(workload_id)
                workload_id, ended = None, None
            except NobodyListened:
                self._forget(workload_id)
                failures, avoid, ended = failures + 1, host_id, Ended(f"nobody listens on host {host_id}")
            else:
                if ended is not None and ended.completed:
                    # It is not run again, whatever becomes of its host.
                    self._ids[workload_id]["completed"] = ended.message
                    self._directory.remember(self._ids)
                    begun = True
                    continue
                # It may have run: the id is used up. On a lost host it is stopped as soon as that returns.
                self._end_soon(workload_id)
                workload_id = None
                if ended is not None:
                    await self._end_all(manifest.key)
                    failures, avoid = 0 if now_s() - began_s > HEALTHY_S else failures + 1, host_id
            self._show(manifest, "Ended", f"host {host_id} was lost" if ended is None else ended.message)
            await asyncio.sleep(backoff_s(failures))

    def _adopted(self, key: str) -> str | None:
        """An id that an earlier process of this scheduler has started, and that nobody is stopping."""
        mine = (known for known, at in self._ids.items() if at["for"] == key and known not in self._enders)
        return next(mine, None)

    async def _place(self, manifest: Manifest, avoid: str, workload_id: str) -> None:
        """Waits for a host that fits, and writes down what is about to be started there."""
        while True:
            placed = Counter(at["host"] for known, at in self._ids.items() if known not in self._enders)
            choice = place(manifest.conditions, self._fleet.hosts(), placed, {avoid})
            if isinstance(choice, Placed):
                self._ids[workload_id] = {"for": manifest.key, "host": choice.host_id}
                self._unsent.add(workload_id)
                self._directory.remember(self._ids)
                return
            self._show(manifest, "Waiting", choice.reason)
            await self._news.wait()

    async def _incarnation(self, manifest: Manifest, workload_id: str, *, begun: bool) -> Ended:
        """One life of it, from the start to the reason why it ended."""
        host_id = self._ids[workload_id]["host"]
        client = self._fleet.client(host_id, TIMEOUTS)
        try:
            status = await self._begin(client, manifest, workload_id, begun=begun)
        except berth.Refused as refused:
            return Ended(refused.message)
        deadline_s = now_s() + STARTING_PATIENCE_S
        while True:
            match status.state:
                case WorkloadState.ERROR | WorkloadState.NOT_FOUND:
                    return Ended(f"{status.state.name} on host {host_id}: {status.message}")
                case WorkloadState.COMPLETED:
                    return Ended(f"completed on host {host_id}: {status.message}", completed=True)
                case WorkloadState.RUNNING:
                    self._show(manifest, "Running", f"runs on host {host_id}", workload_id)
                case state:
                    self._show(manifest, state.name.title(), f"{status.message} on host {host_id}", workload_id)
                    if now_s() > deadline_s:
                        return Ended(f"it did not come up within {STARTING_PATIENCE_S:g} s")
            await asyncio.sleep(POLL_S if status.state is WorkloadState.RUNNING else ASK_AGAIN_S)
            try:
                status = await client.status(workload_id)
            except berth.ClientError:
                continue  # one question without an answer says nothing; of a lost host the fleet tells

    async def _begin(
        self, client: berth.HostClient, manifest: Manifest, workload_id: str, *, begun: bool
    ) -> berth.Status:
        """Starts it, once, whatever becomes of the answer.

        Raises `Refused`, `NobodyListened` or `HostIsAway`.
        """
        attempts = 0
        while True:
            attempts += 1
            try:
                if begun:
                    # There was no answer, or a refusal that says nothing of the first attempt: ask.
                    status = await client.status(workload_id)
                    if status.state is not WorkloadState.NOT_FOUND:
                        return status
                self._unsent.discard(workload_id)
                with self._fleet.expect_busy(client.host_id, for_s=60):
                    return await client.start(workload_id, manifest.workload)
            except berth.Refused as refused:
                if not begun and refused.code != 409:
                    raise
                begun = True
            except berth.NoResponders:
                if not begun:
                    raise NobodyListened from None
                if self._is_away(client.host_id):
                    raise HostIsAway from None
                attempts = 0
            except berth.NotSent as not_sent:
                if not begun:
                    self._unsent.add(workload_id)
                if isinstance(not_sent, berth.TooLarge):
                    raise berth.Refused(None, WorkloadState.ERROR, str(not_sent)) from None
            except berth.ClientError:
                begun = True
            # Ever more slowly, so that a host that answers nonsense is not sent one start after the other.
            await asyncio.sleep(ASK_AGAIN_S * min(attempts, 10))

    def _end_soon(self, workload_id: str) -> None:
        if workload_id in self._ids and workload_id not in self._enders:
            self._enders[workload_id] = asyncio.create_task(self._end(workload_id))

    async def _end(self, workload_id: str) -> None:
        """Stops an id until its host says that it is not there, however long that host is away."""
        host_id = self._ids[workload_id]["host"]
        client = self._fleet.client(host_id, TIMEOUTS)
        said = None
        while workload_id not in self._unsent:
            if not self._is_away(host_id):
                # STOPPING acknowledges: from then on it is enough to ask, unless the host says something else.
                ask = client.status if said is WorkloadState.STOPPING else client.stop
                try:
                    said = (await ask(workload_id)).state
                except berth.ClientError:
                    said = None
                if said is WorkloadState.NOT_FOUND:
                    break
            await asyncio.sleep(ENDING_S if said is WorkloadState.STOPPING else ASK_AGAIN_S)
        self._forget(workload_id)

    async def _end_all(self, key: str) -> None:
        """Stops what a workload has; waits for hosts that are there, and for no others."""
        while True:
            mine = [workload_id for workload_id, at in self._ids.items() if at["for"] == key]
            for workload_id in mine:
                self._end_soon(workload_id)
            if all(self._is_away(self._ids[workload_id]["host"]) for workload_id in mine):
                return
            await asyncio.sleep(LOOK_S)

    def _is_away(self, host_id: str) -> bool:
        host = self._fleet.host(host_id)
        if host is None:
            return now_s() - self._began_s > UNKNOWN_S
        return host.health is Health.LOST

    def _forget(self, workload_id: str) -> None:
        self._enders.pop(workload_id, None)
        self._unsent.discard(workload_id)
        del self._ids[workload_id]
        self._directory.remember(self._ids)

    def _show(self, manifest: Manifest, reason: str, message: str, workload_id: str = "") -> None:
        now = self._wanted.get(manifest.key, manifest)
        if now.refused and now.refused != message:
            message = f"{message}; {now.refused}"
        host_id = self._ids.get(workload_id, {}).get("host", "")
        ready = condition(reason in ("Running", "Completed"), reason, message)
        self._directory.tell(now, {"workloadId": workload_id, "hostId": host_id, "conditions": [ready]})

    async def _for_good(self, manifest: Manifest, reason: str, message: str, workload_id: str = "") -> None:
        """Nothing more happens to it, until another manifest takes its place."""
        self._show(manifest, reason, message, workload_id)
        await asyncio.Event().wait()

    def _tell(self) -> None:
        """Replaces the event, so that everybody waits for the next change."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _unless_changed(self, key: str, asked_for: object, work: Coroutine[None, None, None]) -> None:
        def is_changed() -> bool:
            now = self._wanted.get(key)
            return now is None or now.asks_for() != asked_for

        await self._unless(is_changed, work)

    async def _unless_lost(self, host_id: str, work: Coroutine[None, None, T]) -> T | None:
        losses = self._losses[host_id]
        return await self._unless(lambda: self._losses[host_id] > losses, work)

    async def _unless(self, over: Callable[[], bool], work: Coroutine[None, None, T]) -> T | None:
        """What comes of the work, or nothing when it has become pointless: then it is cancelled."""
        task = asyncio.create_task(work)
        try:
            while not task.done():
                if over():
                    return None
                news = asyncio.create_task(self._news.wait())
                await asyncio.wait({task, news}, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})


def now_s() -> float:
    return asyncio.get_running_loop().time()


def backoff_s(failures: int) -> float:
    """At once after the first, then from 1 s by doubling to a minute, with jitter."""
    if failures <= 1:
        return 0.0
    step_s: float = min(2.0 ** min(failures - 2, 6), 60.0)
    return step_s * random.uniform(0.75, 1.0)


async def schedule(nats_url: str, manifests: Path) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    directory = Directory(manifests)
    try:
        async with berth.connect(nats_url, eventually=True) as bus, berth.Fleet(bus) as fleet:
            await directory.own()
            await Scheduler(fleet, directory).run()
    except asyncio.CancelledError:
        pass  # what runs goes on running, and is found again by what is written down


def main() -> None:
    arguments = argparse.ArgumentParser(description="a scheduler for a directory of manifests")
    arguments.add_argument("--nats", default=os.environ.get("BERTH_NATS_URL", "nats://127.0.0.1:4222"))
    arguments.add_argument("--manifests", type=Path, required=True)
    given = arguments.parse_args()
    asyncio.run(schedule(given.nats, given.manifests))


if __name__ == "__main__":
    main()
