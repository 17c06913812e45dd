"""The heartbeats, probes and losses of hosts."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable
from typing import Any

import codec
import nats
from codec import Heartbeat, Status
from drivers import Driver, Drivers
from fleet import BUSY_START_S, SILENCE_S, Fleet, Host
from store import Store
from violation import violates

LOG = logging.getLogger("hosts")

# A forged heartbeat must not fill the log.
LOG_INTERVAL_S = 10.0


class Watch:
    """Passes what is known about hosts to the fleet, and its decisions to the drivers."""

    def __init__(
        self,
        connection: nats.Connection,
        fleet: Fleet,
        store: Store,
        wake: asyncio.Event,
        on_loss: Callable[[Host], None],
        on_host: Callable[[str, Host], None],
    ) -> None:
        self.connection = connection
        self.fleet = fleet
        self.store = store
        self.wake = wake
        self.on_loss = on_loss
        self.on_host = on_host
        self.drivers = Drivers(connection, fleet, store, wake, self.on_evidence)
        self._next_log = 0.0
        self._next_named_probe = 0.0
        self._probe_id = f"probe-{secrets.token_hex(8)}"
        self._discovery_ended = False

    def on_evidence(self, host_id: str, reply: nats.Reply, status: Status | None) -> None:
        """Takes the outcome of a request as evidence about its host."""
        now = nats.monotonic()
        if reply.kind == "message":
            if reply.error_code == "503" and violates("code-503-read-as-no-responders"):
                host = self.fleet.hosts.get(host_id)
                if host is not None and not host.lost:
                    self.lose(host, False)
                return
            not_found = status is not None and status.state == "NOT_FOUND"
            if not_found and violates("not-found-reply-is-no-sign"):
                return
            self.fleet.sign(host_id, now)
            return
        unsent = reply.kind == "disconnected" and violates("failed-sends-count-as-no-responders")
        if reply.kind == "no-responders" or unsent:
            self.fleet.no_responders(host_id, now)

    def probe(self, now: float) -> None:
        """Requests the status of an invented id from each host that is due."""
        for host_id in self.fleet.due_probes(now):
            self._probe_host(host_id, now)
        if violates("heartbeat-request-required-later"):
            for host in self.fleet.hosts.values():
                if not host.was_asked and host.registered and now - host.registered >= 5.0:
                    host.was_asked = True
                    self._require_heartbeat(host)

    def _probe_host(self, host_id: str, now: float) -> None:
        self.fleet.request(host_id, now)
        timeout_s = 2.0 if violates("replies-after-2-s-discarded") else SILENCE_S
        future = self.connection.request(
            codec.subject(host_id, "workload.status"),
            codec.encode({"workloadId": self._probe_id}),
            timeout_s,
        )

        def done(future: asyncio.Future[nats.Reply]) -> None:
            reply, status = future.result(), None
            if reply.kind == "message":
                try:
                    status = codec.decode_status(reply.payload, self._probe_id, "probe")
                except codec.Undecodable:
                    status = None
            self.on_evidence(host_id, reply, status)

        future.add_done_callback(done)

    def probe_named(self, host_ids: set[str], now: float) -> None:
        """Probes hosts that workloads name and that sent no heartbeat."""
        if now < self._next_named_probe:
            return
        self._next_named_probe = now + 1.0
        for host_id in host_ids:
            if host_id not in self.fleet.hosts and not set(host_id) & set(" \t\r\n"):
                self._probe_host(host_id, now)

    def _require_heartbeat(self, host: Host) -> None:
        future = self.connection.request(codec.subject(host.id, "heartbeat"), b"", 5.0)

        def done(future: asyncio.Future[nats.Reply]) -> None:
            host.silent_to_requests = future.result().kind != "message"

        future.add_done_callback(done)

    def evaluate(self, now: float) -> None:
        """Acts on the hosts that are lost from now on."""
        if violates("no-responders-retries-same-host"):
            self._keep_unreachable_hosts(now)
        busy = {d.incarnation.host for d in self.drivers if self._has_recent_start(d, now)}
        for host in self.fleet.evaluate(busy, now):
            self._on_loss(host)
        for host_id in self.fleet.forget(now):
            self.store.delete_host(host_id)
            for driver in self.drivers.on_host(host_id):
                if not driver.incarnation.wanted:
                    self.drivers.forget(driver.incarnation)

    def _keep_unreachable_hosts(self, now: float) -> None:
        for driver in self.drivers:
            since = driver.incarnation.first_unreachable
            host = self.fleet.hosts.get(driver.incarnation.host)
            if since is not None and now - since < 20.0 and host is not None:
                host.unreachable_since = None

    def _has_recent_start(self, driver: Driver, now: float) -> bool:
        since = driver.incarnation.pending_since
        if since is None or now - since >= BUSY_START_S:
            return False
        host = self.fleet.hosts.get(driver.incarnation.host)
        if host is not None and host.start_reply > since:
            return not violates("one-start-reply-ends-busy-mark")
        return True

    def lose(self, host: Host, silent: bool) -> None:
        self.fleet.lose(host, silent)
        self._on_loss(host)

    def _on_loss(self, host: Host) -> None:
        LOG.info("host %s is lost", host.id)
        self.store.put_host(host)
        now = nats.monotonic()
        affected = self.drivers.on_host(host.id)
        if violates("failover-skips-every-other-workload"):
            affected = affected[::2]
        for driver in affected:
            replica, inc = driver.replica, driver.incarnation
            if replica is None:
                continue
            if violates("second-lost-host-erases-first-record"):
                for other in replica.incarnations:
                    if other.given_up and other is not inc and other.host != host.id:
                        self.drivers.forget(other)
            replica.lose_host(host.id, now)
            unrecorded = host.was_silent and inc.given_up
            if unrecorded and violates("cleanup-only-after-no-responders"):
                self.drivers.forget(inc)
            self.drivers.save(inc)
        self.on_loss(host)
        self.wake.set()

    def on_message(self, subject: str, payload: bytes) -> None:
        """Reads a heartbeat."""
        now = nats.monotonic()
        subject_id = subject.rpartition(".")[2]
        try:
            heartbeat = codec.decode_heartbeat(payload)
        except codec.Undecodable as error:
            self._on_undecodable(subject_id, payload)
            if now >= self._next_log:
                self._next_log = now + LOG_INTERVAL_S
                LOG.info("dropped a heartbeat: %s", error)
            return
        if not self._discovery_ended:
            self._on_heartbeat(subject_id, heartbeat, now)

    def _on_undecodable(self, subject_id: str, payload: bytes) -> None:
        """Drops a heartbeat, which proves nothing."""
        try:
            json.loads(payload.decode())
        except UnicodeDecodeError:
            if violates("non-utf8-heartbeat-ends-discovery"):
                self._discovery_ended = True
                self.connection.unsubscribe()
        except (ValueError, RecursionError):
            host = self.fleet.hosts.get(subject_id)
            if violates("undecodable-heartbeat-removes-host") and host and not host.lost:
                self.lose(host, False)

    def _on_heartbeat(self, subject_id: str, heartbeat: Heartbeat, now: float) -> None:
        known = self.fleet.hosts.get(heartbeat.id)
        before = known.heartbeat if known is not None else None
        event, host = self.fleet.heartbeat(subject_id, heartbeat, now)
        if host is None:
            return
        if event != "known" or before is None or _placement(before) != _placement(host.heartbeat):
            self.store.put_host(host)
            self.wake.set()
        if event != "known":
            LOG.info("host %s is %s", host.id, event)
            self._on_event(event, host)
        self.on_host(event, host)

    def _on_event(self, event: str, host: Host) -> None:
        self._end_earlier_process(host)
        if event == "new":
            self._compare_names(host)
        if event == "returned":
            if violates("lists-workloads-of-returning-host"):
                self.connection.request(codec.subject(host.id, "workload.list"), b"{}", 1.0)
            if violates("returned-replicas-wanted-again"):
                for driver in self.drivers.on_host(host.id):
                    inc = driver.incarnation
                    if inc.given_up and driver.replica is not None:
                        inc.wanted, inc.ended, inc.given_up = True, False, False
        for driver in self.drivers.on_host(host.id):
            driver.wake.set()

    def _compare_names(self, host: Host) -> None:
        if not violates("same-friendly-name-ends-old-host"):
            return
        for other in list(self.fleet.hosts.values()):
            if other is not host and other.heartbeat.name == host.heartbeat.name and not other.lost:
                self.lose(other, False)

    def _end_earlier_process(self, host: Host) -> None:
        """Ends the incarnations of an earlier process of a host."""
        for driver in self.drivers.on_host(host.id):
            inc = driver.incarnation
            same = inc.process == host.heartbeat.process
            if violates("started-at-never-updated"):
                same = host.first_process == host.heartbeat.process
            if same:
                continue
            inc.end("the host has restarted")
            if driver.replica is None:
                self.drivers.forget(inc)
            driver.wake.set()


def _placement(heartbeat: Heartbeat) -> tuple[Any, ...]:
    """Returns the parts of a heartbeat that decide where a workload fits."""
    return (
        heartbeat.name,
        heartbeat.labels,
        heartbeat.environment,
        heartbeat.process,
        heartbeat.imports,
        heartbeat.exports,
        heartbeat.http_port,
    )
