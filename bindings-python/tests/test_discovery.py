"""Discovery: hosts that reply to a request to all of them, and fleets that send it."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

import berth
from berth.host._discovery import MAX_WAITING
from support import Broker, FakeHost, Peer, ServedHost, with_timeout
from test_scheduler import heartbeat_payload, next_event

DISCOVER = "berth.ext.v1.discover"
NO_PROBES = berth.LivenessOptions(probe_interval_s=3600)
# No second heartbeat within a test.
SLOW_HEARTBEATS = 30.0


def serve_options(host_id: str) -> berth.ServeOptions:
    return berth.ServeOptions(host_id=host_id, heartbeat_interval_s=SLOW_HEARTBEATS)


async def test_fleet_discovers_hosts_between_their_heartbeats(
    broker: Broker, bus: berth.Bus, peer: Peer
) -> None:
    await peer.subscribe("runtime.operator.heartbeat.*")
    async with (
        ServedHost(broker.url, serve_options("h1")),
        ServedHost(broker.url, serve_options("h2")),
    ):
        await peer.receive()
        await peer.receive()
        began = time.monotonic()
        async with berth.Fleet(bus, NO_PROBES) as fleet:
            await next_event(berth.HostJoined, fleet.events())
            joined = fleet.events()
            while len(fleet.hosts()) < 2:
                await with_timeout(anext(joined))
        assert time.monotonic() - began < 10


async def test_host_announces_and_answers_discovery(broker: Broker, peer: Peer) -> None:
    await peer.subscribe("runtime.operator.heartbeat.*")
    async with ServedHost(broker.url, serve_options("h1")):
        assert (await peer.receive()).json()["labels"]["berth.dev/discover"] == "true"
        began = time.monotonic()
        await peer.send_request(DISCOVER, "anything")
        reply = (await peer.receive()).json()
        assert time.monotonic() - began < 1
        assert (reply["id"], reply["labels"]["berth.dev/discover"]) == ("h1", "true")
        # HOST-WIRE-015: no reply becomes a command to another host.
        await peer.subscribe("runtime.host.h2.>")
        await peer.publish(DISCOVER, b"", reply="runtime.host.h2.workload.stop")
        inbox = await peer.send_request(DISCOVER, "")
        assert (await peer.receive()).subject == inbox


async def test_flood_of_discovery_requests_is_answered_in_part(broker: Broker, peer: Peer) -> None:
    await peer.subscribe("runtime.operator.heartbeat.*")
    async with ServedHost(broker.url, serve_options("h1")):
        await peer.receive()
        await peer.subscribe("replies")
        await asyncio.gather(*(peer.publish(DISCOVER, b"", reply="replies") for _ in range(20 * MAX_WAITING)))
        reply = await peer.command("h1", "workload.status", json.dumps({"workloadId": "a"}))
        assert reply.state == "NOT_FOUND"
        await peer.send_request(DISCOVER, "")  # replies come within 250 ms, so those to the flood come before
        replies = await peer.drain()
        assert len(replies) < 10 * MAX_WAITING


async def test_forged_discovery_replies_add_no_hosts(bus: berth.Bus, peer: Peer) -> None:
    await peer.subscribe(DISCOVER)
    await peer.subscribe("runtime.host.real.heartbeat")
    async with berth.Fleet(bus, NO_PROBES) as fleet:
        request = await peer.receive()
        for host_id in ("", "a.b", "*", "forged", "real", "real"):
            await peer.publish(request.reply, json.dumps({"id": host_id}).encode())
        await peer.publish(request.reply, b"{")
        heartbeat_request = await peer.receive()
        assert heartbeat_request.subject == "runtime.host.real.heartbeat"
        await peer.publish(heartbeat_request.reply, heartbeat_payload("real"))
        joined = await next_event(berth.HostJoined, aiter(fleet))
        assert joined.host.id == "real"
        assert [host.id for host in fleet.hosts()] == ["real"]
        assert await peer.drain() == []


async def test_fleet_asks_again_after_a_reconnect(broker: Broker, bus: berth.Bus) -> None:
    async with berth.Fleet(bus, NO_PROBES) as fleet:
        broker.stop()
        broker.start()
        async with ServedHost(broker.url, serve_options("h1")):
            assert (await next_event(berth.HostJoined, aiter(fleet))).host.id == "h1"


@pytest.mark.parametrize("labels", [{"zone": "a"}, {"berth.dev/discover": "no"}, {}])
async def test_own_labels_stay(broker: Broker, peer: Peer, labels: dict[str, str]) -> None:
    class Labelled(FakeHost):
        def describe(self) -> berth.Description:
            return berth.Description(hostname="localhost", friendly_name="fake-1", version="0", labels=labels)

    await peer.subscribe("runtime.operator.heartbeat.*")
    shutdown = asyncio.Event()
    serving = asyncio.create_task(berth.serve(broker.url, Labelled(), serve_options("h1"), shutdown=shutdown))
    assert (await peer.receive()).json()["labels"] == {**labels, "berth.dev/discover": "true"}
    shutdown.set()
    await with_timeout(serving)
