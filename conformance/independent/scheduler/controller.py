"""The loop that compares objects, fleet and incarnations, and sends commands."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import codec
import manifests
import nats
import placement
from directory import Directory
from fleet import BUSY_START_S, SILENCE_S, Fleet, Host
from incarnation import START_TIMEOUT_S, Incarnation
from manifests import Key, Refused
from references import Missing
from render import Template, render
from replica import Replica
from replicaset import ReplicaSet
from status import StatusFiles, status_of
from store import Store

LOG = logging.getLogger("scheduler")

TICK_S = 0.2
REQUEST_TIMEOUT_S = 10.0
HEARTBEATS = "runtime.operator.heartbeat.*"
# A forged heartbeat must not fill the log.
LOG_INTERVAL_S = 10.0


@dataclass(eq=False)
class Driver:
    """The task that sends the commands of one incarnation."""

    incarnation: Incarnation
    # None for an orphan: an id on a lost host that no replica refers to any more.
    replica: Replica | None
    payload: bytes
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


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
        self.objects: dict[Key, dict[str, Any]] = {}
        self.sets: dict[Key, ReplicaSet] = {}
        self.drivers: dict[str, Driver] = {}
        self.wake = asyncio.Event()
        self._connections = 0
        self._next_log = 0.0
        self._probe_id = f"probe-{secrets.token_hex(8)}"

    async def run(self, ended: asyncio.Event) -> None:
        """Schedules until `ended` is set."""
        self._load()
        tasks = [asyncio.create_task(self.connection.run()), asyncio.create_task(self._tick())]
        loop = asyncio.create_task(self._reconcile_when_woken())
        end = asyncio.create_task(ended.wait())
        tasks += [loop, end]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {end}:
                task.result()
        finally:
            tasks += [driver.task for driver in self.drivers.values() if driver.task]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # State of an earlier process

    def _load(self) -> None:
        now = nats.monotonic()
        for host in self.store.hosts(now):
            self.fleet.hosts[host.id] = host
        for key, manifest, good in self.store.objects():
            replica_set = self.sets.setdefault(key, ReplicaSet(key))
            replica_set.good = good
            self._accept(replica_set, manifest)
        replicas: dict[str, Replica] = {}
        for uid, kind, namespace, name, title, template, created, retiring in self.store.replicas():
            key = Key(kind, namespace, name)
            replica_set = self.sets.setdefault(key, ReplicaSet(key))
            replica = Replica(
                uid, key, title, Template.load(template), created, replica_set.starts_of(title)
            )
            replica.retiring = bool(retiring)
            replica_set.replicas.append(replica)
            replicas[uid] = replica
        for inc, uid in self.store.incarnations():
            inc.unknown_after_restart()
            inc.ended = inc.state in ("COMPLETED", "ERROR")
            replica = replicas.get(uid)
            if replica is not None:
                replica.incarnations.append(inc)
            self._drive(inc, replica)
        objects = self.directory.scan()
        if objects is None and not self.directory.path.is_dir():
            return  # A missing directory does not mean that every object was deleted.
        self._apply(objects or {})
        self.files.remove_unknown(set(self.sets))

    # Objects

    def _apply(self, objects: dict[Key, dict[str, Any]]) -> None:
        previous, self.objects = self.objects, objects
        scheduled = {key for key in objects if key.kind in manifests.SCHEDULED_KINDS}
        for key in scheduled:
            replica_set = self.sets.setdefault(key, ReplicaSet(key))
            if previous.get(key) != objects[key] or replica_set.desired is None:
                self._accept(replica_set, objects[key])
        for key, replica_set in self.sets.items():
            if key not in scheduled:
                replica_set.desired, replica_set.refusal, replica_set.missing = None, "", ""
                self.store.delete_object(key)
            else:
                self._render(replica_set)

    def _accept(self, replica_set: ReplicaSet, manifest: dict[str, Any]) -> None:
        """Replaces the desired state, unless the manifest is refused."""
        if manifest == replica_set.manifest and replica_set.desired is not None:
            replica_set.refusal = ""
            return
        try:
            desired = manifests.read(replica_set.key, manifest)
            try:
                render(desired, self.objects)
            except Missing:
                pass
        except Refused as refusal:
            replica_set.refusal = str(refusal)
            return
        replica_set.refusal = ""
        replica_set.desired, replica_set.manifest = desired, manifest
        self.store.put_object(replica_set.key, manifest, replica_set.good)

    def _render(self, replica_set: ReplicaSet) -> None:
        if replica_set.desired is None:
            return
        try:
            replica_set.template = render(replica_set.desired, self.objects)
            replica_set.missing = ""
        except (Missing, Refused) as reason:
            replica_set.missing = str(reason)
            replica_set.template = None

    # Reconciliation

    async def _tick(self) -> None:
        while True:
            now = nats.monotonic()
            if (objects := self.directory.scan()) is not None:
                self._apply(objects)
            if self.connection.connected.is_set():
                self._probe(now)
                self._evaluate(now)
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
            for driver in self.drivers.values()
            if driver.incarnation.wanted and not driver.incarnation.ended
        )
        new: list[Driver] = []
        for key in list(self.sets):
            replica_set = self.sets[key]
            self._reconcile_set(replica_set, now)
            if self.connection.connected.is_set():
                new += self._start_replicas(replica_set, placed, now)
        self.store.commit()
        for driver in new:
            driver.task = asyncio.create_task(self._drive_to_end(driver))
        for key in list(self.sets):
            replica_set = self.sets[key]
            if replica_set.deleted:
                self.files.remove(key)
                del self.sets[key]
            else:
                self.files.show(key, status_of(replica_set, self.fleet.hosts))

    def _reconcile_set(self, replica_set: ReplicaSet, now: float) -> None:
        for replica in replica_set.replicas:
            before = replica.current
            if replica.observe(now) and before is not None:
                self._save(before)
            for inc in [inc for inc in replica.incarnations if inc.gone and not inc.wanted]:
                replica.incarnations.remove(inc)
                self._forget(inc)
        good = replica_set.good
        changes = replica_set.reconcile(self.fleet.hosts, now, time.time())
        for replica in changes.created:
            self.store.put_replica(replica)
        for replica in changes.retired:
            self.store.put_replica(replica)
            for inc in replica.incarnations:
                self._save(inc)
        for replica in changes.removed:
            self.store.delete_replica(replica.uid)
            for inc in replica.incarnations:
                self._orphan(inc)
        if replica_set.good != good and replica_set.desired is not None:
            self.store.put_object(replica_set.key, replica_set.manifest, replica_set.good)

    def _start_replicas(
        self, replica_set: ReplicaSet, placed: Counter[str], now: float
    ) -> list[Driver]:
        drivers = []
        hosts = self.fleet.hosts
        siblings = Counter(
            member.current.host for member in replica_set.members if member.current is not None
        )
        environment = replica_set.key.namespace if self.isolate else ""
        for replica in replica_set.members:
            if replica.current is not None:
                continue
            if replica_set.missing and replica_set.template is None:
                continue
            if now < replica.not_before or not replica.may_send_start(now):
                continue
            if not replica.may_restart(hosts, replica_set.fenced, now):
                continue
            host = placement.choose(
                replica.template,
                hosts.values(),
                environment,
                replica.failed_hosts,
                siblings,
                placed,
            )
            if host is None:
                replica.waiting = placement.explain(replica.template, hosts.values(), environment)
                continue
            driver = self._assign(replica, host)
            if driver is not None:
                siblings[host.id] += 1
                placed[host.id] += 1
                drivers.append(driver)
        return drivers

    def _assign(self, replica: Replica, host: Host) -> Driver | None:
        inc = Incarnation(str(uuid.uuid4()), host.id, host.heartbeat.process)
        payload = self._start_payload(inc, replica)
        if len(payload) > self.connection.max_payload:
            replica.waiting = (
                f"cannot be started: a start of {len(payload)} bytes exceeds the maximum payload"
                f" of the broker, {self.connection.max_payload} bytes"
            )
            return None
        replica.waiting = ""
        replica.incarnations.append(inc)
        self.store.put_incarnation(inc, replica.uid)
        driver = Driver(inc, replica, payload)
        self.drivers[inc.id] = driver
        return driver

    def _start_payload(self, inc: Incarnation, replica: Replica) -> bytes:
        return codec.encode(
            replica.template.start_request(inc.id, replica.key.namespace, replica.name)
        )

    # Incarnations

    def _save(self, inc: Incarnation) -> None:
        driver = self.drivers.get(inc.id)
        if driver is not None:
            replica = driver.replica.uid if driver.replica else ""
            self.store.put_incarnation(inc, replica)
            driver.wake.set()

    def _orphan(self, inc: Incarnation) -> None:
        driver = self.drivers.get(inc.id)
        if inc.gone or driver is None:
            self._forget(inc)
        else:
            inc.wanted = False
            driver.replica = None
            self._save(inc)

    def _forget(self, inc: Incarnation) -> None:
        self.store.delete_incarnation(inc.id)
        driver = self.drivers.pop(inc.id, None)
        if driver is not None:
            inc.gone = True
            driver.wake.set()

    def _drive(self, inc: Incarnation, replica: Replica | None) -> None:
        """Continues with an incarnation of an earlier process."""
        payload = self._start_payload(inc, replica) if replica is not None else b""
        driver = Driver(inc, replica, payload)
        self.drivers[inc.id] = driver
        driver.task = asyncio.create_task(self._drive_to_end(driver))

    async def _drive_to_end(self, driver: Driver) -> None:
        inc = driver.incarnation
        while not inc.gone or inc.wanted:
            now = nats.monotonic()
            host = self.fleet.hosts.get(inc.host)
            wait = 60.0
            if self.connection.connected.is_set() and host is not None and not host.lost:
                command, until = inc.next_command(now)
                if command == "start" and not self._may_send(driver, now):
                    wait = 0.5
                elif command != "wait":
                    self._send(driver, command, now)
                    continue
                else:
                    wait = until - now
            if inc.gone and not inc.wanted:
                break
            driver.wake.clear()
            try:
                await asyncio.wait_for(driver.wake.wait(), max(wait, 0.01))
            except TimeoutError:
                pass
        self.wake.set()
        if driver.replica is None:
            self._forget(inc)

    def _may_send(self, driver: Driver, now: float) -> bool:
        return driver.replica is not None and driver.replica.may_send_start(now)

    def _send(self, driver: Driver, command: str, now: float) -> None:
        inc = driver.incarnation
        number = inc.sending(command, now)
        timeout_s = REQUEST_TIMEOUT_S
        payload = codec.encode({"workloadId": inc.id})
        if command == "start":
            payload, timeout_s = driver.payload, START_TIMEOUT_S + 1.0
            if driver.replica is not None:
                driver.replica.starts.append(now)
        self.fleet.request(inc.host, now)
        future = self.connection.request(
            f"runtime.host.{inc.host}.workload.{command}", payload, timeout_s
        )
        future.add_done_callback(
            lambda done: self._on_reply(driver, command, number, done.result())
        )

    def _on_reply(self, driver: Driver, command: str, number: int, reply: nats.Reply) -> None:
        inc, now = driver.incarnation, nats.monotonic()
        self._note_evidence(inc.host, reply, now)
        status = None
        if reply.kind == "message":
            try:
                status = codec.decode_status(reply.payload, inc.id)
            except codec.Undecodable as error:
                LOG.info("cannot decode a reply of host %s: %s", inc.host, error)
        before = inc.state
        if command == "start":
            inc.on_start(reply.kind, status, reply.error_code, now)
        elif command == "status":
            inc.on_status(number, status, now)
        else:
            inc.on_stop(status, now)
        if inc.id in self.drivers and inc.state != before:
            self._save(inc)
        driver.wake.set()
        self.wake.set()

    # Hosts

    def _note_evidence(self, host_id: str, reply: nats.Reply, now: float) -> None:
        if reply.kind == "message":
            self.fleet.sign(host_id, now)
        elif reply.kind == "no-responders":
            self.fleet.no_responders(host_id, now)

    def _probe(self, now: float) -> None:
        payload = codec.encode({"workloadId": self._probe_id})
        for host_id in self.fleet.due_probes(now):
            self.fleet.request(host_id, now)
            future = self.connection.request(
                f"runtime.host.{host_id}.workload.status", payload, SILENCE_S
            )
            future.add_done_callback(
                lambda done, host_id=host_id: self._note_evidence(
                    host_id, done.result(), nats.monotonic()
                )
            )

    def _evaluate(self, now: float) -> None:
        busy = {
            driver.incarnation.host
            for driver in self.drivers.values()
            if (since := driver.incarnation.pending_since) is not None
            and now - since < BUSY_START_S
        }
        for host in self.fleet.evaluate(busy, now):
            LOG.info("host %s is lost", host.id)
            self.store.put_host(host)
            for driver in list(self.drivers.values()):
                if driver.incarnation.host == host.id and driver.replica is not None:
                    driver.replica.lose_host(host.id, now)
                    self._save(driver.incarnation)
        for host_id in self.fleet.forget(now):
            self.store.delete_host(host_id)
            for driver in list(self.drivers.values()):
                if driver.incarnation.host == host_id and not driver.incarnation.wanted:
                    self._forget(driver.incarnation)

    def _on_message(self, subject: str, payload: bytes) -> None:
        now = nats.monotonic()
        try:
            heartbeat = codec.decode_heartbeat(payload)
        except codec.Undecodable as error:
            if now >= self._next_log:
                self._next_log = now + LOG_INTERVAL_S
                LOG.info("dropped a heartbeat: %s", error)
            return
        known = self.fleet.hosts.get(heartbeat.id)
        before = known.heartbeat if known is not None else None
        event = self.fleet.heartbeat(subject.rpartition(".")[2], heartbeat, now)
        if event == "ignored":
            return
        if event != "known" or before is None or _placement(before) != _placement(heartbeat):
            self.store.put_host(self.fleet.hosts[heartbeat.id])
            self.wake.set()
        if event != "known":
            LOG.info("host %s is %s", heartbeat.id, event)
            self._end_earlier_process(heartbeat)
            for driver in self.drivers.values():
                if driver.incarnation.host == heartbeat.id:
                    driver.wake.set()

    def _end_earlier_process(self, heartbeat: codec.Heartbeat) -> None:
        """Ends the incarnations of an earlier process of a host."""
        for driver in list(self.drivers.values()):
            inc = driver.incarnation
            if inc.host != heartbeat.id or inc.process == heartbeat.process:
                continue
            inc.end("the host has restarted")
            if driver.replica is None:
                self._forget(inc)
            driver.wake.set()

    def _on_connection(self, connected: bool) -> None:
        now = nats.monotonic()
        if connected:
            LOG.info("connected to the broker")
            self.fleet.connect(now, self._connections > 0)
            self._connections += 1
        else:
            self.fleet.disconnect()
            for driver in self.drivers.values():
                driver.incarnation.on_disconnect(now)
        for driver in self.drivers.values():
            driver.wake.set()
        self.wake.set()


def _placement(heartbeat: codec.Heartbeat) -> tuple[Any, ...]:
    """Returns the parts of a heartbeat that decide where a workload fits."""
    return (
        heartbeat.name,
        heartbeat.labels,
        heartbeat.environment,
        heartbeat.process,
        heartbeat.offers,
        heartbeat.http_port,
    )
