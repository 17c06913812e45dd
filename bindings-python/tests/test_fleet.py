"""A fleet and its readers: their ends, options, starts in flight, restarts, and floods of bad messages."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

import berth
from berth import Health, Reason
from berth._log_limit import MAX_LINES
from berth.errors import FleetStateError, InvalidOptionError
from berth.scheduler import _liveness as lv
from support import Broker, Peer, eventually, with_timeout
from test_scheduler import FAST_LIVENESS, heartbeat_payload, next_event


async def drain(events: AsyncIterator[berth.FleetEvent]) -> list[berth.FleetEvent]:
    return await with_timeout(_collect(events))


async def _collect(events: AsyncIterator[berth.FleetEvent]) -> list[berth.FleetEvent]:
    return [event async for event in events]


# --- the end of readers


async def test_readers_end_with_the_fleet(bus: berth.Bus) -> None:
    async with berth.Fleet(bus) as fleet:
        reader = fleet.events()
        waiting = asyncio.create_task(_collect(reader))
        await asyncio.sleep(0)
    assert await with_timeout(waiting) == []
    # Also a reader that is created or read afterwards.
    assert await drain(reader) == []
    assert await drain(fleet.events()) == []
    assert await drain(aiter(fleet)) == []


async def test_readers_end_with_the_bus(broker: Broker) -> None:
    bus = await berth.connect(broker.url)
    async with berth.Fleet(bus) as fleet:
        waiting = asyncio.create_task(_collect(fleet.events()))
        await asyncio.sleep(0)
        await bus.close()
        assert await with_timeout(waiting) == []
        assert await drain(fleet.events()) == []
        assert await drain(aiter(fleet)) == []
    with pytest.raises(berth.BusClosedError):
        await with_timeout(berth.Fleet(bus).__aenter__())


async def test_readers_end_if_the_bus_was_closed_before_the_fleet(broker: Broker) -> None:
    bus = await berth.connect(broker.url)
    await bus.close()
    fleet = berth.Fleet(bus)
    early = fleet.events()
    with pytest.raises(berth.BusClosedError):
        await fleet.__aenter__()
    for reader in (early, fleet.events(), aiter(fleet)):
        assert await drain(reader) == []


async def test_reader_of_a_fleet_that_is_not_watched_is_an_error(bus: berth.Bus) -> None:
    fleet = berth.Fleet(bus)
    reader = fleet.events()
    with pytest.raises(FleetStateError, match="async with"):
        await with_timeout(anext(reader))
    with pytest.raises(FleetStateError, match="async with"):
        aiter(fleet)
    async with fleet:
        pass
    with pytest.raises(FleetStateError, match="create another"):
        await fleet.__aenter__()


async def test_new_reader_begins_with_the_hosts_that_are_there(bus: berth.Bus, peer: Peer) -> None:
    options = berth.LivenessOptions(settling_period_s=0.1, suspect_after_s=1.0, lost_after_s=60)
    async with berth.Fleet(bus, options) as fleet:
        await bus.flush(5)

        def health(host_id: str) -> Health | None:
            host = fleet.host(host_id)
            return None if host is None else host.health

        for host_id in ("alive", "frozen", "gone"):
            if host_id != "gone":
                await peer.subscribe(f"runtime.host.{host_id}.>")
            await peer.publish(f"runtime.operator.heartbeat.{host_id}", heartbeat_payload(host_id))
        while (health("alive"), health("frozen"), health("gone")) != (
            Health.SUSPECT,
            Health.SUSPECT,
            Health.LOST,
        ):
            await with_timeout(anext(aiter(fleet)))
        await peer.publish("runtime.operator.heartbeat.alive", heartbeat_payload("alive"))
        while health("alive") is not Health.ALIVE:
            await with_timeout(anext(aiter(fleet)))
        events = fleet.events()
        first, second, third = [await with_timeout(anext(events)) for _ in range(3)]
        assert isinstance(first, berth.HostJoined)
        assert isinstance(second, berth.HostJoined)
        assert (first.host.id, second.host.id) == ("alive", "frozen")
        assert third == berth.HostSuspect("frozen", Reason.SILENT)


async def test_lost_host_that_restarts_is_lost_and_joins(bus: berth.Bus, peer: Peer) -> None:
    subject = "runtime.operator.heartbeat.h"
    async with berth.Fleet(bus, FAST_LIVENESS) as fleet:
        await bus.flush(5)
        await peer.publish(subject, heartbeat_payload("h"))
        await next_event(berth.HostLost, aiter(fleet))
        await peer.subscribe("runtime.host.h.>")
        await peer.publish(subject, heartbeat_payload("h", startedAt="2020-01-02T00:00:00Z"))
        lost, joined = [await with_timeout(anext(aiter(fleet))) for _ in range(2)]
        assert lost == berth.HostLost("h", Reason.RESTARTED)
        assert isinstance(joined, berth.HostJoined)
        assert (joined.host.health, joined.host.reason) == (Health.ALIVE, None)
        # The next event is that of the host's silence, not a recovery.
        assert isinstance(await with_timeout(anext(aiter(fleet))), berth.HostSuspect)


# --- options


@pytest.mark.parametrize(
    ("options", "suspect_s", "lost_s"),
    [
        ({}, 20, 35),
        ({"lost_after_s": 10}, 10 * 4 / 7, 10),
        ({"lost_after_s": 10, "suspect_after_s": 20}, 10, 10),
        ({"lost_after_s": 60}, 20, 60),
        ({"suspect_after_s": 5}, 5, 35),
        ({"lost_after_s": 30, "forget_after_s": 1}, 30 * 4 / 7, 30),
    ],
)
def test_silent_host_is_lost_at_the_configured_time(
    options: dict[str, Any], suspect_s: float, lost_s: float
) -> None:
    settled = berth.LivenessOptions(settling_period_s=0, **options)
    liveness, at_s = lv.Liveness(settled), dict[Any, float]()
    liveness.step(0, lv.Connected())
    liveness.step(0, lv.HeartbeatReceived("h"))
    for tick in range(round(70 / lv.TICK_S)):
        for action in liveness.step(tick * lv.TICK_S, lv.Tick()):
            if isinstance(action, lv.SetHealth):
                at_s[action.health] = tick * lv.TICK_S
            elif isinstance(action, lv.Forget):
                at_s["forgotten"] = tick * lv.TICK_S
    assert at_s[Health.SUSPECT] == pytest.approx(suspect_s, abs=0.2)
    assert at_s[Health.LOST] == pytest.approx(lost_s, abs=0.2)
    assert at_s.get("forgotten", math.inf) >= at_s[Health.LOST]


NUMBERS = [math.nan, -1, -math.inf]


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize("name", berth.LivenessOptions.__dataclass_fields__)
def test_refuses_invalid_liveness_option(name: str, value: Any) -> None:
    with pytest.raises(InvalidOptionError, match=f"LivenessOptions.{name}"):
        berth.LivenessOptions(**{name: value})
    if name in ("probe_interval_s", "lost_after_s", "suspect_after_s", "probes_per_second", "forget_after_s"):
        zero: Any = 0
        with pytest.raises(InvalidOptionError):
            berth.LivenessOptions(**{name: zero})
    if name in ("probe_interval_s", "settling_period_s", "mass_loss_percent"):
        infinity: Any = math.inf
        with pytest.raises(InvalidOptionError):
            berth.LivenessOptions(**{name: infinity})


@pytest.mark.parametrize("value", [*NUMBERS, 0])
@pytest.mark.parametrize("name", berth.Timeouts.__dataclass_fields__)
def test_refuses_invalid_timeout(name: str, value: float) -> None:
    with pytest.raises(InvalidOptionError, match=f"Timeouts.{name}"):
        berth.Timeouts(**{name: value})


def test_host_is_never_lost_or_forgotten_with_infinite_times() -> None:
    liveness = lv.Liveness(berth.LivenessOptions(lost_after_s=math.inf, forget_after_s=math.inf))
    liveness.step(0, lv.Connected())
    liveness.step(0, lv.HeartbeatReceived("h"))
    healths = [
        action.health
        for now_s in range(1, 100_000, 10)
        for action in liveness.step(now_s, lv.Tick())
        if isinstance(action, lv.SetHealth)
    ]
    assert healths == [Health.SUSPECT]


# --- starts in flight


async def busy_until_s(fleet: berth.Fleet) -> float:
    busy_until: float = fleet._watcher._liveness._hosts["h"].busy_until_s
    return busy_until - asyncio.get_running_loop().time()


async def test_start_in_flight_ends_with_its_own_block(bus: berth.Bus, peer: Peer) -> None:
    async with berth.Fleet(bus) as fleet:
        await bus.flush(5)
        await peer.subscribe("runtime.host.h.>")
        early = fleet.expect_busy("h", duration_s=500)
        with early:
            # The host joins while its start is in flight.
            await peer.publish("runtime.operator.heartbeat.h", heartbeat_payload("h"))
            await next_event(berth.HostJoined, aiter(fleet))
            assert 400 < await busy_until_s(fleet) <= 500
        assert await busy_until_s(fleet) <= 0
        with fleet.expect_busy("h", duration_s=100):
            with fleet.expect_busy("h", duration_s=1000):
                assert 900 < await busy_until_s(fleet) <= 1000
            assert 90 < await busy_until_s(fleet) <= 100, "the outer deadline is restored"
            with fleet.expect_busy("h", duration_s=10):
                assert 90 < await busy_until_s(fleet) <= 100
            with pytest.raises(RuntimeError), fleet.expect_busy("h", duration_s=1000):
                raise RuntimeError
            assert 90 < await busy_until_s(fleet) <= 100
        assert await busy_until_s(fleet) <= 0
        fleet.expect_busy("h", duration_s=1000)
        assert await busy_until_s(fleet) <= 0, "without `with`, the call has no effect"
        assert fleet._watcher._busy_until_s == {}
        for invalid in (math.nan, math.inf, -1):
            with pytest.raises(InvalidOptionError):
                fleet.expect_busy("h", duration_s=invalid)
    with fleet.expect_busy("h", duration_s=1):
        pass


# --- bad messages


async def test_log_of_bad_heartbeats_is_limited_and_counted(
    bus: berth.Bus, peer: Peer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("berth._log_limit.INTERVAL_S", 600)  # one interval, also on a busy machine
    flood = 2000
    async with berth.Fleet(bus) as fleet:
        await bus.flush(5)
        for number in range(flood):
            subject = f"runtime.operator.heartbeat.x{number % 3}"
            await peer._client.publish(subject, b"unreadable")
            await peer._client.publish(subject, heartbeat_payload("another"))
        await peer.publish("runtime.operator.heartbeat.good", heartbeat_payload("good"))
        joined = await next_event(berth.HostJoined, aiter(fleet))
        assert joined.host.id == "good"
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2 * (MAX_LINES + 1)
    assert sum(f"suppressed {flood - MAX_LINES} more" in warning for warning in warnings) == 2


async def test_log_limit_starts_again_after_its_interval(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from berth import _log_limit

    monkeypatch.setattr(_log_limit, "INTERVAL_S", 0.05)
    limited = _log_limit.LimitedLog(logging.getLogger("berth"))
    for number in range(MAX_LINES + 5):
        limited.warning("kind %d", number)
    limited.warning("other")

    async def poll() -> bool | None:
        return "suppressed 5 more lines like this: kind %d" in caplog.text or None

    await eventually("the number of suppressed lines is logged", poll)
    limited.warning("kind %d", 99)
    assert "kind 99" in caplog.text
    limited.close()
    assert "other" in caplog.text
    assert len(caplog.records) == MAX_LINES + 3


async def test_probes_to_surrogate_ids_are_refused_by_the_client(bus: berth.Bus) -> None:
    for host_id in ("\ud800", "", "a.b", "a b", "x" * 300):
        with pytest.raises(berth.InvalidHostIdError):
            berth.HostClient(bus, host_id)
    client = berth.HostClient(bus, "absent")
    for call in (client.stop, client.status):
        with pytest.raises(berth.EncodeError, match="surrogate"):
            await call("\ud800")
    with pytest.raises(berth.EncodeError, match="surrogate"):
        await client.start("\ud800", berth.Workload())
