"""The heartbeat of the host: its content and its timer."""

import asyncio
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import codec
from codec import Message
from distortion import distort_heartbeat
from interfaces import OFFERS
from table import Table
from violation import violates

INTERVAL_S = 15.0  # HOST-BEAT-003
VERSION = "0.1.0"


class Heartbeat:
    """The description of this process."""

    def __init__(self, constant: Message, table: Table) -> None:
        """`constant` contains the fields that keep their value for the lifetime of the process."""
        self._constant = {
            **constant,
            "version": VERSION,
            "startedAt": _format_time(datetime.now(UTC)),
            "osArch": platform.machine(),
            "osName": platform.system().lower(),
            "osKernel": platform.release(),
            "imports": OFFERS,
        }
        if violates("export-without-namespace"):
            self._constant["exports"] = [{"package": "wasi:messaging"}]
        if violates("extension-label-false"):
            self._constant["labels"] = {**constant["labels"], "berth.dev/drain": "false"}
        self._began = time.monotonic()
        self._published = b""
        self._table = table
        self._cpu = _cpu_times()
        self._cpu_usage = 0.0

    def reconnected(self) -> None:
        """Changes the heartbeat after an outage, for a violation."""
        if violates("started-at-reset-on-reconnect"):
            self._constant["startedAt"] = _format_time(datetime.now(UTC))

    def for_publication(self) -> bytes:
        """Returns the heartbeat to publish."""
        self._published = distort_heartbeat(self._encode(), is_reply=False)
        return self._published

    def for_reply(self) -> bytes:
        """Returns the reply to a heartbeat request."""
        if violates("cached-heartbeat-reply") and self._published:
            return self._published
        return distort_heartbeat(self._encode(), is_reply=True)

    def _encode(self) -> bytes:
        if violates("started-at-recomputed"):
            age = timedelta(seconds=int(time.monotonic() - self._began))
            self._constant["startedAt"] = _format_time(datetime.now(UTC) - age)
        running = self._table.running()
        total, free = _memory()
        if violates("memory-total-in-kib"):
            total //= 1024
        return codec.write("HostHeartbeat", {
            **self._constant,
            "systemCpuUsage": self._sample_cpu(),
            "systemMemoryTotal": total,
            "systemMemoryFree": free,
            "workloadCount": self._table.count(),
            "componentCount": sum(workload.component_count for workload in running),
        })  # fmt: skip

    def _sample_cpu(self) -> float:
        busy, total = _cpu_times()
        elapsed = total - self._cpu[1]
        if elapsed >= os.sysconf("SC_CLK_TCK"):  # shorter samples are dominated by rounding
            self._cpu_usage = min(100.0, max(0.0, 100.0 * (busy - self._cpu[0]) / elapsed))
            self._cpu = (busy, total)
        return round(self._cpu_usage, 1)


def _format_time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cpu_times() -> tuple[int, int]:
    """Returns the busy and the total time of all processors, in clock ticks."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return 0, 0
    return sum(fields) - sum(fields[3:5]), sum(fields)


def _memory() -> tuple[int, int]:
    """Returns the total and the free memory of the machine in bytes, zero if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        total = sizes["MemTotal"]
        return total, min(total, sizes["MemAvailable"])
    except (OSError, ValueError, IndexError, KeyError):
        return 0, 0


class HeartbeatTimer:
    """Publishes at once and at each interval, while the host is connected."""

    def __init__(self, publish: Callable[[], None]) -> None:
        """`publish` sends one heartbeat."""
        self._publish = publish
        self._task: asyncio.Task[None] | None = None

    def start(self, *, delayed: bool = False) -> None:
        """HOST-RESIL-002: begins with a heartbeat, unless a violation delays it by the interval."""
        self.stop()
        self._task = asyncio.create_task(self._run(delayed=delayed))

    def is_running(self) -> bool:
        """Tells whether the timer runs."""
        return self._task is not None

    def stop(self) -> None:
        """HOST-RESIL-004: ends the timer, so that no missed heartbeat is sent later."""
        if self._task:
            self._task.cancel()
            self._task = None

    async def _run(self, *, delayed: bool) -> None:
        if delayed:
            await asyncio.sleep(INTERVAL_S)
        while True:
            self._publish()
            await asyncio.sleep(INTERVAL_S)
