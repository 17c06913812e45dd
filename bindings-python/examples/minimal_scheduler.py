"""A scheduler that starts a workload on the first host that joins, polls its status, and stops it.

python minimal_scheduler.py nats://127.0.0.1:4222
"""

import asyncio
import sys

import berth


async def main(url: str) -> None:
    async with berth.connect(url) as bus, berth.Fleet(bus) as fleet:
        async for event in fleet:
            if isinstance(event, berth.HostJoined):
                print(f"{event.host.heartbeat.friendly_name} joined as {event.host.id}")
                await run_workload(fleet.client(event.host.id))
                return


async def run_workload(host: berth.HostClient) -> None:
    started = await host.start("demo-1", berth.Workload(name="demo"))
    print(f"demo-1 is {started.state.name}")
    print(f"demo-1 is {(await host.status('demo-1')).state.name}")
    await host.stop("demo-1")
    while (await host.status("demo-1")).state is not berth.WorkloadState.NOT_FOUND:
        await asyncio.sleep(0.1)
    print("demo-1 is gone")


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222"))
