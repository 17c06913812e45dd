"""The connection of the host to the bus: commands, heartbeats, and their end at shutdown."""

import argparse
import asyncio
import secrets
import signal

from commands import Commands
from heartbeat import Heartbeat, HeartbeatTimer
from nats import NatsClient
from table import Table
from violation import note_now, violates, within
from workload import Environment, Workload

UNSUBSCRIBE_S = 0.8  # HOST-DOWN-001 allows 1 s
STOP_S = 5.0  # workloads at shutdown
DRAIN_S = 2.0  # replies at shutdown
PROBE_S = 10.0  # only a violation probes


class Session:
    """The subjects of one host process."""

    def __init__(
        self, options: argparse.Namespace, table: Table, environment: Environment, hostname: str, port: int
    ) -> None:
        """`hostname` and `port` are the address of the ingress."""
        self._id: str = options.id
        self._table = table
        self._prefix = f"runtime.host.{self._id}."
        name = f"stand-in-{secrets.token_hex(8)}"
        constant = {
            "id": self._id,
            "hostname": hostname,
            "friendlyName": f"{name}-" if violates("friendly-name-ends-with-hyphen") else name,
            "labels": {"hostgroup": "default"},
            "httpPort": port,
            "environment": options.environment,
        }
        self._heartbeat = Heartbeat(constant, table)
        self._timer = HeartbeatTimer(self._publish_heartbeat)
        self._commands = Commands(self._prefix, table, self._heartbeat.for_reply)
        self._client = NatsClient(
            options.nats, self._id, self._prefix, self._commands.receive, self._on_connect, self._on_disconnect
        )
        self._commands.client = self._client
        self._commands.on_command = self._on_command
        self._connections = 0
        self._had_workloads = False
        environment.connected = self._client.connected
        environment.on_event = self._on_event

    async def run(self, ended: "asyncio.Future[signal.Signals]") -> None:
        """Serves the bus until a signal arrives, then shuts down."""
        tasks = [asyncio.create_task(self._client.run())]
        if violates("probes-itself"):
            tasks.append(asyncio.create_task(self._probe()))
        number = await ended
        self._had_workloads = bool(self._table.running())
        # shutdown.md: the subscription ends first, so that callers get "no responders" at once
        self._timer.stop()
        if violates("sigint-stops-workloads-first") and number == signal.SIGINT:
            await self._table.stop_all(STOP_S)
            await asyncio.sleep(2)
        self._commands.closing = True
        await self._client.unsubscribe(UNSUBSCRIBE_S)
        await self._table.stop_all(STOP_S)
        await self._commands.drain(DRAIN_S)
        if violates("heartbeat-during-shutdown") and self._had_workloads:
            self._publish_heartbeat()
        await self._client.flush(DRAIN_S)
        self._client.close()
        for task in tasks:
            task.cancel()

    def _publish_heartbeat(self) -> None:
        if self._client.connected.is_set():
            subject = f"runtime.operator.heartbeat.{self._id}"
            self._client.publish(subject, self._heartbeat.for_publication())

    def _on_connect(self) -> None:
        if self._commands.closing:
            return
        self._connections += 1
        if self._connections > 1:
            self._heartbeat.reconnected()
            self._table.reconnected()
        is_short_outage = self._connections > 1 and within("disconnected", 5)
        self._timer.start(delayed=violates("no-heartbeat-after-short-outage") and is_short_outage)

    def _on_disconnect(self) -> None:
        note_now("disconnected")
        self._timer.stop()

    def _on_command(self, command: str) -> None:
        if violates("commands-postpone-heartbeat") and self._timer.is_running():
            self._timer.start(delayed=True)
        if violates("heartbeat-request-also-published") and command == "heartbeat":
            self._publish_heartbeat()

    def _on_event(self, event: str, _workload: Workload) -> None:
        if violates("heartbeat-at-each-change") and self._timer.is_running():
            self._publish_heartbeat()
        if violates("publishes-completed-event") and event == "completed":
            self._client.publish(f"runtime.operator.workload.{self._id}", b"{}")

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(PROBE_S)
            self._client.publish_request(f"{self._prefix}heartbeat", f"_INBOX.{self._id}", b"")
