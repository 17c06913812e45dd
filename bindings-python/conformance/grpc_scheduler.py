"""A minimal gRPC scheduler with generated stubs: receives a heartbeat and commands the host that sent it.

python grpc_scheduler.py STUBS BERTH_HOST, where STUBS is the directory with the code from grpcio-tools.
"""

# mypy: disable-error-code="import-untyped, import-not-found, misc, no-untyped-call"

from __future__ import annotations

import queue
import signal
import subprocess
import sys
from concurrent import futures
from typing import Any

import grpc
from google.protobuf import empty_pb2

sys.path.insert(0, sys.argv[1])

from wasmcloud.runtime.v2 import (
    host_service_pb2_grpc,
    workload_pb2,
    workload_service_pb2,
    workload_service_pb2_grpc,
)

TIMEOUT_S = 30


class Scheduler(host_service_pb2_grpc.HostServiceServicer):
    """Receives heartbeats, and the URLs at which their hosts accept commands."""

    def __init__(self) -> None:
        self.heartbeats: queue.Queue[tuple[str, str]] = queue.Queue()

    def HostHeartbeat(self, request: Any, context: Any) -> Any:
        metadata = dict(context.invocation_metadata())
        self.heartbeats.put((request.heartbeat.id, metadata["berth-host-url"]))
        return empty_pb2.Empty()


def run_workload(address: str) -> None:
    """Starts a workload, starts it again, stops it, and waits until its ID is free."""
    with grpc.insecure_channel(address) as channel:
        client = workload_service_pb2_grpc.WorkloadServiceStub(channel)
        start = workload_service_pb2.WorkloadStartRequest(
            workload_id="a", workload=workload_pb2.Workload(name="empty")
        )
        started = client.WorkloadStart(start, timeout=TIMEOUT_S).workload_status
        assert started.workload_state == workload_pb2.WORKLOAD_STATE_RUNNING, started
        retried, call = client.WorkloadStart.with_call(start, timeout=TIMEOUT_S)
        assert retried.workload_status.workload_state == workload_pb2.WORKLOAD_STATE_ERROR, retried
        assert dict(call.initial_metadata())["nats-service-error-code"] == "409"
        client.WorkloadStop(workload_service_pb2.WorkloadStopRequest(workload_id="a"), timeout=TIMEOUT_S)
        state = None
        while state != workload_pb2.WORKLOAD_STATE_NOT_FOUND:
            request = workload_service_pb2.WorkloadStatusRequest(workload_id="a")
            state = client.WorkloadStatus(request, timeout=TIMEOUT_S).workload_status.workload_state


def main(program: str) -> None:
    scheduler = Scheduler()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    host_service_pb2_grpc.add_HostServiceServicer_to_server(scheduler, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    host = subprocess.Popen(
        [
            *(program, "--no-nats", "--grpc-addr", "127.0.0.1:0"),
            *("--host-id", "h1", "--host-name", "127.0.0.1"),
            *("--grpc-scheduler-url", f"http://127.0.0.1:{port}"),
        ]
    )
    try:
        host_id, url = scheduler.heartbeats.get(timeout=TIMEOUT_S)
        assert host_id == "h1", host_id
        run_workload(url.removeprefix("http://"))
        host.send_signal(signal.SIGTERM)
        assert host.wait(TIMEOUT_S) == 0
    finally:
        host.kill()
        host.wait()
        server.stop(None)


if __name__ == "__main__":
    main(sys.argv[2])
