"""A host served by the SDK, seen from the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

import pytest

import berth
from berth import WorkloadState
from berth.host._runs import Runs
from support import Broker, Heard, Served, Toy, Wire, eventually, id_of, soon, start_of


@pytest.fixture
async def wire(broker: Broker) -> AsyncIterator[Wire]:
    wire = await Wire.connect(broker.url)
    await wire.subscribe("runtime.operator.heartbeat.>")
    yield wire
    await wire.close()


@pytest.fixture
async def host(broker: Broker, wire: Wire) -> AsyncIterator[Served]:
    """A host whose first heartbeat was seen: whoever reacts to it is heard (HOST-WIRE-014)."""
    async with Served(broker.url) as host:
        beat = await wire.receive()
        assert beat.subject == f"runtime.operator.heartbeat.{host.id}"
        assert beat.json()["id"] == host.id
        yield host


async def is_free(wire: Wire, host: Served, workload_id: str) -> None:
    async def look() -> bool | None:
        status = await wire.command(host.id, "workload.status", id_of(workload_id))
        return status.state[0] == "NOT_FOUND" or None

    await eventually("the id is free", look)


async def holds(host: Served, *ids: str) -> None:
    async def look() -> bool | None:
        return host.toy.held == set(ids) or None

    await eventually(f"the host holds {ids}", look)


async def test_a_workload_lives_and_ends(wire: Wire, host: Served) -> None:
    unknown = await wire.command(host.id, "workload.status", id_of("a"))
    assert unknown.state == ("NOT_FOUND", None)
    started = await wire.command(host.id, "workload.start", start_of("a"))
    assert (started.state, started.id) == (("RUNNING", None), "a")
    beat = (await wire.command(host.id, "heartbeat", "not even JSON")).json()
    assert (beat["id"], beat["workloadCount"]) == (host.id, "1")
    assert host.toy.held == {"a"}
    again = await wire.command(host.id, "workload.start", start_of("a"))
    assert again.state == ("ERROR", 409)
    stopped = await wire.command(host.id, "workload.stop", id_of("a"))
    assert stopped.state == ("STOPPING", None)
    await is_free(wire, host, "a")
    assert host.toy.held == set()
    beat = (await wire.command(host.id, "heartbeat", "")).json()
    assert "workloadCount" not in beat
    assert "systemCpuUsage" not in beat, "what JSON cannot say is left out"
    host.shutdown.set()
    await host.ended()


async def test_whatever_arrives_is_answered_once_and_survived(wire: Wire, host: Served) -> None:
    cases: list[tuple[str, bytes | str, str, int]] = [
        ("workload.start", "", "the payload is empty", 400),
        ("workload.start", '{"workloadId":"b"', "not one JSON object", 400),
        ("workload.start", "[]", "an array", 400),
        ("workload.start", id_of("b"), "field `workload` is missing", 400),
        ("workload.start", start_of(""), "field `workloadId`", 400),
        (
            "workload.start",
            '{"workloadId":"b","workload":{"name":7}}',
            "`workload.name`: expected a string",
            400,
        ),
        (
            "workload.start",
            '{"workloadId":"b","workload":{"service":{"maxRestarts":"18446744073709551615"}}}',
            "field `workload.service.maxRestarts`",
            400,
        ),
        ("workload.stop", "{}", "field `workloadId`", 400),
        ("workload.status", b'{"workloadId":"\xff"}', "the payload", 400),
        ("workload.status", "[" * 900_000, "nested deeper", 400),
        ("workload.status", '{"workloadId":"a","workloadId":"b"}', "stands twice", 400),
        ("workload.status", id_of("x" * 600_000), "600000 bytes", 413),
        ("workload.start.extra", start_of("b"), "no command 'workload.start.extra'", 404),
        ("workload.restart", "{}", "no command", 404),
    ]
    asked = {}
    for command, payload, expected, code in cases:
        inbox = await wire.ask(f"runtime.host.{host.id}.{command}", payload)
        asked[inbox] = (expected, code)
    for _ in cases:
        answer = await wire.receive()
        expected, code = asked.pop(answer.subject)
        assert answer.state == ("ERROR", code), expected
        assert expected in answer.message
        assert answer.headers["Nats-Service-Error"]
    status = await wire.command(host.id, "workload.status", id_of("b"))
    assert status.state[0] == "NOT_FOUND", "nothing was created"
    assert await wire.rest() == [], "one reply each"


@pytest.mark.parametrize("odd", ["a b/../\u00e9 \n", "*.>", '"\\\0', "\a" * 256, "🦀" * 64])
async def test_ids_are_echoed_byte_for_byte(wire: Wire, host: Served, odd: str) -> None:
    started = await wire.command(host.id, "workload.start", start_of(odd))
    assert (started.state[0], started.id) == ("RUNNING", odd)


async def test_of_many_starts_one_wins(wire: Wire, host: Served) -> None:
    for _ in range(20):
        await wire.ask(f"runtime.host.{host.id}.workload.start", start_of("a"))
    states = sorted([(await wire.receive()).state for _ in range(20)], key=str)
    assert states == [("ERROR", 409)] * 19 + [("RUNNING", None)]


async def test_a_burst_is_answered_in_time_and_status_never_waits(wire: Wire, host: Served) -> None:
    # More than the host works on at once: the rest is refused, and nothing waits for it.
    for number in range(600):
        await wire.ask(f"runtime.host.{host.id}.workload.start", start_of(str(number), "hang"))
    asked = time.monotonic()
    inbox = await wire.ask(f"runtime.host.{host.id}.workload.status", id_of("0"))
    answers: list[Heard] = []
    while not answers or answers[-1].subject != inbox:
        answers.append(await wire.receive())
    assert time.monotonic() - asked < 5
    status = answers.pop()
    assert (status.state[0], status.message) == ("STARTING", "hanging")
    while len(answers) < 600:
        answers.append(await wire.receive())
    assert time.monotonic() - asked < 10
    states = [answer.state for answer in answers]
    assert states.count(("STARTING", None)) == 512
    assert states.count(("ERROR", 503)) == 88
    host.shutdown.set()
    await host.ended()
    assert host.toy.held == set(), "cancelled starts are released"


async def test_a_stop_cancels_a_start(wire: Wire, host: Served) -> None:
    start = await wire.ask(f"runtime.host.{host.id}.workload.start", start_of("a", "hang"))
    stop = await wire.ask(f"runtime.host.{host.id}.workload.stop", id_of("a"))
    answers = [await wire.receive(), await wire.receive()]
    assert {answer.subject for answer in answers} == {start, stop}
    assert {answer.state for answer in answers} == {("STOPPING", None)}
    await is_free(wire, host, "a")
    assert host.toy.held == set()


async def test_a_stop_in_the_same_moment_as_the_start_cancels_it() -> None:
    toy = Toy()
    runs = Runs(toy)
    start = runs.start("a", berth.Workload(name="hang"))
    stop = runs.stop("a")
    assert ((await start).state, (await stop).state) == (WorkloadState.STOPPING, WorkloadState.STOPPING)
    await soon(runs.idle())
    assert toy.held == set()
    assert (await runs.status("a")).state is WorkloadState.NOT_FOUND


async def test_a_start_that_comes_up_in_spite_of_its_cancellation_is_stopped() -> None:
    class Stubborn(Toy):
        async def _begin(self, start: berth.Start) -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await super()._begin(start)

    toy = Stubborn()
    runs = Runs(toy)
    start = runs.start("a", berth.Workload(name="hang"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert toy.held == {"a"}
    runs.stop("a")
    assert (await start).state is WorkloadState.STOPPING
    await soon(runs.idle())
    assert toy.held == set()


async def test_failures_are_told_and_the_host_lives_on(
    wire: Wire, host: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async def start(workload_id: str, name: str) -> Heard:
        return await wire.command(host.id, "workload.start", start_of(workload_id, name))

    assert (await start("a", "refuse")).state == ("ERROR", None)
    assert (await start("a", "run")).state == ("RUNNING", None), "no guest had run"
    crashed = await start("p", "crash")
    assert crashed.state == ("ERROR", None)
    assert "as asked" not in crashed.message, "what it was is for the log"
    assert "as asked" in caplog.text
    assert (await start("p", "run")).state == ("ERROR", 409), "a guest may have run"
    for name, message in (("complete", "done"), ("complete in a thread", "done there")):
        completed = await start(name, name)
        assert (completed.state[0], completed.message) == ("COMPLETED", message)
    failed = await start("f", "fail")
    assert (failed.state[0], failed.message) == ("ERROR", "broken")
    await holds(host, "a")
    status = await wire.command(host.id, "workload.status", id_of("complete"))
    assert status.state == ("COMPLETED", None)
    stopped = await wire.command(host.id, "workload.stop", id_of("complete"))
    assert stopped.state[0] == "STOPPING"
    await is_free(wire, host, "complete")


async def test_a_command_without_reply_is_carried_out(wire: Wire, host: Served) -> None:
    subject = f"runtime.host.{host.id}.workload.start"
    await wire.publish(subject, start_of("a").encode())
    await holds(host, "a")
    # A host never commands another in its caller's name.
    await wire.subscribe("runtime.host.other.>")
    await wire.publish(subject, start_of("a").encode(), reply="runtime.host.other.workload.stop")
    inbox = await wire.ask(f"runtime.host.{host.id}.workload.status", id_of("a"))
    status = await wire.receive()
    assert (status.subject, status.state[0]) == (inbox, "RUNNING")
    assert await wire.rest() == []


async def test_shutdown_unsubscribes_answers_and_stops(wire: Wire, host: Served) -> None:
    await wire.command(host.id, "workload.start", start_of("a"))
    pending = await wire.ask(f"runtime.host.{host.id}.workload.start", start_of("b", "hang"))
    await holds(host, "a", "b")
    host.shutdown.set()
    answer = await wire.receive()
    assert (answer.subject, answer.state) == (pending, ("STOPPING", None))
    await host.ended()
    assert host.toy.held == set()
    nobody = await wire.command(host.id, "workload.status", "{}")
    assert nobody.headers["Status"] == "503"


async def test_callers_learn_that_nobody_is_here_before_workloads_have_stopped(
    wire: Wire, host: Served
) -> None:
    await wire.command(host.id, "workload.start", start_of("a"))
    release = asyncio.Event()
    stop = host.toy.stop

    async def stop_slowly(instance: str) -> None:
        await release.wait()
        await stop(instance)

    host.toy.stop = stop_slowly  # type: ignore[method-assign]
    host.shutdown.set()

    async def look() -> bool | None:
        return (await wire.command(host.id, "workload.status", "{}")).headers.get("Status") == "503" or None

    await eventually("nobody listens", look)
    assert host.toy.held == {"a"}
    release.set()
    await host.ended()
    assert host.toy.held == set()


async def test_the_broker_goes_and_comes_back(broker: Broker, wire: Wire, host: Served) -> None:
    await wire.command(host.id, "workload.start", start_of("a"))
    broker.stop()
    broker.start()
    again = await Wire.connect(broker.url)
    await again.subscribe("runtime.operator.heartbeat.>")

    # It may have beaten before we subscribed; the next request shows that it is back.
    async def look() -> bool | None:
        answer = await again.command(host.id, "workload.status", id_of("a"))
        return ("Status" not in answer.headers and answer.state[0] == "RUNNING") or None

    await eventually("the host is back", look)
    assert host.toy.held == {"a"}, "it went on running"
    assert len(await again.rest()) <= 1, "no burst"
    await again.close()


async def test_a_host_waits_for_a_broker_that_is_not_there_yet(broker: Broker) -> None:
    broker.stop()
    async with Served(broker.url) as host:
        broker.start()
        wire = await Wire.connect(broker.url)

        async def look() -> bool | None:
            answer = await wire.command(host.id, "heartbeat", "")
            return "Status" not in answer.headers or None

        await eventually("the host answers", look)
        await wire.close()
        broker.stop()
        host.shutdown.set()
        await host.ended()


async def test_a_reply_is_made_to_fit_the_broker(tmp_path: object, broker: Broker) -> None:
    assert isinstance(tmp_path, type(broker.directory))
    small = Broker(tmp_path, "max_payload: 2048")
    wire = await Wire.connect(small.url)
    await wire.subscribe("runtime.operator.heartbeat.>")
    async with Served(small.url) as host:
        await wire.receive()
        long = "\a" * 200
        refused = await wire.command(host.id, "workload.start", start_of(long, "refuse"))
        assert (refused.state[0], refused.id) == ("ERROR", long)
        assert len(refused.payload) <= 2048
        assert refused.message.endswith("xx…")
    await wire.close()
    small.stop()


async def test_heartbeats_come_at_their_interval(broker: Broker, wire: Wire) -> None:
    async with Served(broker.url, berth.ServeOptions(heartbeat_interval_s=1)) as host:
        first = await wire.receive()
        at = time.monotonic()
        second = await wire.receive()
        assert time.monotonic() - at >= 0.9
        assert first.json() == second.json()
        assert len(first.json()["startedAt"]) >= 20
    nobody = await wire.command(host.id, "heartbeat", "")
    assert nobody.headers["Status"] == "503"


async def test_what_peers_would_misread_is_refused(broker: Broker) -> None:
    class Nameless(berth.Host[None]):
        name = "Not A Name"

        def describe(self) -> berth.Description:
            return berth.Description(hostname="h", friendly_name=self.name, version="1")

        async def start(self, start: berth.Start) -> None:
            """Never asked."""

        async def stop(self, instance: None) -> None:
            """Never asked."""

    with pytest.raises(berth.ServeError, match="'Not A Name' is not a DNS-1123"):
        await berth.serve(broker.url, Nameless())
    with pytest.raises(berth.ServeError, match=r"'a\.b'"):
        await berth.serve(broker.url, Nameless(), berth.ServeOptions(host_id="a.b"))
    with pytest.raises(berth.ServeError, match="31 s"):
        await berth.serve(broker.url, Nameless(), berth.ServeOptions(heartbeat_interval_s=31))
    with pytest.raises(berth.ConnectError, match="no server"):
        await berth.serve("", Nameless())


async def test_a_shared_connection_outlives_its_hosts_and_they_do_not_outlive_it(
    broker: Broker, wire: Wire
) -> None:
    async with berth.connect(broker.url) as bus:
        first, second = Served(bus), Served(bus)
        assert {(await wire.receive()).json()["id"] for _ in range(2)} == {first.id, second.id}
        first.shutdown.set()
        await first.ended()
        answer = await wire.command(second.id, "workload.status", id_of("a"))
        assert answer.state[0] == "NOT_FOUND"
    with pytest.raises(berth.BusClosed):
        await second.ended()


async def test_names_for_kubernetes() -> None:
    from berth.host.description import is_dns_1123_subdomain

    for good in ("a", "quiet-river-0412", "a.b-c.9", "x" * 63):
        assert is_dns_1123_subdomain(good), good
    for bad in ("", "A", "a_b", "-a", "a-", "a..b", "a b", "a\n", "a" * 64, ".".join(["a" * 60] * 5)):
        assert not is_dns_1123_subdomain(bad), bad


async def test_headers_of_requests_are_ignored_and_empty_replies_are_none(host: Served, broker: Broker) -> None:
    import nats

    client = await nats.connect(broker.url)
    answer = await client.request(
        f"runtime.host.{host.id}.workload.status",
        json.dumps({"workloadId": "a"}).encode(),
        timeout=5,
        headers={"X-Anything": "at all"},
    )
    assert json.loads(answer.data)["workloadStatus"]["workloadState"] == "WORKLOAD_STATE_NOT_FOUND"
    await client.close()


async def test_cancelling_leaves_no_task_behind(broker: Broker, wire: Wire) -> None:
    before = asyncio.all_tasks()
    async with Served(broker.url) as host:
        await wire.receive()
        await wire.command(host.id, "workload.start", start_of("a"))
        await wire.ask(f"runtime.host.{host.id}.workload.start", start_of("b", "hang"))
        await holds(host, "a", "b")

    async def look() -> bool | None:
        return asyncio.all_tasks() <= before | {t for t in asyncio.all_tasks() if "nats" in repr(t)} or None

    await eventually("all tasks have ended", look)
    assert host.toy.held == {"a"}, "a start that was cancelled is released"
