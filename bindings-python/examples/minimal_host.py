"""A host that runs "workloads" which do nothing: all of the protocol, and no WebAssembly.

python minimal_host.py nats://127.0.0.1:4222
"""

import asyncio
import os
import sys

import berth


class Minimal(berth.Host[str]):
    def describe(self) -> berth.Description:
        return berth.Description(
            hostname="localhost",
            friendly_name=f"minimal-{os.getpid()}",
            version="0.1.0",
            labels={"hostgroup": "minimal"},
        )

    async def start(self, start: berth.Start) -> str:
        if start.workload.HasField("service"):
            raise berth.Refusal("this host runs no services")
        return start.id

    async def stop(self, instance: str) -> None:
        print(f"stopped {instance!r}")


asyncio.run(berth.serve(sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222", Minimal()))
