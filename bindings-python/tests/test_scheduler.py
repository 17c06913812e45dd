"""The scheduler's side against hosts that behave and peers that do not."""

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
from berth.scheduler.fleet import MAX_EVENTS_BEHIND
from support import Broker, Served, Wire, eventually, flush, soon

T = TypeVar("T", bound=berth.FleetEvent)

IMPATIENT = berth.LivenessOptions(settle_s=0.1, suspect_after_s=1.0, lost_after_s=2.0)


@pytest.fixture
async def bus(broker: Broker) -> AsyncIterator[berth.Bus]:
    async with berth.connect(broker.url) as bus:
        yield bus


@pytest.fixture
async def peer(broker: Broker) -> AsyncIterator[Wire]:
    wire = await Wire.connect(broker.url)
    yield wire
    await wire.close()


async def the(
    kind: type[T], events: AsyncIterator[berth.FleetEvent], fits: Callable[[T], bool] = lambda _: True
) -> T:
    """The next event that fits; others are skipped."""
    async with asyncio.timeout(20):
        async for event in events:
            if isinstance(event, kind) and fits(event):
                return event
    raise AssertionError("the fleet is no longer watched")


async def is_there(client: berth.HostClient) -> None:
    async def look() -> object | None:
        try:
            return await client.heartbeat()
        except berth.NoResponders:
            return None

    await eventually("the host is there", look)


async def is_gone(client: berth.HostClient, workload_id: str) -> None:
    async def look() -> bool | None:
        return (await client.status(workload_id)).state is WorkloadState.NOT_FOUND or None

    await eventually("it is gone", look)


async def test_a_host_is_commanded(broker: Broker, bus: berth.Bus) -> None:
    async with Served(broker.url) as host:
        client = berth.HostClient(bus, host.id)
        await is_there(client)
        started = await client.start("a", Workload(name="run"))
        assert started == berth.Status("a", WorkloadState.RUNNING, "running")
        with pytest.raises(berth.Refused) as again:
            await client.start("a", Workload(name="run"))
        assert (again.value.code, again.value.state) == (409, WorkloadState.ERROR)
        with pytest.raises(berth.Refused) as failed:
            await client.start("b", Workload(name="refuse"))
        assert (failed.value.code, failed.value.state) == (None, WorkloadState.ERROR)
        assert (await client.status("b")).state is WorkloadState.ERROR
        assert (await client.stop("a")).state is WorkloadState.STOPPING
        await is_gone(client, "a")
        assert (await client.stop("a")).state is WorkloadState.NOT_FOUND


async def test_failures_are_told_apart(broker: Broker, bus: berth.Bus, peer: Wire) -> None:
    timeouts = berth.Timeouts(status_s=0.1)
    with pytest.raises(berth.NoResponders):
        await berth.HostClient(bus, "nobody").status("a")
    with pytest.raises(berth.BadHostId):
        berth.HostClient(bus, "a.b")
    await peer.subscribe("runtime.host.silent.workload.status")
    with pytest.raises(berth.Timeout) as silent:
        await berth.HostClient(bus, "silent", timeouts).status("a")
    assert silent.value.after_s == 0.1
    assert isinstance(silent.value, TimeoutError)
    with pytest.raises(berth.TooLarge):
        await berth.HostClient(bus, "silent").status("x" * 2_000_000)
    component = berth.Component(image_pull_policy=9)  # type: ignore[arg-type]
    workload = Workload(wit_world=berth.WitWorld(components=[component]))
    with pytest.raises(berth.NotSent, match="cannot be written"):
        await berth.HostClient(bus, "silent").start("a", workload)
    broker.stop()

    async def look() -> bool | None:
        return None if bus.is_connected else True

    await eventually("it is noticed", look)
    with pytest.raises(berth.Disconnected):
        await berth.HostClient(bus, "silent").status("a")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "the payload is empty"),
        ("{}", "it has no workloadStatus"),
        ('{"workloadStatus":{"workloadId":"a"}}', "it has no workloadState"),
        ('{"workloadStatus":{"workloadId":"b","workloadState":2}}', "it is about another workload"),
        (
            '{"workloadStatus":{"workloadId":"a","workloadState":"RUNNING"}}',
            "field `workloadStatus.workloadState`",
        ),
    ],
)
async def test_what_is_no_answer_is_malformed(broker: Broker, bus: berth.Bus, answer: str, reason: str) -> None:
    async with answering(broker, answer):
        with pytest.raises(berth.Malformed) as malformed:
            await berth.HostClient(bus, "h").status("a")
    assert reason in str(malformed.value)


async def test_a_cancellation_that_comes_with_the_answer_is_not_lost(broker: Broker, bus: berth.Bus) -> None:
    async with Served(broker.url) as host:
        client = berth.HostClient(bus, host.id)
        await is_there(client)
        asked = asyncio.create_task(client.status("a"))
        await asyncio.sleep(0)
        assert bus._inbox is not None
        [(token, answer)] = bus._inbox._expected.items()
        answer.set_result(Delivery(token, None, b"{}"))
        asked.cancel()
        await asyncio.wait({asked})
        assert asked.cancelled()
        assert bus._inbox._expected == {}
        assert (await client.status("a")).state is WorkloadState.NOT_FOUND


async def test_a_refusal_may_leave_out_the_id(broker: Broker, bus: berth.Bus) -> None:
    answer = '{"workloadStatus":{"workloadState":"WORKLOAD_STATE_ERROR","message":"no"}}'
    async with answering(broker, answer, {"Nats-Service-Error-Code": "413"}):
        with pytest.raises(berth.Refused, match="the host refused: no") as refused:
            await berth.HostClient(bus, "h").status("a")
    assert refused.value.code == 413


async def test_a_heartbeat_of_another_host_is_malformed(broker: Broker, bus: berth.Bus) -> None:
    async with answering(broker, '{"id":"other"}'):
        with pytest.raises(berth.Malformed, match="'other'"):
            await berth.HostClient(bus, "h").heartbeat()


class answering:
    """A peer that answers everything with one thing."""

    def __init__(self, broker: Broker, payload: str, headers: dict[str, str] | None = None) -> None:
        self._broker, self._payload, self._headers = broker, payload, headers

    async def __aenter__(self) -> None:
        import nats
        from nats.aio.msg import Msg

        self._client = await nats.connect(self._broker.url)

        async def answer(msg: Msg) -> None:
            await self._client.publish(msg.reply, self._payload.encode(), headers=self._headers)

        await self._client.subscribe("runtime.host.h.>", cb=answer)
        await flush(self._client)

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()


def beat_of(host_id: str, **fields: object) -> bytes:
    return json.dumps({"id": host_id, "startedAt": "2020-01-01T00:00:00Z", **fields}).encode()


async def test_a_fleet_sees_hosts_join_die_and_be_replaced(broker: Broker, bus: berth.Bus) -> None:
    options = berth.LivenessOptions(settle_s=0.1)
    async with berth.Fleet(bus, options) as fleet, Served(broker.url) as stays:
        await the(berth.Joined, aiter(fleet), lambda joined: joined.host.id == stays.id)
        async with Served(broker.url) as dies:
            joined = await the(berth.Joined, aiter(fleet))
            assert joined.host.id == dies.id
            assert [host.id for host in fleet.hosts()] == sorted([stays.id, dies.id])
            assert joined.host == fleet.host(dies.id)
        died = time.monotonic()
        suspect = await the(berth.Suspect, aiter(fleet))
        assert suspect == berth.Suspect(dies.id, Reason.NO_RESPONDERS)
        lost = await the(berth.Lost, aiter(fleet))
        assert lost == berth.Lost(dies.id, Reason.NO_RESPONDERS)
        assert time.monotonic() - died < 4
        [view] = fleet.by_load()
        assert (view.id, view.health) == (stays.id, Health.ALIVE)


async def test_what_a_host_says_is_noted_and_what_it_does_is_told(bus: berth.Bus, peer: Wire) -> None:
    subject = "runtime.operator.heartbeat.h"
    interfaces = [{"namespace": "wasi", "package": "a"}, {"namespace": "wasi", "package": "b"}]
    async with berth.Fleet(bus, IMPATIENT) as fleet:
        events = aiter(fleet)
        await bus.flush(5)
        for payload in (b"nonsense", beat_of("another")):
            await peer.publish(subject, payload)
        await peer.publish("runtime.operator.heartbeat.a.b", beat_of("a.b"))
        await peer.publish(subject, beat_of("h", imports=interfaces, labels={"zone": "a"}))
        joined = await the(berth.Joined, events)
        assert (joined.host.id, joined.host.heartbeat.labels["zone"]) == ("h", "a")
        # Load and order change nothing; labels do.
        same = beat_of("h", imports=interfaces[::-1], labels={"zone": "a"}, workloadCount="3")
        await peer.publish(subject, same)
        await peer.publish(subject, beat_of("h", imports=interfaces, labels={"zone": "b"}))
        changed = await soon(anext(events))
        assert isinstance(changed, berth.Changed)
        assert changed.host.heartbeat.labels["zone"] == "b"
        # Nobody listens under its id: it is lost, and a heartbeat brings it back.
        await the(berth.Lost, events)
        host = fleet.host("h")
        assert host is not None
        assert (host.health, host.reason) == (Health.LOST, Reason.NO_RESPONDERS)
        await peer.publish(subject, beat_of("h", imports=interfaces, labels={"zone": "b"}))
        returned = await the(berth.Returned, events)
        assert (returned.was, returned.host.health) == (Health.LOST, Health.ALIVE)
        # Another process under the same id is another host.
        await peer.publish(subject, beat_of("h", startedAt="2020-01-02T00:00:00Z"))
        restarted = await the(berth.Lost, events)
        assert restarted.reason is Reason.RESTARTED
        assert isinstance(await soon(anext(events)), berth.Joined)


async def test_a_frozen_host_is_lost_later_and_not_while_it_is_busy(bus: berth.Bus, peer: Wire) -> None:
    async with berth.Fleet(bus, IMPATIENT) as fleet:
        await bus.flush(5)
        for host_id in ("frozen", "busy"):
            await peer.subscribe(f"runtime.host.{host_id}.>")
            await peer.publish(f"runtime.operator.heartbeat.{host_id}", beat_of(host_id))
            await the(berth.Joined, aiter(fleet))
        with fleet.expect_busy("busy", for_s=60), fleet.expect_busy("busy", for_s=60):
            lost = await the(berth.Lost, aiter(fleet))
            assert lost == berth.Lost("frozen", Reason.SILENT)
            busy = fleet.host("busy")
            assert busy is not None
            assert busy.health is Health.SUSPECT
        # It has answered, and is as silent as before.
        lost = await the(berth.Lost, aiter(fleet))
        assert lost == berth.Lost("busy", Reason.SILENT)


async def test_readers_are_told_what_they_missed_and_when_it_ends(bus: berth.Bus, peer: Wire) -> None:
    async with berth.Fleet(bus) as fleet:
        slow, closed = fleet.events(), fleet.events()
        await closed.aclose()
        await peer.subscribe("runtime.host.h.>")  # whoever listens is not suspected
        await bus.flush(5)
        for zone in range(MAX_EVENTS_BEHIND + 6):
            await peer.publish("runtime.operator.heartbeat.h", beat_of("h", labels={"zone": str(zone)}))
        last = {"zone": str(MAX_EVENTS_BEHIND + 5)}
        await the(berth.Changed, aiter(fleet), lambda changed: changed.host.heartbeat.labels == last)
        assert await anext(slow) == berth.Missed(6)
        later = await anext(slow)
        assert isinstance(later, berth.Changed)
        assert later.host.heartbeat.labels["zone"] == "6"
    assert len([event async for event in slow]) == MAX_EVENTS_BEHIND - 1
    assert [event async for event in closed] == []


async def test_a_fleet_that_is_not_watched_says_so(bus: berth.Bus) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        aiter(berth.Fleet(bus))


async def test_a_fleet_ends_with_its_connection(broker: Broker) -> None:
    bus = await berth.connect(broker.url)
    async with berth.Fleet(bus) as fleet:
        await bus.close()
        assert [event async for event in fleet] == []
    with pytest.raises(berth.BusClosed):
        await fleet.client("h").status("a")
