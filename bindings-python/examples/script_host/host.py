"""A host whose images are Python scripts: each service is a process of its own.

python host.py --nats nats://127.0.0.1:4222

It shows what a host author writes, and no more than that: scripts are not confined, so run none that you do not
trust. It claims the profiles core, services and resilience; target.toml says so to the conformance suite.
"""

import argparse
import ast
import asyncio
import os
import platform
import random
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import berth
from registry import pull

GUEST = Path(__file__).with_name("guest.py")

HEALTHY_S = 60.0
"""A run this long gives the whole restart budget back."""


class ScriptHost(berth.Host[asyncio.Task[None] | None]):
    """The instance of a workload is the task that watches over its service, if it has one."""

    def __init__(self) -> None:
        self._name = f"script-{uuid.uuid4().hex[:12]}"

    def describe(self) -> berth.Description:
        machine = platform.uname()
        return berth.Description(
            hostname="127.0.0.1",
            friendly_name=self._name,
            version="0.1.0",
            labels={"hostgroup": "default"},
            os_arch=machine.machine,
            os_name=machine.system.lower(),
            os_kernel=machine.release,
        )

    async def start(self, start: berth.Start) -> asyncio.Task[None] | None:
        workload = start.workload
        # There is nothing here that would call a component, but its image has to be one that is there.
        for component in workload.wit_world.components:
            entry_point(await pull(component.image), component.image)
        if not workload.HasField("service"):
            return None
        service = workload.service
        script = await pull(service.image)
        if not entry_point(script, service.image):
            raise berth.Refusal(f"service {service.image} has no function main: there is nothing to run")
        environment = dict(service.local_resources.environment)
        first = await Run.begin(script, environment)
        return asyncio.create_task(watch_over(first, service.max_restarts, start.reporter))

    async def stop(self, instance: asyncio.Task[None] | None) -> None:
        if instance is not None:
            instance.cancel()
            await asyncio.wait({instance})


def entry_point(script: bytes, image: str) -> bool:
    """Whether it has one. Raises `Refusal` when it is no script."""
    try:
        tree = ast.parse(script)
    except (SyntaxError, ValueError) as error:
        raise berth.Refusal(f"image {image} is no Python script: {error}") from error
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)


@dataclass
class Run:
    """One run of a service: a process with fresh memory."""

    script: bytes
    environment: dict[str, str]
    process: asyncio.subprocess.Process

    @classmethod
    async def begin(cls, script: bytes, environment: dict[str, str]) -> "Run":
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", GUEST, stdin=asyncio.subprocess.PIPE, env=environment
        )
        assert process.stdin is not None
        process.stdin.write(len(script).to_bytes(4, "big") + script)
        return cls(script, environment, process)

    async def again(self) -> "Run":
        return await Run.begin(self.script, self.environment)

    async def end(self) -> str | None:
        """Waits for the end; says what was wrong, or nothing. Ends the process when it is cancelled."""
        try:
            code = await self.process.wait()
        finally:
            if self.process.returncode is None:
                self.process.kill()
                await self.process.wait()
        if code == 0:
            return None
        return f"it was ended by signal {-code}" if code < 0 else f"it exited with code {code}"


async def watch_over(run: Run, max_restarts: int, reporter: berth.Reporter) -> None:
    loop = asyncio.get_running_loop()
    failures = 0
    while True:
        began_s = loop.time()
        wrong = await run.end()
        if wrong is None:
            reporter.completed("the service ended well")
            return
        failures = 1 if loop.time() - began_s >= HEALTHY_S else failures + 1
        if failures > max_restarts:
            reporter.failed(f"failed {failures} times, no restarts left: {wrong}")
            return
        wait_s = backoff_s(failures)
        reporter.starting(f"restart {failures} of {max_restarts} in {wait_s * 1000:.0f} ms: {wrong}")
        await asyncio.sleep(wait_s)
        run = await run.again()
        reporter.running()


def backoff_s(failures: int) -> float:
    """From 100 ms by doubling up to 30 s, with jitter that stays within 50 ms and 45 s."""
    step_s: float = min(0.1 * 2 ** min(failures - 1, 16), 30.0)
    return step_s * random.uniform(0.75, 1.25)


def main() -> None:
    arguments = argparse.ArgumentParser(description="a host whose images are Python scripts")
    arguments.add_argument("--nats", default=os.environ.get("BERTH_NATS_URL", "nats://127.0.0.1:4222"))
    arguments.add_argument("--id", default=str(uuid.uuid4()))
    given = arguments.parse_args()
    asyncio.run(berth.serve(given.nats, ScriptHost(), berth.ServeOptions(host_id=given.id)))


if __name__ == "__main__":
    main()
