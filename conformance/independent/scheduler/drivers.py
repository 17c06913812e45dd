"""The tasks that send the commands of incarnations and pass the replies on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import codec
import nats
from codec import Status
from fleet import Fleet
from incarnation import START_TIMEOUT_S, Incarnation
from replica import Replica
from store import Store
from violation import violates

LOG = logging.getLogger("commands")

REQUEST_TIMEOUT_S = 10.0
# A delayed start is sent again when the limit on starts permits it.
BUDGET_RETRY_S = 0.5


@dataclass(eq=False)
class Driver:
    """The task that sends the commands of one incarnation."""

    incarnation: Incarnation
    # None for an orphan: an id that no replica refers to any more.
    replica: Replica | None
    payload: bytes
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Drivers:
    """Holds the driver of each incarnation."""

    def __init__(
        self,
        connection: nats.Connection,
        fleet: Fleet,
        store: Store,
        wake: asyncio.Event,
        on_evidence: Callable[[str, nats.Reply, Status | None], None],
    ) -> None:
        self.connection = connection
        self.fleet = fleet
        self.store = store
        self.wake = wake
        self.on_evidence = on_evidence
        self._drivers: dict[Incarnation, Driver] = {}
        # Starts that a violation has buffered during an outage.
        self._buffered: list[tuple[Driver, float]] = []
        self._stop_in_flight: tuple[Incarnation, float] | None = None

    def __iter__(self) -> Iterator[Driver]:
        return iter(list(self._drivers.values()))

    def add(self, inc: Incarnation, replica: Replica | None, payload: bytes) -> Driver:
        driver = Driver(inc, replica, payload)
        self._drivers[inc] = driver
        return driver

    def run(self, driver: Driver) -> None:
        """Starts to send commands; the incarnation has been saved before."""
        if driver.incarnation in self._drivers and driver.task is None:
            driver.task = asyncio.create_task(self._drive(driver))

    def tasks(self) -> list[asyncio.Task[None]]:
        return [driver.task for driver in self if driver.task is not None]

    def on_host(self, host_id: str) -> list[Driver]:
        return [driver for driver in self if driver.incarnation.host == host_id]

    def save(self, inc: Incarnation) -> None:
        """Writes an incarnation to the store and wakes its task."""
        driver = self._drivers.get(inc)
        if driver is None:
            return
        forgotten = inc.stops > 0 and violates("stop-forgotten-once-sent")
        unsaved = inc.pending_since is not None and violates("id-saved-after-start-reply")
        if not forgotten and not unsaved:
            self.store.put_incarnation(inc, driver.replica.uid if driver.replica else "")
        driver.wake.set()

    def orphan(self, inc: Incarnation) -> None:
        """Keeps an id only to stop it when its host returns."""
        driver = self._drivers.get(inc)
        if inc.gone or driver is None or violates("delete-erases-record-of-lost-host"):
            self.forget(inc)
        else:
            inc.wanted = False
            driver.replica = None
            self.save(inc)

    def forget(self, inc: Incarnation) -> None:
        self.store.delete_incarnation(inc.id)
        driver = self._drivers.pop(inc, None)
        if driver is not None:
            inc.gone, inc.wanted = True, False
            driver.wake.set()

    def connect(self) -> None:
        """Continues after the connection is back."""
        for driver, now in self._buffered:
            self._request(driver, "start", driver.payload, now, 0)
        self._buffered.clear()
        self._wake_all()

    def disconnect(self, now: float) -> None:
        for driver in self:
            driver.incarnation.on_disconnect(now)
        self._wake_all()

    def _wake_all(self) -> None:
        for driver in self:
            driver.wake.set()

    async def _drive(self, driver: Driver) -> None:
        inc = driver.incarnation
        while not inc.gone or inc.wanted:
            wait = self._step(driver, nats.monotonic())
            if inc.gone and not inc.wanted:
                break
            if wait <= 0.0:
                continue
            driver.wake.clear()
            try:
                await asyncio.wait_for(driver.wake.wait(), max(wait, 0.01))
            except TimeoutError:
                continue
        self.wake.set()
        if driver.replica is None:
            self.forget(inc)

    def _step(self, driver: Driver, now: float) -> float:
        """Sends the next command and returns 0, or returns the time to wait."""
        inc = driver.incarnation
        host = self.fleet.hosts.get(inc.host)
        connected = self.connection.connected.is_set()
        if host is None or (host.lost and not _starts_on_lost_host(driver)):
            return 60.0
        if not connected and not violates("start-of-outage-sent-afterwards"):
            return 60.0
        command, until = inc.next_command(now)
        if command == "wait":
            return max(until - now, 0.01)
        if not connected and command != "start":
            return 60.0
        if command == "start" and not self._may_start(driver, now):
            return BUDGET_RETRY_S
        if command == "stop" and not self._may_stop(inc, now):
            return 0.1
        if command == "status" and self._polls_sibling(driver):
            inc.next_status = now + 1.0
            return 1.0
        self._send(driver, command, now)
        return 0.0

    def _may_start(self, driver: Driver, now: float) -> bool:
        return driver.replica is not None and driver.replica.may_send_start(now)

    def _may_stop(self, inc: Incarnation, now: float) -> bool:
        if violates("stops-wait-for-each-other") and self._stop_in_flight is not None:
            return now - self._stop_in_flight[1] >= 30.0
        return True

    def _polls_sibling(self, driver: Driver) -> bool:
        if not violates("one-poll-for-identical-replicas") or driver.replica is None:
            return False
        inc = driver.incarnation
        siblings = [
            other.incarnation.id
            for other in self.on_host(inc.host)
            if other.replica is not None
            and other.replica.key == driver.replica.key
            and other.incarnation.state == "RUNNING"
        ]
        return inc.state == "RUNNING" and inc.wanted and inc.id != min(siblings)

    def _send(self, driver: Driver, command: str, now: float) -> None:
        inc = driver.incarnation
        number = inc.sending(command, now)
        payload = codec.encode({"workloadId": inc.id})
        if command == "start":
            payload = driver.payload
            if driver.replica is not None:
                driver.replica.starts.append(now)
            if violates("heartbeat-request-before-each-start"):
                self.connection.request(codec.subject(inc.host, "heartbeat"), b"", 1.0)
            if not self.connection.connected.is_set():
                self._buffered.append((driver, now))
                return
            if violates("stop-overtakes-delayed-start"):
                asyncio.get_running_loop().call_later(
                    0.5, self._request, driver, command, payload, now, number
                )
                return
        if command == "stop":
            self._stop_in_flight = (inc, now)
            if violates("stop-forgotten-once-sent"):
                self.store.delete_incarnation(inc.id)
            if violates("stop-payload-ends-in-nul"):
                payload += b"\0"
            if inc.stops > 1 and violates("repeated-stop-has-no-reply-subject"):
                self.connection.publish(codec.subject(inc.host, "workload.stop"), payload)
                return
        self._request(driver, command, payload, now, number)

    def _request(
        self, driver: Driver, command: str, payload: bytes, now: float, number: int
    ) -> None:
        inc = driver.incarnation
        timeout_s = START_TIMEOUT_S + 1.0 if command == "start" else REQUEST_TIMEOUT_S
        if command == "status" and violates("missed-status-ends-stop"):
            timeout_s = 2.0
        if command == "status" and violates("replies-after-2-s-discarded"):
            timeout_s = 2.0
        if command == "stop" and violates("stops-wait-for-each-other"):
            timeout_s = 30.0
        self.fleet.request(inc.host, now)
        future = self.connection.request(
            codec.subject(inc.host, f"workload.{command}"), payload, timeout_s
        )

        def done(future: asyncio.Future[nats.Reply]) -> None:
            self._on_reply(driver, command, number, future.result())

        future.add_done_callback(done)

    def _on_reply(self, driver: Driver, command: str, number: int, reply: nats.Reply) -> None:
        inc, now = driver.incarnation, nats.monotonic()
        status = None
        if reply.kind == "message":
            try:
                status = codec.decode_status(reply.payload, inc.id, command)
            except codec.Undecodable as error:
                LOG.info("cannot decode a reply of host %s: %s", inc.host, error)
        self.on_evidence(inc.host, reply, status)
        before = inc.state
        if command == "start":
            self._log_refusal(driver, status)
            host = self.fleet.hosts.get(inc.host)
            if host is not None:
                host.start_reply = now
            inc.on_start(reply.kind, status, reply.error_code, now)
        elif command == "status":
            inc.on_status(number, status, now)
        else:
            self._stop_in_flight = None
            inc.on_stop(status, now)
        if inc.state != before:
            self.save(inc)
        driver.wake.set()
        self.wake.set()

    def _log_refusal(self, driver: Driver, status: Status | None) -> None:
        if status is None or status.state != "ERROR":
            return
        LOG.info("host %s refused a start", driver.incarnation.host)
        if violates("refused-start-logged-completely"):
            LOG.info("the refused start: %s", driver.payload.decode("utf-8", "replace"))


def _starts_on_lost_host(driver: Driver) -> bool:
    if driver.replica is None or not violates("named-host-started-while-lost"):
        return False
    inc = driver.incarnation
    return bool(driver.replica.template.host_id) and inc.wanted and not inc.sent
