"""A host served by the SDK, tested over plain NATS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import berth
from berth import WorkloadState
from berth._log_limit import MAX_LINES
from berth.host._executor import Executor
from support import (
    Broker,
    FakeHost,
    Peer,
    Received,
    ServedHost,
    eventually,
    id_payload,
    start_payload,
    with_timeout,
)


@pytest.fixture
async def peer(peer: Peer) -> Peer:
    await peer.subscribe("runtime.operator.heartbeat.>")
    return peer


@pytest.fixture
async def host(broker: Broker, peer: Peer) -> AsyncIterator[ServedHost]:
    """A host that has sent its first heartbeat, and so receives commands (HOST-WIRE-014)."""
    async with ServedHost(broker.url) as host:
        heartbeat = await peer.receive()
        assert heartbeat.subject == f"runtime.operator.heartbeat.{host.id}"
        assert heartbeat.json()["id"] == host.id
        yield host


async def wait_until_free(peer: Peer, host: ServedHost, workload_id: str) -> None:
    async def poll() -> bool | None:
        status = await peer.command(host.id, "workload.status", id_payload(workload_id))
        return status.state == "NOT_FOUND" or None

    await eventually("the ID is free", poll)


async def wait_for_instances(host: ServedHost, *ids: str) -> None:
    async def poll() -> bool | None:
        return host.fake.instances == set(ids) or None

    await eventually(f"the host has the instances {ids}", poll)


async def test_workload_runs_until_stopped(peer: Peer, host: ServedHost) -> None:
    unknown = await peer.command(host.id, "workload.status", id_payload("a"))
    assert unknown.state_and_code == ("NOT_FOUND", None)
    started = await peer.command(host.id, "workload.start", start_payload("a"))
    assert (started.state_and_code, started.id) == (("RUNNING", None), "a")
    heartbeat = (await peer.command(host.id, "heartbeat", "not JSON")).json()
    assert (heartbeat["id"], heartbeat["workloadCount"]) == (host.id, "1")
    assert host.fake.instances == {"a"}
    again = await peer.command(host.id, "workload.start", start_payload("a"))
    assert again.state_and_code == ("ERROR", 409)
    stopped = await peer.command(host.id, "workload.stop", id_payload("a"))
    assert stopped.state_and_code == ("STOPPING", None)
    await wait_until_free(peer, host, "a")
    assert host.fake.instances == set()
    heartbeat = (await peer.command(host.id, "heartbeat", "")).json()
    assert "workloadCount" not in heartbeat
    assert "systemCpuUsage" not in heartbeat, "the host describes NaN, which is left out"
    host.shutdown.set()
    await host.join()


async def test_refuses_invalid_requests_with_one_reply_each(peer: Peer, host: ServedHost) -> None:
    cases: list[tuple[str, bytes | str, str, int]] = [
        ("workload.start", "", "the payload is empty", 400),
        ("workload.start", '{"workloadId":"b"', "not a JSON object", 400),
        ("workload.start", "[]", "an array", 400),
        ("workload.start", id_payload("b"), "field `workload` is missing", 400),
        ("workload.start", start_payload(""), "field `workloadId`", 400),
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
        ("workload.status", '{"workloadId":"a","workloadId":"b"}', "duplicate key", 400),
        ("workload.status", id_payload("x" * 600_000), "600000 bytes", 413),
        ("workload.start.extra", start_payload("b"), "unknown command 'workload.start.extra'", 404),
        ("workload.restart", "{}", "unknown command", 404),
    ]
    pending = {}
    for command, payload, expected, code in cases:
        inbox = await peer.send_request(f"runtime.host.{host.id}.{command}", payload)
        pending[inbox] = (expected, code)
    for _ in cases:
        reply = await peer.receive()
        expected, code = pending.pop(reply.subject)
        assert reply.state_and_code == ("ERROR", code), expected
        assert expected in reply.message
        assert reply.headers["Nats-Service-Error"]
    status = await peer.command(host.id, "workload.status", id_payload("b"))
    assert status.state == "NOT_FOUND", "no workload was created"
    assert await peer.drain() == [], "one reply each"


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ('{"workloadId":"b","workload":{"name":7}}', "b"),
        ('{"workload_id":"b","workload":[]}', "b"),
        ('{"workloadId":"b","workload_id":"c"}', ""),
        ('{"workloadId":"b","workloadId":"b"}', ""),
        ('{"workloadId":"\\ud800","workload":7}', ""),
        (f'{{"workloadId":"{"x" * 257}","workload":7}}', ""),
        ('{"workloadId":["b"],"workload":7}', ""),
        ('{"workloadId":"b"', ""),
        ('["b"]', ""),
    ],
)
async def test_refusal_has_the_id_if_it_can_be_read(
    peer: Peer, host: ServedHost, payload: str, expected: str
) -> None:
    refused = await peer.command(host.id, "workload.start", payload)
    assert (refused.state_and_code, refused.id) == (("ERROR", 400), expected)


@pytest.mark.parametrize("workload_id", ["a b/../\u00e9 \n", "*.>", '"\\\0', "\a" * 256, "🦀" * 64])
async def test_echoes_ids_byte_for_byte(peer: Peer, host: ServedHost, workload_id: str) -> None:
    started = await peer.command(host.id, "workload.start", start_payload(workload_id))
    assert (started.state, started.id) == ("RUNNING", workload_id)


async def test_accepts_one_of_many_concurrent_starts(peer: Peer, host: ServedHost) -> None:
    for _ in range(20):
        await peer.send_request(f"runtime.host.{host.id}.workload.start", start_payload("a"))
    outcomes = sorted([(await peer.receive()).state_and_code for _ in range(20)], key=str)
    assert outcomes == [("ERROR", 409)] * 19 + [("RUNNING", None)]


async def test_status_is_not_delayed_by_a_burst_of_starts(peer: Peer, host: ServedHost) -> None:
    # More than the maximum in flight: the host refuses the rest immediately. Stops have a maximum of their own.
    for number in range(600):
        await peer.send_request(f"runtime.host.{host.id}.workload.start", start_payload(str(number), "hang"))
    sent_s = time.monotonic()
    inbox = await peer.send_request(f"runtime.host.{host.id}.workload.status", id_payload("0"))
    replies: list[Received] = []
    while not replies or replies[-1].subject != inbox:
        replies.append(await peer.receive())
    assert time.monotonic() - sent_s < 5
    status = replies.pop()
    assert (status.state, status.message) == ("STARTING", "hanging")
    stop = await peer.send_request(f"runtime.host.{host.id}.workload.stop", id_payload("0"))
    while len(replies) < 601:
        replies.append(await peer.receive())
    assert time.monotonic() - sent_s < 10
    [stopped] = [reply for reply in replies if reply.subject == stop]
    assert stopped.state_and_code == ("STOPPING", None)
    outcomes = [reply.state_and_code for reply in replies]
    assert outcomes.count(("STOPPING", None)) == 2, "the stop and the start that it cancelled"
    assert outcomes.count(("STARTING", None)) == 511
    assert outcomes.count(("ERROR", 503)) == 88
    host.shutdown.set()
    await host.join()
    assert host.fake.instances == set(), "cancelled starts release their resources"


async def test_stop_cancels_start_in_flight(peer: Peer, host: ServedHost) -> None:
    start = await peer.send_request(f"runtime.host.{host.id}.workload.start", start_payload("a", "hang"))
    stop = await peer.send_request(f"runtime.host.{host.id}.workload.stop", id_payload("a"))
    replies = [await peer.receive(), await peer.receive()]
    assert {reply.subject for reply in replies} == {start, stop}
    assert {reply.state_and_code for reply in replies} == {("STOPPING", None)}
    await wait_until_free(peer, host, "a")
    assert host.fake.instances == set()


async def test_stop_immediately_after_start_cancels_it() -> None:
    host = FakeHost()
    executor = Executor(host)
    start = executor.start("a", berth.Workload(name="hang"))
    stop = executor.stop("a")
    assert ((await start).state, (await stop).state) == (WorkloadState.STOPPING, WorkloadState.STOPPING)
    await with_timeout(executor.wait_idle())
    assert host.instances == set()
    assert (await executor.status("a")).state is WorkloadState.NOT_FOUND


async def test_start_that_ignores_cancellation_is_stopped() -> None:
    class UncancellableHost(FakeHost):
        async def _start(self, request: berth.StartRequest) -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await super()._start(request)

    host = UncancellableHost()
    executor = Executor(host)
    start = executor.start("a", berth.Workload(name="hang"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert host.instances == {"a"}
    executor.stop("a")
    assert (await start).state is WorkloadState.STOPPING
    await with_timeout(executor.wait_idle())
    assert host.instances == set()


async def test_reports_failures_and_continues(
    peer: Peer, host: ServedHost, caplog: pytest.LogCaptureFixture
) -> None:
    async def start(workload_id: str, name: str) -> Received:
        return await peer.command(host.id, "workload.start", start_payload(workload_id, name))

    assert (await start("a", "refuse")).state_and_code == ("ERROR", None)
    assert (await start("a", "run")).state_and_code == ("RUNNING", None), (
        "the ID is free again, because no guest code has run"
    )
    crashed = await start("p", "crash")
    assert crashed.state_and_code == ("ERROR", None)
    assert "requested crash" not in crashed.message, "details go to the log only"
    assert "requested crash" in caplog.text
    assert (await start("p", "run")).state_and_code == ("ERROR", 409), (
        "the ID stays in use, because guest code may have run"
    )
    for name, message in (("complete", "done"), ("complete in a thread", "done in a thread")):
        completed = await start(name, name)
        assert (completed.state, completed.message) == ("COMPLETED", message)
    failed = await start("f", "fail")
    assert (failed.state, failed.message) == ("ERROR", "broken")
    await wait_for_instances(host, "a")
    status = await peer.command(host.id, "workload.status", id_payload("complete"))
    assert status.state_and_code == ("COMPLETED", None)
    stopped = await peer.command(host.id, "workload.stop", id_payload("complete"))
    assert stopped.state == "STOPPING"
    await wait_until_free(peer, host, "complete")


async def test_log_of_failed_starts_is_limited_and_counted(
    peer: Peer, host: ServedHost, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("berth._log_limit.INTERVAL_S", 600)  # one interval, also on a busy machine
    for number in range(MAX_LINES + 20):
        reply = await peer.command(host.id, "workload.start", start_payload(str(number), "crash"))
        assert reply.state == "ERROR"
    host.shutdown.set()
    await host.join()
    assert caplog.text.count("RuntimeError: requested crash") == MAX_LINES
    assert "more lines like this: unexpected error while starting" in caplog.text


async def test_executes_command_without_reply_subject(peer: Peer, host: ServedHost) -> None:
    subject = f"runtime.host.{host.id}.workload.start"
    await peer.publish(subject, start_payload("a").encode())
    await wait_for_instances(host, "a")
    # The host must not reply on a command subject: another host would execute the reply as a command.
    await peer.subscribe("runtime.host.other.>")
    await peer.publish(subject, start_payload("a").encode(), reply="runtime.host.other.workload.stop")
    inbox = await peer.send_request(f"runtime.host.{host.id}.workload.status", id_payload("a"))
    status = await peer.receive()
    assert (status.subject, status.state) == (inbox, "RUNNING")
    assert await peer.drain() == []


async def test_shutdown_unsubscribes_replies_to_pending_starts_and_stops_workloads(
    peer: Peer, host: ServedHost
) -> None:
    await peer.command(host.id, "workload.start", start_payload("a"))
    pending = await peer.send_request(f"runtime.host.{host.id}.workload.start", start_payload("b", "hang"))
    await wait_for_instances(host, "a", "b")
    host.shutdown.set()
    reply = await peer.receive()
    assert (reply.subject, reply.state_and_code) == (pending, ("STOPPING", None))
    await host.join()
    assert host.fake.instances == set()
    no_responders = await peer.command(host.id, "workload.status", "{}")
    assert no_responders.headers["Status"] == "503"


async def test_shutdown_unsubscribes_before_workloads_have_stopped(peer: Peer, host: ServedHost) -> None:
    await peer.command(host.id, "workload.start", start_payload("a"))
    release = asyncio.Event()
    stop = host.fake.stop

    async def stop_slowly(instance: str) -> None:
        await release.wait()
        await stop(instance)

    host.fake.stop = stop_slowly  # type: ignore[method-assign]
    host.shutdown.set()

    async def poll() -> bool | None:
        return (await peer.command(host.id, "workload.status", "{}")).headers.get("Status") == "503" or None

    await eventually("the broker reports no responders", poll)
    assert host.fake.instances == {"a"}
    release.set()
    await host.join()
    assert host.fake.instances == set()


async def test_survives_broker_restart(broker: Broker, peer: Peer, host: ServedHost) -> None:
    await peer.command(host.id, "workload.start", start_payload("a"))
    broker.stop()
    broker.start()
    other = await Peer.connect(broker.url)
    await other.subscribe("runtime.operator.heartbeat.>")

    # The host may have sent its heartbeat before the peer subscribed, so poll with a request.
    async def poll() -> bool | None:
        reply = await other.command(host.id, "workload.status", id_payload("a"))
        return ("Status" not in reply.headers and reply.state == "RUNNING") or None

    await eventually("the host has reconnected", poll)
    assert host.fake.instances == {"a"}, "the workload kept running"
    assert len(await other.drain()) <= 1, "no burst"
    await other.close()


async def test_waits_for_broker_at_startup(broker: Broker) -> None:
    broker.stop()
    async with ServedHost(broker.url) as host:
        broker.start()
        peer = await Peer.connect(broker.url)

        async def poll() -> bool | None:
            reply = await peer.command(host.id, "heartbeat", "")
            return "Status" not in reply.headers or None

        await eventually("the host replies", poll)
        await peer.close()
        broker.stop()
        host.shutdown.set()
        await host.join()


async def test_shortens_reply_to_maximum_payload(tmp_path: Path) -> None:
    small = Broker(tmp_path, "max_payload: 2048")
    peer = await Peer.connect(small.url)
    await peer.subscribe("runtime.operator.heartbeat.>")
    async with ServedHost(small.url) as host:
        await peer.receive()
        long_id = "\a" * 200
        refused = await peer.command(host.id, "workload.start", start_payload(long_id, "refuse"))
        assert (refused.state, refused.id) == ("ERROR", long_id)
        assert len(refused.payload) <= 2048
        assert refused.message.endswith("xx…")
    await peer.close()
    small.stop()


async def test_publishes_heartbeats_at_interval(broker: Broker, peer: Peer) -> None:
    async with ServedHost(broker.url, berth.ServeOptions(heartbeat_interval_s=1)) as host:
        first = await peer.receive()
        received_s = time.monotonic()
        second = await peer.receive()
        assert time.monotonic() - received_s >= 0.9
        assert first.json() == second.json()
        assert len(first.json()["startedAt"]) >= 20
    no_responders = await peer.command(host.id, "heartbeat", "")
    assert no_responders.headers["Status"] == "503"


async def test_rejects_invalid_options_and_descriptions(broker: Broker) -> None:
    class InvalidHost(berth.Host[None]):
        name = "Not A Name"

        def describe(self) -> berth.Description:
            return berth.Description(hostname="h", friendly_name=self.name, version="1")

        async def start(self, request: berth.StartRequest) -> None:
            """Never called."""

        async def stop(self, instance: None) -> None:
            """Never called."""

    with pytest.raises(berth.ServeError, match="'Not A Name' is not a DNS-1123"):
        await berth.serve(broker.url, InvalidHost())
    with pytest.raises(berth.ServeError, match=r"'a\.b'"):
        await berth.serve(broker.url, InvalidHost(), berth.ServeOptions(host_id="a.b"))
    with pytest.raises(berth.ServeError, match="31 s"):
        await berth.serve(broker.url, InvalidHost(), berth.ServeOptions(heartbeat_interval_s=31))
    with pytest.raises(berth.ConnectError, match="no NATS server"):
        await berth.serve("", InvalidHost())


async def test_shared_connection_stays_open_until_bus_is_closed(broker: Broker, peer: Peer) -> None:
    async with berth.connect(broker.url) as bus:
        first, second = ServedHost(bus), ServedHost(bus)
        assert {(await peer.receive()).json()["id"] for _ in range(2)} == {first.id, second.id}
        first.shutdown.set()
        await first.join()
        reply = await peer.command(second.id, "workload.status", id_payload("a"))
        assert reply.state == "NOT_FOUND"
    with pytest.raises(berth.BusClosedError):
        await second.join()


async def test_validates_dns_1123_subdomains() -> None:
    from berth.host.description import is_dns_1123_subdomain

    for valid in ("a", "quiet-river-0412", "a.b-c.9", "x" * 63):
        assert is_dns_1123_subdomain(valid), valid
    for invalid in ("", "A", "a_b", "-a", "a-", "a..b", "a b", "a\n", "a" * 64, ".".join(["a" * 60] * 5)):
        assert not is_dns_1123_subdomain(invalid), invalid


async def test_ignores_request_headers(host: ServedHost, broker: Broker) -> None:
    import nats

    client = await nats.connect(broker.url)
    reply = await client.request(
        f"runtime.host.{host.id}.workload.status",
        json.dumps({"workloadId": "a"}).encode(),
        timeout=5,
        headers={"X-Custom": "value"},
    )
    assert json.loads(reply.data)["workloadStatus"]["workloadState"] == "WORKLOAD_STATE_NOT_FOUND"
    await client.close()
