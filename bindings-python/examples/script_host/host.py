"""A host whose images are Python scripts and whose services are separate processes.

python host.py --nats-url nats://127.0.0.1:4222

It is an example, not for production: scripts are not sandboxed, so run only scripts that you trust. It claims
the profiles core, services and resilience in target.toml.
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

GUEST_RUNNER = Path(__file__).with_name("run_guest.py")
"""Program that reads a script, prefixed with its length, from stdin and runs it."""

RESTART_RESET_S = 60.0
"""Time that the service must run to restore the whole restart budget."""


class ScriptHost(berth.Host[asyncio.Task[None] | None]):
    """The instance of a workload is the task that supervises its service, or `None` without a service."""

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

    async def start(self, request: berth.StartRequest) -> asyncio.Task[None] | None:
        workload = request.workload
        # This host never calls a component, but the image of each component must exist and be a script.
        for component in workload.wit_world.components:
            parse_script(await pull(component.image), component.image)
        if not workload.HasField("service"):
            return None
        service = workload.service
        script = await pull(service.image)
        if not has_main(parse_script(script, service.image)):
            raise berth.StartError(f"image {service.image} of the service has no function `main`")
        environment = dict(service.local_resources.environment)
        process = await ServiceProcess.launch(script, environment)
        return asyncio.create_task(supervise(process, service.max_restarts, request.reporter))

    async def stop(self, instance: asyncio.Task[None] | None) -> None:
        if instance is not None:
            instance.cancel()
            await asyncio.wait({instance})


def parse_script(script: bytes, image: str) -> ast.Module:
    """Parses a script. Raises `StartError` if the script is not valid Python."""
    try:
        return ast.parse(script)
    except (SyntaxError, ValueError) as error:
        raise berth.StartError(f"image {image} is not a Python script: {error}") from error


def has_main(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)


@dataclass
class ServiceProcess:
    """One execution of a service, in a process with fresh memory."""

    script: bytes
    environment: dict[str, str]
    process: asyncio.subprocess.Process

    @classmethod
    async def launch(cls, script: bytes, environment: dict[str, str]) -> "ServiceProcess":
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", GUEST_RUNNER, stdin=asyncio.subprocess.PIPE, env=environment
        )
        assert process.stdin is not None
        process.stdin.write(len(script).to_bytes(4, "big") + script)
        return cls(script, environment, process)

    async def relaunch(self) -> "ServiceProcess":
        return await ServiceProcess.launch(self.script, self.environment)

    async def wait(self) -> str | None:
        """Waits for the process; returns the failure, or `None` on success. Kills the process if cancelled."""
        try:
            code = await self.process.wait()
        finally:
            if self.process.returncode is None:
                self.process.kill()
                await self.process.wait()
        if code == 0:
            return None
        return f"terminated by signal {-code}" if code < 0 else f"exited with code {code}"


async def supervise(process: ServiceProcess, max_restarts: int, reporter: berth.StatusReporter) -> None:
    loop = asyncio.get_running_loop()
    failures = 0
    while True:
        started_s = loop.time()
        failure = await process.wait()
        if failure is None:
            reporter.completed("the service completed")
            return
        failures = 1 if loop.time() - started_s >= RESTART_RESET_S else failures + 1
        if failures > max_restarts:
            reporter.failed(f"failed {failures} times, no restarts left: {failure}")
            return
        delay_s = backoff_s(failures)
        reporter.starting(f"restart {failures} of {max_restarts} in {delay_s * 1000:.0f} ms: {failure}")
        await asyncio.sleep(delay_s)
        process = await process.relaunch()
        reporter.running()


def backoff_s(failures: int) -> float:
    """Returns an exponential backoff from 100 ms to 30 s; with jitter, the delay is between 50 ms and 45 s."""
    step_s: float = min(0.1 * 2 ** min(failures - 1, 16), 30.0)
    return step_s * random.uniform(0.75, 1.25)


def main() -> None:
    parser = argparse.ArgumentParser(description="A host whose images are Python scripts")
    parser.add_argument(
        "--nats-url",
        "--nats",
        default=os.environ.get("BERTH_NATS_URL", "nats://127.0.0.1:4222"),
        help="NATS server URL [default: BERTH_NATS_URL or nats://127.0.0.1:4222]",
    )
    parser.add_argument("--id", default=str(uuid.uuid4()), help="host ID [default: random]")
    options = parser.parse_args()
    serve_options = berth.ServeOptions(host_id=options.id)
    asyncio.run(berth.serve(options.nats_url, ScriptHost(), serve_options, handle_signals=True))


if __name__ == "__main__":
    main()
