"""The loop that compares objects, fleet and incarnations."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import codec
import identity
import manifests
import nats
import placement
import references
from directory import Directory
from drivers import Driver, Drivers
from fleet import Fleet, Host
from incarnation import START_TIMEOUT_S, Incarnation
from manifests import Key, Refused
from references import Missing
from render import Template, render
from replica import Replica
from replicaset import ReplicaSet
from status import StatusFiles, status_of
from store import Store
from violation import violates
from watch import Watch

TICK_S = 0.2
HEARTBEATS = "runtime.operator.heartbeat.*"


class Controller:
    """Holds the whole state of the scheduler."""

    def __init__(
        self, server: nats.Server, directory: Path, status: Path, store: Store, isolate: bool
    ) -> None:
        self.directory = Directory(directory)
        self.files = StatusFiles(status)
        self.store = store
        self.isolate = isolate
        self.connection = nats.Connection(server, HEARTBEATS, self._on_message, self._on_connection)
        self.fleet = Fleet()
        self.wake = asyncio.Event()
        self.watch = Watch(
            self.connection, self.fleet, store, self.wake, self._on_loss, self._on_host
        )
        self.objects: dict[Key, dict[str, Any]] = {}
        self.sets: dict[Key, ReplicaSet] = {}
        self._connections = 0
        # Objects that a violation ignores although they exist, or keeps although they do not.
        self._forgotten: set[Key] = set()
        self._kept: set[Key] = set()

    @property
    def drivers(self) -> Drivers:
        return self.watch.drivers

    async def run(self, ended: asyncio.Event) -> None:
        """Schedules until `ended` is set."""
        self._load()
        end = asyncio.create_task(self._end(ended))
        tasks: list[asyncio.Task[None]] = [
            asyncio.create_task(self.connection.run()),
            asyncio.create_task(self._tick()),
            asyncio.create_task(self._reconcile_when_woken()),
            end,
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            tasks += self.drivers.tasks()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _end(self, ended: asyncio.Event) -> None:
        """Returns when the scheduler has to end; its workloads keep running."""
        await ended.wait()
        if violates("sigterm-ignored-without-broker"):
            await self.connection.connected.wait()
        pending = [d.incarnation for d in self.drivers if d.incarnation.pending_since is not None]
        if violates("sigterm-waits-for-start-reply"):
            limit = nats.monotonic() + START_TIMEOUT_S
            while any(inc.pending_since for inc in pending) and nats.monotonic() < limit:
                await asyncio.sleep(TICK_S)
        if violates("sigterm-stops-starting-workloads"):
            starting = [d.incarnation for d in self.drivers if d.incarnation.state == "STARTING"]
            for inc in {*pending, *starting}:
                payload = codec.encode({"workloadId": inc.id})
                self.connection.request(codec.subject(inc.host, "workload.stop"), payload, 1.0)
            await asyncio.sleep(TICK_S)

    # State of an earlier process

    def _load(self) -> None:
        for host in self.store.hosts(nats.monotonic()):
            self.fleet.hosts[host.id] = host
        for key, manifest, good in self.store.objects():
            replica_set = self.sets.setdefault(key, ReplicaSet(key))
            replica_set.good = good
            self._accept(replica_set, manifest)
        replicas = self._load_replicas()
        for inc, uid in self.store.incarnations():
            self._load_incarnation(inc, replicas.get(uid))
        objects = self.directory.scan()
        if objects is None and not self.directory.path.is_dir():
            return  # A missing directory does not mean that every object was deleted.
        if violates("deployment-deleted-while-down-kept"):
            self._kept = {key for key in self.sets if key.kind != "Workload"} - set(objects or {})
        self._apply(objects or {})
        self._adopt_templates()
        self.files.remove_unknown(set(self.sets))

    def _load_replicas(self) -> dict[str, Replica]:
        replicas: dict[str, Replica] = {}
        for uid, kind, namespace, name, title, template, created, retiring in self.store.replicas():
            key = Key(kind, namespace, name)
            replica_set = self.sets.setdefault(key, ReplicaSet(key))
            replica = Replica(
                uid, key, title, Template.load(template), created, replica_set.starts_of(title)
            )
            replica.retiring, replica.adopted = bool(retiring), True
            replica_set.replicas.append(replica)
            replicas[uid] = replica
        return replicas

    def _load_incarnation(self, inc: Incarnation, replica: Replica | None) -> None:
        host = self.fleet.hosts.get(inc.host)
        orphaned = host is not None and host.lost and not inc.wanted
        if orphaned and violates("cleanup-record-lost-over-restart"):
            self.store.delete_incarnation(inc.id)
            return
        inc.unknown_after_restart()
        inc.ended = inc.state in ("COMPLETED", "ERROR")
        payload = b""
        if replica is not None:
            replica.incarnations.append(inc)
            payload = replica.template.start_payload(inc.id, replica.key.namespace, replica.name)
        self.drivers.run(self.drivers.add(inc, replica, payload))

    def _adopt_templates(self) -> None:
        for replica_set in self.sets.values():
            hashes = {replica.hash for replica in replica_set.replicas}
            adopts = violates("restart-adopts-all-as-new-template") or (
                len(hashes) == 1 and violates("change-while-down-not-rolled-out")
            )
            template = replica_set.template
            if template is None:
                continue
            if violates("last-good-forgotten-over-restart"):
                replica_set.good = template.hash
            for replica in replica_set.replicas:
                if adopts:
                    replica.template = replace(replica.template, hash=template.hash)

    # Objects

    def _apply(self, objects: dict[Key, dict[str, Any]]) -> None:
        previous, self.objects = self.objects, objects
        scheduled = {key for key in objects if key.kind in manifests.SCHEDULED_KINDS}
        scheduled = (scheduled | self._kept) - self._forgotten
        for key in scheduled & set(objects):
            replica_set = self.sets.setdefault(key, ReplicaSet(key))
            if previous.get(key) != objects[key] or replica_set.desired is None:
                self._accept(replica_set, objects[key])
        for key, replica_set in list(self.sets.items()):
            if key in scheduled:
                self._render(replica_set)
                continue
            if replica_set.desired is not None:
                self._stop_similar(key)
            replica_set.desired, replica_set.refusal, replica_set.missing = None, "", ""
            self.store.delete_object(key)

    def _stop_similar(self, deleted: Key) -> None:
        """Stops workloads that a violation confuses with a deleted one."""
        for key, replica_set in self.sets.items():
            similar = (
                (
                    violates("deletion-matches-name-prefix")
                    and key[:2] == deleted[:2]
                    and key.name.startswith(deleted.name)
                )
                or (violates("deletion-ignores-namespace") and key[::2] == deleted[::2])
                or (violates("deletion-ignores-kind") and key[1:] == deleted[1:])
            )
            if similar and key != deleted:
                for replica in replica_set.members:
                    self._retire(replica)

    def _retire(self, replica: Replica) -> None:
        """Retires a replica outside of a reconciliation, in a violation."""
        replica.retire(nats.monotonic(), False)
        for inc in replica.incarnations:
            self.drivers.save(inc)

    def _accept(self, replica_set: ReplicaSet, manifest: dict[str, Any]) -> None:
        """Replaces the desired state, unless the manifest is refused."""
        earlier = replica_set.desired
        if manifest == replica_set.manifest and earlier is not None:
            replica_set.refusal = ""
            return
        try:
            desired = manifests.read(replica_set.key, manifest, earlier)
            with contextlib.suppress(Missing):
                render(desired, self.objects)
        except Refused as refusal:
            replica_set.refusal = str(refusal)
            if "maxRestarts" in str(refusal) and violates("refused-change-stops-workload"):
                for replica in replica_set.members:
                    self._retire(replica)
                replica_set.desired = None
            return
        replica_set.refusal = ""
        if earlier is not None and desired.replicas != earlier.replicas:
            starting = any(
                inc.pending_since for r in replica_set.replicas for inc in r.incarnations
            )
            if starting and violates("change-during-growth-dropped"):
                return
        replica_set.desired, replica_set.manifest = desired, manifest
        self.store.put_object(replica_set.key, manifest, replica_set.good)

    def _render(self, replica_set: ReplicaSet) -> None:
        desired = replica_set.desired
        if desired is None:
            return
        try:
            replica_set.use(render(desired, self.objects))
            replica_set.missing = ""
        except (Missing, Refused) as reason:
            replica_set.missing = str(reason)
            replica_set.template = None
            needed = references.referenced(desired.spec)
            if violates("missing-object-not-named"):
                configs = [kind for kind, _ in needed if kind == "ConfigMap"]
                if len(configs) > 1:
                    replica_set.missing = "a configuration does not exist"
            namespace = desired.key.namespace
            replica_set.awaited |= {
                (kind, name) for kind, name in needed if (kind, namespace, name) not in self.objects
            }

    # Reconciliation

    async def _tick(self) -> None:
        while True:
            now = nats.monotonic()
            starting = any(driver.incarnation.pending_since for driver in self.drivers)
            reads = not (starting and violates("intake-not-read-during-start"))
            if reads and (objects := self.directory.scan()) is not None:
                self._apply(objects)
            connected = self.connection.connected.is_set()
            if connected or violates("failed-sends-count-as-no-responders"):
                self.watch.probe(now)
                self.watch.evaluate(now)
            if connected and violates("named-host-probed-unvalidated"):
                self.watch.probe_named(identity.named_hosts(self.objects), now)
            self.wake.set()
            await asyncio.sleep(TICK_S)

    async def _reconcile_when_woken(self) -> None:
        while True:
            await self.wake.wait()
            self.wake.clear()
            self._reconcile(nats.monotonic())
            # Combines the events of one moment into one reconciliation.
            await asyncio.sleep(0.01)

    def _reconcile(self, now: float) -> None:
        placed = Counter(
            driver.incarnation.host
            for driver in self.drivers
            if driver.incarnation.wanted and not driver.incarnation.ended and _is_spread(driver)
        )
        new: list[Driver] = []
        for replica_set in list(self.sets.values()):
            self._reconcile_set(replica_set, now)
            connected = self.connection.connected.is_set()
            if connected or violates("start-of-outage-sent-afterwards"):
                new += self._start_replicas(replica_set, placed, now)
        self.store.commit()
        for driver in new:
            self.drivers.run(driver)
        self._show()

    def _show(self) -> None:
        for key, replica_set in list(self.sets.items()):
            if replica_set.deleted:
                self.files.remove(key)
                del self.sets[key]
                continue
            waits = any(member.waiting for member in replica_set.members)
            if waits and not self.fleet.hosts and violates("no-waiting-status-without-hosts"):
                continue
            self.files.show(key, status_of(replica_set, self.fleet.hosts))

    def _reconcile_set(self, replica_set: ReplicaSet, now: float) -> None:
        wall_time = time.time()
        for replica in replica_set.replicas:
            before = replica.current
            if replica.observe(now, wall_time) and before is not None:
                self.drivers.save(before)
                if before.state == "ERROR" and violates("failure-restarts-replicas-on-host"):
                    self._restart_others(replica_set, before)
            for inc in [inc for inc in replica.incarnations if inc.gone and not inc.wanted]:
                replica.incarnations.remove(inc)
                self.drivers.forget(inc)
        good = replica_set.good
        changes = replica_set.reconcile(self.fleet.hosts, now, wall_time)
        for replica in changes.created:
            if len(replica_set.awaited) > 1 and violates("two-created-objects-start-twice"):
                replica.extra_starts = len(replica_set.awaited) - 1
            replica_set.awaited.clear()
            self.store.put_replica(replica)
        for replica in changes.retired:
            self.store.put_replica(replica)
            for inc in replica.incarnations:
                self.drivers.save(inc)
        for replica in changes.removed:
            self.store.delete_replica(replica.uid)
            for inc in replica.incarnations:
                self.drivers.orphan(inc)
        if replica_set.good != good and replica_set.desired is not None:
            self.store.put_object(replica_set.key, replica_set.manifest, replica_set.good)

    def _restart_others(self, replica_set: ReplicaSet, failed: Incarnation) -> None:
        for replica in replica_set.replicas:
            current = replica.current
            if current is not None and current.host == failed.host:
                current.wanted = False
                self.drivers.save(current)

    def _start_replicas(
        self, replica_set: ReplicaSet, placed: Counter[str], now: float
    ) -> list[Driver]:
        drivers = []
        siblings = Counter(
            member.current.host
            for member in replica_set.members
            if member.current is not None
            and (
                member.current.state == "RUNNING"
                or not violates("spread-ignores-replicas-starting")
            )
        )
        for replica in replica_set.startable:
            if not self._may_start(replica_set, replica, now):
                continue
            host = self._choose(replica_set, replica, siblings, placed, now)
            if host is None:
                continue
            driver = self._assign(replica_set, replica, host)
            if driver is None:
                continue
            drivers.append(driver)
            if not violates("spread-ignores-replicas-starting"):
                siblings[host.id] += 1
                placed[host.id] += 1
        return drivers

    def _may_start(self, replica_set: ReplicaSet, replica: Replica, now: float) -> bool:
        current = replica.current
        if current is not None and not self._may_start_twice(replica, current):
            return False
        if replica_set.missing and replica_set.template is None:
            return False
        if now < replica.not_before or not replica.may_send_start(now):
            return False
        unchanged = replica.waiting and replica.waited_at_arrival == self.fleet.arrivals
        if unchanged and violates("changed-labels-do-not-end-waiting"):
            return False
        return current is not None or replica.may_restart(self.fleet.hosts, replica_set.fenced, now)

    def _may_start_twice(self, replica: Replica, current: Incarnation) -> bool:
        if replica.extra_starts > 0:
            replica.extra_starts -= 1
            return True
        if not violates("two-hosts-joining-get-two-starts") or current.pending_since is None:
            return False
        if len(replica.incarnations) > 1 or replica.waited_at_arrival < 0:
            return False
        return self.fleet.arrivals > replica.waited_at_arrival + 1

    def _choose(
        self,
        replica_set: ReplicaSet,
        replica: Replica,
        siblings: Counter[str],
        placed: Counter[str],
        now: float,
    ) -> Host | None:
        hosts = list(self.fleet.hosts.values())
        environment = replica_set.key.namespace if self.isolate else ""
        template = replica.template
        since = replica.waiting_since
        if since is not None and now - since > 10.0 and violates("waiting-10-s-drops-interfaces"):
            template = replace(template, interfaces=())
        if replica.current is not None and violates("two-hosts-joining-get-two-starts"):
            hosts = [host for host in hosts if host.id != replica.current.host]
        host = placement.choose(
            template, hosts, environment, replica.failed_hosts, siblings, placed
        )
        if host is None:
            replica.waiting = placement.explain(template, hosts, environment)
            replica.waiting_since = since or now
            replica.waited_at_arrival = self.fleet.arrivals
            return None
        if replica.waiting and violates("new-host-starts-one-waiting-workload"):
            if not host.credit:
                return None
            host.credit -= 1
        return host

    def _assign(self, replica_set: ReplicaSet, replica: Replica, host: Host) -> Driver | None:
        workload_id = identity.new_id(replica_set, replica, host)
        payload = replica.template.start_payload(workload_id, replica.key.namespace, replica.name)
        size = len(payload)
        if violates("payload-measured-in-characters"):
            size = len(payload.decode())
        if size > self.connection.max_payload:
            replica.waiting = (
                f"cannot be started: a start of {size} bytes exceeds the maximum payload"
                f" of the broker, {self.connection.max_payload} bytes"
            )
            if violates("oversized-start-without-message"):
                replica.waiting = "waiting for the reply of the host"
            return None
        if replica.revived:
            replica.revived = False
        replica.release_held(except_host=host.id)
        replica.waiting, replica.waiting_since = "", None
        inc = Incarnation(workload_id, host.id, host.heartbeat.process)
        replica.incarnations.append(inc)
        if not violates("id-saved-after-start-reply"):
            self.store.put_incarnation(inc, replica.uid)
        return self.drivers.add(inc, replica, payload)

    # Events

    def _on_message(self, subject: str, payload: bytes) -> None:
        self.watch.on_message(subject, payload)

    def _on_loss(self, host: Host) -> None:
        if not violates("loss-drops-workloads-naming-the-host"):
            return
        for key, replica_set in self.sets.items():
            if any(r.template.host_id == host.id for r in replica_set.replicas):
                replica_set.desired = None
                self._forgotten.add(key)

    def _on_host(self, event: str, host: Host) -> None:
        if violates("each-heartbeat-resets-backoff"):
            for replica_set in self.sets.values():
                for replica in replica_set.replicas:
                    replica.not_before = 0.0
            self.wake.set()
        empty = event == "new" and not host.heartbeat.workloads
        if empty and violates("joining-host-gets-a-running-replica"):
            for replica_set in self.sets.values():
                self._move_replica(replica_set, host)

    def _move_replica(self, replica_set: ReplicaSet, host: Host) -> None:
        for replica in replica_set.members:
            if replica.ready and placement.misfit(replica.template, host, "") is None:
                self._retire(replica)
                return

    def _on_connection(self, connected: bool) -> None:
        now = nats.monotonic()
        if connected:
            self.fleet.connect(now, self._connections > 0)
            self._connections += 1
            if violates("asks-for-heartbeats-on-bus"):
                self.connection.publish("runtime.operator.heartbeat.request", b"")
            self.drivers.connect()
        else:
            self.fleet.disconnect(now)
            self.drivers.disconnect(now)
        self.wake.set()


def _is_spread(driver: Driver) -> bool:
    """Returns whether an incarnation counts when workloads are spread."""
    if violates("spread-ignores-replicas-starting"):
        return driver.incarnation.state == "RUNNING"
    return True
