"""The end of `serve`: by cancellation, by signals, with the event loop, and with errors."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

import berth
from berth.errors import ServeError
from support import Broker, FakeHost, Peer, ServedHost, eventually, id_payload, start_payload, with_timeout

BINDINGS = Path(__file__).parents[1]


@pytest.fixture
async def peer(peer: Peer) -> Peer:
    await peer.subscribe("runtime.operator.heartbeat.>")
    return peer


async def start_workloads(peer: Peer, host: ServedHost) -> None:
    """Starts `a`, `b` and `hang`, whose start does not end."""
    await peer.receive()
    for workload_id in ("a", "b"):
        reply = await peer.command(host.id, "workload.start", start_payload(workload_id))
        assert reply.state == "RUNNING"
    await peer.send_request(f"runtime.host.{host.id}.workload.start", start_payload("hang", "hang"))

    async def poll() -> bool | None:
        return host.fake.instances == {"a", "b", "hang"} or None

    await eventually("the workloads are started", poll)


async def wait_for_tasks(before: set[asyncio.Task[Any]]) -> None:
    async def poll() -> bool | None:
        # Tasks that the client library ends in the background do not count.
        left = {task for task in asyncio.all_tasks() - before if "nats" not in repr(task)}
        return not left or None

    await eventually("all tasks have ended", poll)


async def test_cancellation_stops_workloads_and_leaves_no_tasks(broker: Broker, peer: Peer) -> None:
    before = asyncio.all_tasks()
    host = ServedHost(broker.url)
    await start_workloads(peer, host)
    host.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await host.join()
    assert host.fake.instances == set()
    pending = await peer.receive()
    assert pending.state_and_code == ("STOPPING", None), "the start in flight has a reply"
    no_responders = await peer.command(host.id, "workload.status", id_payload("a"))
    assert no_responders.headers["Status"] == "503"
    await wait_for_tasks(before)


async def test_further_cancellations_do_not_interrupt_the_stop(broker: Broker, peer: Peer) -> None:
    before = asyncio.all_tasks()
    async with berth.connect(broker.url) as bus:
        host = ServedHost(bus)
        await start_workloads(peer, host)
        release = asyncio.Event()
        stop = host.fake.stop

        async def stop_slowly(instance: str) -> None:
            await release.wait()
            await stop(instance)

        host.fake.stop = stop_slowly  # type: ignore[method-assign]
        for _ in range(5):
            host.task.cancel()
            for _ in range(20):  # steps in which the cancellation could take effect
                await asyncio.sleep(0)
        assert not host.task.done()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await host.join()
        assert host.fake.instances == set()
        assert bus.is_connected
    await wait_for_tasks(before)


async def test_grace_period_bounds_the_stop_after_a_cancellation(broker: Broker, peer: Peer) -> None:
    before = asyncio.all_tasks()
    host = ServedHost(broker.url, berth.ServeOptions(shutdown_grace_s=0.2))
    await start_workloads(peer, host)
    called = []

    async def never_stop(instance: str) -> None:
        called.append(instance)
        await asyncio.Event().wait()

    host.fake.stop = never_stop  # type: ignore[method-assign]
    cancelled_s = time.monotonic()
    host.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await host.join()
    assert time.monotonic() - cancelled_s < 5
    assert sorted(called) == ["a", "b"]
    await wait_for_tasks(before)


@pytest.mark.parametrize("cause", ["timeout", "task group", "closed bus"])
async def test_stops_workloads_for_any_reason(broker: Broker, peer: Peer, cause: str) -> None:
    bus = await berth.connect(broker.url)
    host = ServedHost(bus)
    try:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(start_workloads(peer, host))
        match cause:
            case "timeout":
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await host.task
            case "task group":
                with pytest.raises(ExceptionGroup):
                    await _fail_beside(host)
            case "closed bus":
                await bus.close()
                with pytest.raises(berth.BusClosedError):
                    await host.join()
        assert host.fake.instances == set()
    finally:
        await bus.close()


async def _fail_beside(host: ServedHost) -> None:
    async def join() -> None:
        await host.task

    async with asyncio.TaskGroup() as group:
        group.create_task(join())
        await asyncio.sleep(0)
        raise RuntimeError


async def test_describe_that_fails_later_keeps_the_host_visible(
    broker: Broker, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    async with ServedHost(broker.url, berth.ServeOptions(heartbeat_interval_s=1)) as host:
        first = (await peer.receive()).json()

        def fail() -> berth.Description:
            raise RuntimeError("no figures today")

        host.fake.describe = fail  # type: ignore[method-assign]
        second = (await peer.receive()).json()
        assert second == first
        assert (await peer.command(host.id, "heartbeat", "")).json() == first
    assert "no figures today" in caplog.text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("system_cpu_usage", float("inf")),
        ("system_cpu_usage", 1e39),
        ("system_cpu_usage", 10**400),
        ("system_cpu_usage", "3"),
        ("system_memory_free", -1),
        ("system_memory_total", 2**64),
        ("component_count", 2**64),
        ("component_count", 1.5),
        ("labels", {"zone": "\ud800"}),
        ("labels", {"zone": 7}),
        ("http_port", 2**40),
        ("os_kernel", "\ud800"),
        ("imports", [berth.Workload()]),
    ],
)
async def test_invalid_field_is_left_out_of_the_heartbeat(
    broker: Broker, peer: Peer, field: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    valid: dict[str, Any] = {"hostname": "h", "friendly_name": "fake-1", "version": "0", "os_name": "linux"}
    host = ServedHost(broker.url)
    host.fake.describe = lambda: berth.Description(**valid)  # type: ignore[method-assign]
    async with host, berth.connect(broker.url) as bus:
        await peer.receive()
        host.fake.describe = lambda: berth.Description(**valid, **{field: value})  # type: ignore[method-assign]
        heartbeat = await berth.HostClient(bus, host.id).heartbeat()
        assert heartbeat.os_name == "linux"
        assert not getattr(heartbeat, field)
    assert field in caplog.text


async def test_first_description_must_be_valid() -> None:
    class Invalid(FakeHost):
        description: Any = None

        def describe(self) -> berth.Description:
            if isinstance(self.description, Exception):
                raise self.description
            return self.description  # type: ignore[no-any-return]

    def description(**fields: Any) -> berth.Description:
        return berth.Description(**{"hostname": "h", "friendly_name": "n", "version": "1"} | fields)

    host = Invalid()
    for value, expected in (
        (RuntimeError("x"), "cannot describe"),
        (None, "returned NoneType"),
        (description(labels={"a": "\ud800"}), "labels"),
        (description(http_port=-1), "http_port"),
        (description(hostname="\ud800"), "hostname"),
        (description(friendly_name="x" * 254), "253"),
    ):
        host.description = value
        with pytest.raises(ServeError, match=expected):
            await with_timeout(berth.serve("nats://127.0.0.1:1", host))
    for grace_s in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ServeError, match="grace"):
            await berth.serve("127.0.0.1:1", host, berth.ServeOptions(shutdown_grace_s=grace_s))


async def test_any_message_of_a_failed_start_is_sent(peer: Peer, broker: Broker) -> None:
    class FailingHost(FakeHost):
        async def _start(self, request: berth.StartRequest) -> None:
            error: Any = ValueError("told") if request.workload.name == "error" else "a\ud800b"
            raise berth.StartError(error)

    host = ServedHost(broker.url)
    host.fake._start = FailingHost._start.__get__(host.fake)  # type: ignore[method-assign]
    async with host:
        await peer.receive()
        for name, message in (("text", "a?b"), ("error", "told")):
            reply = await peer.command(host.id, "workload.start", start_payload(name, name))
            assert (reply.state, reply.message) == ("ERROR", message)


# --- signals, and programs that end


def restore_handlers(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_ends_all_hosts_and_restores_handlers(
    broker: Broker, peer: Peer, number: signal.Signals
) -> None:
    received = []
    handlers = {
        each: signal.signal(each, lambda *_: received.append(1)) for each in (signal.SIGTERM, signal.SIGINT)
    }
    installed = {each: signal.getsignal(each) for each in handlers}
    try:
        hosts = [FakeHost(), FakeHost()]
        tasks = [asyncio.create_task(berth.serve(broker.url, host, handle_signals=True)) for host in hosts]
        own_shutdown = ServedHost(broker.url)
        for _ in range(3):
            await peer.receive()
        os.kill(os.getpid(), number)
        await with_timeout(asyncio.gather(*tasks))
        assert received == []
        assert {each: signal.getsignal(each) for each in handlers} == installed
        assert not own_shutdown.task.done(), "handling signals is opt-in"
        own_shutdown.shutdown.set()
        await own_shutdown.join()
    finally:
        restore_handlers(handlers)


async def test_handlers_are_untouched_without_opt_in_and_restored_without_signal(
    broker: Broker, peer: Peer
) -> None:
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    async with ServedHost(broker.url):
        await peer.receive()
        assert [signal.getsignal(number) for number in numbers] == before
    shutdown = asyncio.Event()
    tasks = [
        asyncio.create_task(berth.serve(broker.url, FakeHost(), shutdown=event, handle_signals=True))
        for event in (shutdown, asyncio.Event())
    ]
    for _ in range(2):
        await peer.receive()
    shutdown.set()
    await with_timeout(tasks[0])
    assert signal.getsignal(signal.SIGTERM) != before[0], "the other host still handles signals"
    tasks[1].cancel()
    await asyncio.wait({tasks[1]})
    assert [signal.getsignal(number) for number in numbers] == before


async def test_handler_of_the_event_loop_is_called_too(broker: Broker, peer: Peer) -> None:
    called = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, called.set)
    try:
        task = asyncio.create_task(berth.serve(broker.url, FakeHost(), handle_signals=True))
        await peer.receive()
        os.kill(os.getpid(), signal.SIGTERM)
        await with_timeout(task)
        called.clear()
        os.kill(os.getpid(), signal.SIGTERM)
        await with_timeout(called.wait())
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


def test_signals_need_the_main_thread() -> None:
    async def serve_in_thread() -> None:
        def run() -> None:
            asyncio.run(berth.serve("127.0.0.1:1", FakeHost(), handle_signals=True))

        with pytest.raises(ServeError, match="main thread"):
            await asyncio.to_thread(run)

    asyncio.run(serve_in_thread())


PROGRAM = """
    import asyncio, os, signal, sys
    # A parent that ignores SIGINT passes that on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path[:0] = {paths!r}
    import berth
    from support import FakeHost

    class Host(FakeHost):
        async def start(self, request):
            instance = await super().start(request)
            print("started", flush=True)
            return instance

        async def stop(self, instance):
            await asyncio.sleep(0.05)
            await super().stop(instance)
            print("stopped", instance, flush=True)

    async def command(workload_id):
        async with berth.connect({url!r}) as bus, berth.Fleet(bus) as fleet:
            async for event in fleet:
                await fleet.client(event.host.id).start(workload_id, berth.Workload(name="run"))
                return

    async def main():
        {main}

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""

ENDINGS = {
    "returns without waiting for the host": """
        task = asyncio.create_task(berth.serve({url!r}, Host()))
        await command("a")
        """,
    "fails": """
        task = asyncio.create_task(berth.serve({url!r}, Host()))
        await command("a")
        sys.exit(7)
        """,
    "is interrupted": """
        task = asyncio.create_task(berth.serve({url!r}, Host()))
        await command("a")
        os.kill(os.getpid(), signal.SIGINT)
        await task
        """,
    "receives SIGTERM": """
        task = asyncio.create_task(berth.serve({url!r}, Host(), handle_signals=True))
        await command("a")
        os.kill(os.getpid(), signal.SIGTERM)
        await task
        """,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_stops_workloads_when_program(broker: Broker, ending: str) -> None:
    paths = [str(BINDINGS / "src"), str(BINDINGS / "tests")]
    main = textwrap.indent(textwrap.dedent(ENDINGS[ending].format(url=broker.url)).strip(), " " * 8).strip()
    program = textwrap.dedent(PROGRAM).strip().format(paths=paths, url=broker.url, main="MAIN")
    program = program.replace("    MAIN", "    " + main.replace("\n        ", "\n    "))
    result = subprocess.run(
        [sys.executable, "-B", "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert result.stdout.startswith("started\nstopped a\n"), result.stdout + result.stderr
    assert ("interrupted" in result.stdout) is (ending == "is interrupted")
    assert result.returncode == (7 if ending == "fails" else 0), result.stderr
    assert "Traceback" not in result.stderr, result.stderr


async def test_heartbeats_are_no_burst_while_the_connection_flaps(broker: Broker, peer: Peer) -> None:
    async with berth.connect(broker.url) as bus, ServedHost(bus):
        received_s = []
        for _ in range(3):
            await peer.receive()
            received_s.append(time.monotonic())
            client = bus._connection.client
            assert client is not None
            with contextlib.suppress(Exception):
                await client.close()
        assert all(later - earlier >= 1 for earlier, later in itertools.pairwise(received_s))
