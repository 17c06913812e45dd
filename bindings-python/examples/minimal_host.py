"""A host that implements the whole protocol but runs nothing: its workloads have no guest code.

python minimal_host.py nats://127.0.0.1:4222
"""

import asyncio
import os
import sys

import berth


class MinimalHost(berth.Host[str]):
    def describe(self) -> berth.Description:
        return berth.Description(
            hostname="localhost",
            friendly_name=f"minimal-{os.getpid()}",
            version="0.1.0",
            labels={"hostgroup": "minimal"},
        )

    async def start(self, request: berth.StartRequest) -> str:
        if request.workload.HasField("service"):
            raise berth.StartError("services are not supported")
        return request.id

    async def stop(self, instance: str) -> None:
        print(f"stopped {instance!r}")


url = sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222"
asyncio.run(berth.serve(url, MinimalHost(), handle_signals=True))
