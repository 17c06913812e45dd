"""The scheduler side, against conforming hosts and misbehaving peers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import pytest

import berth
from berth import Health, Reason, WorkloadState
from berth.bus import Delivery
from berth.proto import Workload
from berth.scheduler.fleet import EVENT_BUFFER_SIZE
from support import Broker, Peer, ServedHost, eventually, flush, with_timeout

T = TypeVar("T", bound=berth.FleetEvent)

FAST_LIVENESS = berth.LivenessOptions(settling_period_s=0.1, suspect_after_s=1.0, lost_after_s=2.0)


async def next_event(
    kind: type[T],
    events: AsyncIterator[berth.FleetEvent],
    predicate: Callable[[T], bool] = lambda _: True,
) -> T:
    """Returns the next matching event, and skips all others."""
    async with asyncio.timeout(20):
        async for event in events:
            if isinstance(event, kind) and predicate(event):
                return event
    raise AssertionError("the events ended")


async def wait_until_served(client: berth.HostClient) -> None:
    async def poll() -> object | None:
        try:
            return await client.heartbeat()
        except berth.NoRespondersError:
            return None

    await eventually("the host replies", poll)


async def wait_until_free(client: berth.HostClient, workload_id: str) -> None:
    async def poll() -> bool | None:
        return (await client.status(workload_id)).state is WorkloadState.NOT_FOUND or None

    await eventually("the ID is free", poll)


async def test_client_starts_workload_polls_status_and_stops_workload(broker: Broker, bus: berth.Bus) -> None:
    async with ServedHost(broker.url) as host:
        client = berth.HostClient(bus, host.id)
        await wait_until_served(client)
        started = await client.start("a", Workload(name="run"))
        assert started == berth.Status("a", WorkloadState.RUNNING, "running")
        with pytest.raises(berth.RefusedError) as conflict:
            await client.start("a", Workload(name="run"))
        assert (conflict.value.code, conflict.value.state) == (409, WorkloadState.ERROR)
        with pytest.raises(berth.RefusedError) as failed:
            await client.start("b", Workload(name="refuse"))
        assert (failed.value.code, failed.value.state) == (None, WorkloadState.ERROR)
        assert (await client.status("b")).state is WorkloadState.ERROR
        assert (await client.stop("a")).state is WorkloadState.STOPPING
        await wait_until_free(client, "a")
        assert (await client.stop("a")).state is WorkloadState.NOT_FOUND


async def test_distinguishes_failures(broker: Broker, bus: berth.Bus, peer: Peer) -> None:
    timeouts = berth.Timeouts(status_s=0.1)
    with pytest.raises(berth.NoRespondersError):
        await berth.HostClient(bus, "absent").status("a")
    with pytest.raises(berth.InvalidHostIdError):
        berth.HostClient(bus, "a.b")
    await peer.subscribe("runtime.host.silent.workload.status")
    with pytest.raises(berth.RequestTimeoutError) as timeout:
        await berth.HostClient(bus, "silent", timeouts).status("a")
    assert timeout.value.timeout_s == 0.1
    assert isinstance(timeout.value, TimeoutError)
    with pytest.raises(berth.RequestTooLargeError):
        await berth.HostClient(bus, "silent").status("x" * 2_000_000)
    component = berth.Component(image_pull_policy=9)  # type: ignore[arg-type]
    workload = Workload(wit_world=berth.WitWorld(components=[component]))
    with pytest.raises(berth.EncodeError, match="cannot encode"):
        await berth.HostClient(bus, "silent").start("a", workload)
    broker.stop()

    async def poll() -> bool | None:
        return None if bus.is_connected else True

    await eventually("the bus is disconnected", poll)
    with pytest.raises(berth.DisconnectedError):
        await berth.HostClient(bus, "silent").status("a")


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("", "the payload is empty"),
        ("{}", "field `workloadStatus` is missing"),
        ('{"workloadStatus":{"workloadId":"a"}}', "field `workloadState` is missing"),
        (
            '{"workloadStatus":{"workloadId":"b","workloadState":2}}',
            "field `workloadId` names another workload",
        ),
        (
            '{"workloadStatus":{"workloadId":"a","workloadState":"RUNNING"}}',
            "field `workloadStatus.workloadState`",
        ),
    ],
)
async def test_rejects_invalid_response(broker: Broker, bus: berth.Bus, response: str, reason: str) -> None:
    async with responder(broker, response):
        with pytest.raises(berth.InvalidResponseError) as error:
            await berth.HostClient(bus, "h").status("a")
    assert reason in str(error.value)


async def test_cancellation_that_coincides_with_reply_is_not_lost(broker: Broker, bus: berth.Bus) -> None:
    async with ServedHost(broker.url) as host:
        client = berth.HostClient(bus, host.id)
        await wait_until_served(client)
        request = asyncio.create_task(client.status("a"))
        await asyncio.sleep(0)
        assert bus._inbox is not None
        [(token, reply)] = bus._inbox._pending.items()
        reply.set_result(Delivery(token, None, b"{}"))
        request.cancel()
        await asyncio.wait({request})
        assert request.cancelled()
        assert bus._inbox._pending == {}
        assert (await client.status("a")).state is WorkloadState.NOT_FOUND


async def test_accepts_refusal_without_id(broker: Broker, bus: berth.Bus) -> None:
    response = '{"workloadStatus":{"workloadState":"WORKLOAD_STATE_ERROR","message":"no"}}'
    async with responder(broker, response, {"Nats-Service-Error-Code": "413"}):
        with pytest.raises(berth.RefusedError, match="the host refused the command: no") as refused:
            await berth.HostClient(bus, "h").status("a")
    assert refused.value.code == 413


async def test_rejects_heartbeat_of_another_host(broker: Broker, bus: berth.Bus) -> None:
    async with responder(broker, '{"id":"other"}'):
        with pytest.raises(berth.InvalidResponseError, match="'other'"):
            await berth.HostClient(bus, "h").heartbeat()


class responder:
    """A peer that sends the same reply to every request."""

    def __init__(self, broker: Broker, payload: str, headers: dict[str, str] | None = None) -> None:
        self._broker, self._payload, self._headers = broker, payload, headers

    async def __aenter__(self) -> None:
        import nats
        from nats.aio.msg import Msg

        self._client = await nats.connect(self._broker.url)

        async def reply(msg: Msg) -> None:
            await self._client.publish(msg.reply, self._payload.encode(), headers=self._headers)

        await self._client.subscribe("runtime.host.h.>", cb=reply)
        await flush(self._client)

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()


def heartbeat_payload(host_id: str, **fields: object) -> bytes:
    return json.dumps({"id": host_id, "startedAt": "2020-01-01T00:00:00Z", **fields}).encode()


async def test_fleet_reports_joined_and_lost_hosts(broker: Broker, bus: berth.Bus) -> None:
    options = berth.LivenessOptions(settling_period_s=0.1)
    async with berth.Fleet(bus, options) as fleet, ServedHost(broker.url) as survivor:
        await next_event(berth.HostJoined, aiter(fleet), lambda joined: joined.host.id == survivor.id)
        async with ServedHost(broker.url) as failing:
            joined = await next_event(berth.HostJoined, aiter(fleet))
            assert joined.host.id == failing.id
            assert [host.id for host in fleet.hosts()] == sorted([survivor.id, failing.id])
            assert joined.host == fleet.host(failing.id)
        died_s = time.monotonic()
        suspect = await next_event(berth.HostSuspect, aiter(fleet))
        assert suspect == berth.HostSuspect(failing.id, Reason.NO_RESPONDERS)
        lost = await next_event(berth.HostLost, aiter(fleet))
        assert lost == berth.HostLost(failing.id, Reason.NO_RESPONDERS)
        assert time.monotonic() - died_s < 4
        [view] = fleet.by_load()
        assert (view.id, view.health) == (survivor.id, Health.ALIVE)


async def test_fleet_reports_changes_recovery_and_restart(bus: berth.Bus, peer: Peer) -> None:
    subject = "runtime.operator.heartbeat.h"
    interfaces = [{"namespace": "wasi", "package": "a"}, {"namespace": "wasi", "package": "b"}]
    async with berth.Fleet(bus, FAST_LIVENESS) as fleet:
        events = aiter(fleet)
        await bus.flush(5)
        for payload in (b"invalid", heartbeat_payload("another")):
            await peer.publish(subject, payload)
        await peer.publish("runtime.operator.heartbeat.a.b", heartbeat_payload("a.b"))
        await peer.publish(subject, heartbeat_payload("h", imports=interfaces, labels={"zone": "a"}))
        joined = await next_event(berth.HostJoined, events)
        assert (joined.host.id, joined.host.heartbeat.labels["zone"]) == ("h", "a")
        # Load and interface order are not changes; labels are.
        unchanged = heartbeat_payload("h", imports=interfaces[::-1], labels={"zone": "a"}, workloadCount="3")
        await peer.publish(subject, unchanged)
        await peer.publish(subject, heartbeat_payload("h", imports=interfaces, labels={"zone": "b"}))
        changed = await with_timeout(anext(events))
        assert isinstance(changed, berth.HostChanged)
        assert changed.host.heartbeat.labels["zone"] == "b"
        # The peer does not subscribe, so the host is lost until its next heartbeat.
        await next_event(berth.HostLost, events)
        host = fleet.host("h")
        assert host is not None
        assert (host.health, host.reason) == (Health.LOST, Reason.NO_RESPONDERS)
        await peer.publish(subject, heartbeat_payload("h", imports=interfaces, labels={"zone": "b"}))
        recovered = await next_event(berth.HostRecovered, events)
        assert (recovered.previous_health, recovered.host.health) == (Health.LOST, Health.ALIVE)
        # Another process under the same ID is a new host.
        await peer.publish(subject, heartbeat_payload("h", startedAt="2020-01-02T00:00:00Z"))
        restarted = await next_event(berth.HostLost, events)
        assert restarted.reason is Reason.RESTARTED
        assert isinstance(await with_timeout(anext(events)), berth.HostJoined)


async def test_frozen_host_is_lost_unless_busy(bus: berth.Bus, peer: Peer) -> None:
    async with berth.Fleet(bus, FAST_LIVENESS) as fleet:
        await bus.flush(5)
        for host_id in ("frozen", "busy"):
            await peer.subscribe(f"runtime.host.{host_id}.>")
            await peer.publish(f"runtime.operator.heartbeat.{host_id}", heartbeat_payload(host_id))
            await next_event(berth.HostJoined, aiter(fleet))
        with fleet.expect_busy("busy", duration_s=60), fleet.expect_busy("busy", duration_s=60):
            lost = await next_event(berth.HostLost, aiter(fleet))
            assert lost == berth.HostLost("frozen", Reason.SILENT)
            busy = fleet.host("busy")
            assert busy is not None
            assert busy.health is Health.SUSPECT
        # The starts are done, and the host is still silent.
        lost = await next_event(berth.HostLost, aiter(fleet))
        assert lost == berth.HostLost("busy", Reason.SILENT)


async def test_slow_reader_receives_missed_count_then_end_of_events(bus: berth.Bus, peer: Peer) -> None:
    async with berth.Fleet(bus) as fleet:
        slow, closed = fleet.events(), fleet.events()
        await closed.aclose()
        await peer.subscribe("runtime.host.h.>")  # so that the host is not suspect
        await bus.flush(5)
        for zone in range(EVENT_BUFFER_SIZE + 6):
            await peer.publish(
                "runtime.operator.heartbeat.h", heartbeat_payload("h", labels={"zone": str(zone)})
            )
        last = {"zone": str(EVENT_BUFFER_SIZE + 5)}
        await next_event(berth.HostChanged, aiter(fleet), lambda changed: changed.host.heartbeat.labels == last)
        assert await anext(slow) == berth.EventsMissed(6)
        changed = await anext(slow)
        assert isinstance(changed, berth.HostChanged)
        assert changed.host.heartbeat.labels["zone"] == "6"
    assert len([event async for event in slow]) == EVENT_BUFFER_SIZE - 1
    assert [event async for event in closed] == []


async def test_iteration_requires_async_with(bus: berth.Bus) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        aiter(berth.Fleet(bus))


async def test_events_end_when_bus_is_closed(broker: Broker) -> None:
    bus = await berth.connect(broker.url)
    async with berth.Fleet(bus) as fleet:
        await bus.close()
        assert [event async for event in fleet] == []
    with pytest.raises(berth.BusClosedError):
        await fleet.client("h").status("a")
