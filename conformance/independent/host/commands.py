"""The commands of the protocol: a request in, exactly one reply out."""

import asyncio
import logging
from collections.abc import Callable

import codec
from codec import InvalidPayload, Message
from nats import NatsClient, Request, header_block, one_line
from table import IdTaken, Table, TableFull
from workload import ERROR, NOT_FOUND, Workload

log = logging.getLogger("commands")

REPLY_S = 3.0  # HOST-START-012: a start that takes longer gets STARTING
MAX_ID_BYTES = 256  # HOST-WIRE-008
MAX_MESSAGE_CHARACTERS = 4096  # a complete reason; guests and registries can produce any length
MAX_HEADER_CHARACTERS = 256  # one line for programs and logs
MAX_RESTARTS = 2**32 - 1  # HOST-START-010
MAX_WAITING_STARTS = 10_000  # starts whose reply is due; beyond it, a start gets 503

REQUESTS = {
    "workload.start": "WorkloadStartRequest",
    "workload.status": "WorkloadStatusRequest",
    "workload.stop": "WorkloadStopRequest",
}


class Refused(Exception):  # noqa: N818 - an outcome of a request
    """A protocol error: the request is not executed."""

    def __init__(self, code: int, message: str, workload_id: str = "") -> None:
        """Stores the code, the message, and the id if the reply can contain it."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.workload_id = workload_id


class Commands:
    """Executes the requests on the subjects of one host."""

    def __init__(self, prefix: str, table: Table, heartbeat: Callable[[], bytes]) -> None:
        """`prefix` is the subject of the host with its dot."""
        self._prefix = prefix
        self._table = table
        self._heartbeat = heartbeat
        self._starts: set[asyncio.Task[None]] = set()
        self.closing = False
        self.client: NatsClient | None = None

    def receive(self, request: Request) -> None:
        """Executes a request; a start continues in the background."""
        command = request.subject.removeprefix(self._prefix)
        try:
            if command == "heartbeat":  # HOST-WIRE-006
                self._publish(request, self._heartbeat())
            elif command not in REQUESTS:  # HOST-WIRE-005
                raise Refused(404, "unknown command")
            else:
                self._execute(command, request)
        except Refused as refusal:
            self._refuse(request, refusal)
        except Exception:  # HOST-WIRE-011: no message ends the host
            log.exception("cannot execute a request")
            self._refuse(request, Refused(503, "internal error of the host"))

    def _execute(self, command: str, request: Request) -> None:
        try:
            message = codec.read(REQUESTS[command], request.payload)
        except InvalidPayload as error:  # HOST-WIRE-004
            raise Refused(400, str(error)) from error
        workload_id = message["workloadId"]
        if len(workload_id.encode()) > MAX_ID_BYTES:  # HOST-WIRE-009
            raise Refused(413, f"workloadId is longer than {MAX_ID_BYTES} bytes")
        if not workload_id:  # HOST-START-004, HOST-STATUS-003
            raise Refused(400, "workloadId is empty")
        if command == "workload.start":
            self._start(request, workload_id, message["workload"])
            return
        holder = self._table.get if command == "workload.status" else self._table.stop
        self._report(request, workload_id, holder(workload_id))

    def _start(self, request: Request, workload_id: str, spec: Message | None) -> None:
        if spec is None:  # HOST-START-005
            raise Refused(400, "workload is absent", workload_id)
        if spec["service"] and spec["service"]["maxRestarts"] > MAX_RESTARTS:
            text = f"workload.service.maxRestarts: the number is larger than {MAX_RESTARTS}"
            raise Refused(400, text, workload_id)
        if self.closing:
            raise Refused(503, "the host is shutting down", workload_id)
        if len(self._starts) >= MAX_WAITING_STARTS:
            raise Refused(503, "the host has reached its limit of concurrent starts", workload_id)
        try:
            workload = self._table.start(workload_id, spec)
        except IdTaken:  # HOST-START-002
            raise Refused(409, "the id is taken; stop it first", workload_id) from None
        except TableFull:
            raise Refused(503, "the host has reached its limit of workloads", workload_id) from None
        task = asyncio.create_task(self._reply_to_start(request, workload))
        self._starts.add(task)
        task.add_done_callback(self._starts.discard)

    async def _reply_to_start(self, request: Request, workload: Workload) -> None:
        try:
            async with asyncio.timeout(REPLY_S):
                await workload.settled.wait()
        except TimeoutError:
            pass
        if self.client and not self.closing:
            await self.client.connected.wait()  # the caller may wait through an outage
        self._report(request, workload.id, workload)

    async def drain(self, seconds: float) -> None:
        """HOST-DOWN-003: waits until each start has its reply."""
        if self._starts:
            await asyncio.wait(self._starts, timeout=seconds)

    def _report(self, request: Request, workload_id: str, workload: Workload | None) -> None:
        if workload and workload.state != NOT_FOUND:
            state, message = workload.state, workload.message
        else:
            state, message = NOT_FOUND, "no workload has this id"
        self._reply(request, workload_id, state, message, {})

    def _refuse(self, request: Request, refusal: Refused) -> None:
        headers = {
            "Nats-Service-Error-Code": str(refusal.code),
            "Nats-Service-Error": one_line(refusal.message, MAX_HEADER_CHARACTERS),
        }
        self._reply(request, refusal.workload_id, ERROR, refusal.message, headers)

    def _reply(
        self, request: Request, workload_id: str, state: int, message: str, headers: dict[str, str]
    ) -> None:
        """HOST-WIRE-010: shortens the message until the reply fits."""
        if self.client is None or not request.reply:
            return
        message = message[:MAX_MESSAGE_CHARACTERS]
        room = self.client.max_payload - (len(header_block(headers)) if headers else 0)
        while True:
            status = {"workloadId": workload_id, "workloadState": state, "message": message}
            payload = codec.write("Reply", {"workloadStatus": status})
            if len(payload) <= room or not message:
                break
            message = message[: len(message) // 2]
        self._publish(request, payload, headers)

    def _publish(self, request: Request, payload: bytes, headers: dict[str, str] | None = None) -> None:
        if self.client and request.reply:
            self.client.publish(request.reply, payload, headers)
