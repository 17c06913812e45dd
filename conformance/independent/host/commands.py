"""The commands of the protocol: a request in, exactly one reply out."""

import asyncio
import json
import logging
import re
from collections.abc import Callable
from dataclasses import replace

import codec
from codec import InvalidPayload, Message
from distortion import Fate, distort_reply
from nats import NatsClient, Request, header_block, one_line
from table import IdTaken, Table, TableFull
from violation import count, note_now, notes, violates, within
from workload import COMPLETED, ERROR, NOT_FOUND, STOPPING, Workload

log = logging.getLogger("commands")

REPLY_S = 3.0  # HOST-START-012: a start that takes longer gets STARTING
MAX_ID_BYTES = 256  # HOST-WIRE-008
MAX_MESSAGE_CHARACTERS = 4096  # a complete reason; guests and registries can produce any length
MAX_HEADER_CHARACTERS = 256  # one line for programs and logs
MAX_RESTARTS = 2**32 - 1  # HOST-START-010
MAX_WAITING_STARTS = 10_000  # starts whose reply is due; beyond it, a start gets 503
SLOW_WORKER_S = 0.002  # execution of a request where a violation queues requests
DEFAULT_PAYLOAD_BYTES = 1024 * 1024  # the usual maximum payload of a server

START, STATUS, STOP = "workload.start", "workload.status", "workload.stop"
REQUESTS = {START: "WorkloadStartRequest", STATUS: "WorkloadStatusRequest", STOP: "WorkloadStopRequest"}


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
        self._tasks: set[asyncio.Task[None]] = set()
        self._executing: set[str] = set()
        self._queue: list[Request] = []
        self.closing = False
        self.client: NatsClient | None = None
        self.on_command: Callable[[str], None] = lambda _: None

    def receive(self, request: Request) -> None:
        """Executes a request; a start continues in the background."""
        if violates("drops-requests-beyond-150"):
            if len(self._queue) < 150:
                self._queue.append(request)
                delay = len(self._queue) * SLOW_WORKER_S
                asyncio.get_running_loop().call_later(delay, lambda: self._receive(self._queue.pop(0)))
            return
        self._receive(request)

    def _receive(self, request: Request) -> None:
        command = self._command(request)
        if self._is_dropped(command, request):
            return
        if violates("one-reply-per-reply-subject") and request.reply in self._executing:
            request = replace(request, reply="")
        self.on_command(command)
        try:
            self._check_headers(request)
            if command == "heartbeat":  # HOST-WIRE-006
                self._reply_to_heartbeat(request)
            elif command not in REQUESTS:  # HOST-WIRE-005
                self._unknown(command, request)
            else:
                self._execute(command, request)
        except Refused as refusal:
            self._refuse(request, refusal)
        except Exception:  # HOST-WIRE-011: no message ends the host
            log.exception("cannot execute a request")
            if violates("surrogate-id-unanswered") or violates("huge-number-unanswered"):
                return
            self._refuse(request, Refused(503, "internal error of the host"))

    def _command(self, request: Request) -> str:
        command = request.subject.removeprefix(self._prefix)
        if violates("last-token-decides-command"):
            token = command.rpartition(".")[2]
            command = f"workload.{token}" if token in ("start", "status", "stop") else token
        if violates("command-case-folded"):
            command = command.lower()
        if violates("heartbeat-subcommand-answered") and command.startswith("heartbeat."):
            command = "heartbeat"
        return command

    def _is_dropped(self, command: str, request: Request) -> bool:
        """Tells whether a violation ignores the request."""
        if violates("nats-msg-id-deduplicated"):
            ids = [value for name, value in request.headers if name == "Nats-Msg-Id"]
            return bool(ids) and count(ids[0]) > 1
        if violates("identical-request-dropped"):
            previous, notes["previous"] = notes.get("previous"), (request.subject, request.payload)
            repeated = previous == notes["previous"] and within("previous request", 1)
            note_now("previous request")
            return repeated
        if violates("stop-without-reply-ignored"):
            return command == STOP and not request.reply
        return violates("refusals-keep-slots") and notes.get("refusals", 0) >= 64

    def _check_headers(self, request: Request) -> None:
        types = [value for name, value in request.headers if name.lower() == "content-type"]
        if violates("content-type-header-checked") and types and types[0] != "application/json":
            raise Refused(400, "the content type is not application/json")

    def _reply_to_heartbeat(self, request: Request) -> None:
        if violates("large-heartbeat-request-refused") and len(request.payload) > 64 * 1024:
            raise Refused(400, "the payload is too long")
        if violates("repeated-heartbeat-request-slow"):
            repeated = within("heartbeat request", 10)
            note_now("heartbeat request")
            if repeated:
                loop = asyncio.get_running_loop()
                loop.call_later(7, lambda: self._publish(request, self._heartbeat()))
                return
        self._publish(request, self._heartbeat())

    def _unknown(self, command: str, request: Request) -> None:
        if violates("unknown-command-decoded-first"):
            try:
                codec.read("WorkloadStatusRequest", request.payload)
            except InvalidPayload as error:
                raise Refused(400, str(error)) from error
        if violates("unknown-command-claims-id"):
            try:
                workload_id = codec.read("WorkloadStatusRequest", request.payload)["workloadId"]
            except InvalidPayload:
                workload_id = ""
            if workload_id and self._table.get(workload_id) is None:
                self._table.add_failed(workload_id, f"unknown command {command}")
        raise Refused(404, "unknown command")

    def _execute(self, command: str, request: Request) -> None:
        try:
            message = codec.read(REQUESTS[command], request.payload)
        except InvalidPayload as error:  # HOST-WIRE-004
            if violates("refused-stop-has-no-code") and command == STOP:
                self._reply(request, "", ERROR, str(error), {})
                return
            raise Refused(400, str(error)) from error
        workload_id = message["workloadId"]
        if self._is_too_long(command, workload_id):  # HOST-WIRE-009
            code = 400 if violates("status-too-long-gets-400") and command == STATUS else 413
            raise Refused(code, f"workloadId is longer than {MAX_ID_BYTES} bytes")
        if self._is_empty(workload_id):  # HOST-START-004, HOST-STATUS-003
            if violates("stop-with-empty-id-not-found") and command == STOP and _has_empty_id(request):
                self._reply(request, "", NOT_FOUND, "no workload has this id", {})
                return
            raise Refused(400, "workloadId is empty")
        if command == START:
            self._start(request, workload_id, message["workload"])
        elif command == STATUS:
            self._status(request, workload_id)
        else:
            self._stop(request, workload_id)

    def _is_too_long(self, command: str, workload_id: str) -> bool:
        if violates("id-limit-counts-escapes"):
            return len(json.dumps(workload_id, ensure_ascii=False).encode()) - 2 > MAX_ID_BYTES
        length = len(workload_id.encode())
        if violates("stop-refuses-256-byte-id") and command == STOP and length == MAX_ID_BYTES:
            return True
        return length > MAX_ID_BYTES

    def _is_empty(self, workload_id: str) -> bool:
        if violates("blank-id-treated-as-empty"):
            return not workload_id.strip()
        if violates("id-0-treated-as-empty") and workload_id == "0":
            return True
        return not workload_id

    def _status(self, request: Request, workload_id: str) -> None:
        workload = self._table.get(workload_id)
        if violates("two-spinners-delay-replies") and notes.get("spinners", 0) >= 2:
            loop = asyncio.get_running_loop()
            loop.call_later(6, lambda: self._report(STATUS, request, workload_id, workload))
            return
        self._report(STATUS, request, workload_id, workload)
        if workload is None and violates("status-claims-unknown-id"):
            notes[workload_id] = "claimed"
        elif workload:
            self._table.reported(workload)

    def _stop(self, request: Request, workload_id: str) -> None:
        workload = self._table.get(workload_id)
        state = workload.state if workload else NOT_FOUND
        if violates("stop-waits-for-other-start") and workload and workload.settled.is_set():
            others = [other for other in self._table.starting() if other is not workload]
            if others:
                self._spawn(self._stop_later(request, workload_id, others))
                return
        if violates("repeated-stop-decrements-again") and state == STOPPING:
            count("count offset")
        if violates("stop-of-error-decrements") and state == ERROR:
            count("count offset")
        if violates("early-stop-blocks-later-start") and workload is None:
            note_now(workload_id)
        if violates("second-stop-is-an-error") and state == STOPPING:
            self._reply(request, workload_id, ERROR, "the workload is already stopping", {})
            return
        workload = self._table.stop(workload_id)
        if workload and workload.outlives_stop:
            workload = None
        if violates("stop-of-completed-says-completed") and state == COMPLETED:
            self._reply(request, workload_id, COMPLETED, "the service completed", {})
            return
        self._report(STOP, request, workload_id, workload)

    async def _stop_later(self, request: Request, workload_id: str, others: list[Workload]) -> None:
        for other in others:
            await other.settled.wait()
        self._report(STOP, request, workload_id, self._table.stop(workload_id))

    def _start(self, request: Request, workload_id: str, spec: Message | None) -> None:
        if spec is None:  # HOST-START-005
            raise Refused(400, "workload is absent", workload_id)
        limit = MAX_RESTARTS - 1 if violates("highest-max-restarts-refused") else MAX_RESTARTS
        if spec["service"] and spec["service"]["maxRestarts"] > limit:
            text = f"workload.service.maxRestarts: the number is larger than {MAX_RESTARTS}"
            if violates("refused-max-restarts-claims-id") and self._table.get(workload_id) is None:
                self._table.add_failed(workload_id, text)
            raise Refused(400, text, workload_id)
        if violates("oneof-unchecked-if-unmounted"):
            _check_mounted_oneofs(spec, workload_id)
        if self.closing:
            raise Refused(503, "the host is shutting down", workload_id)
        if len(self._tasks) >= MAX_WAITING_STARTS:
            raise Refused(503, "the host has reached its limit of concurrent starts", workload_id)
        if violates("early-stop-blocks-later-start") and within(workload_id, 10):
            self._report(START, request, workload_id, None)
            return
        if violates("namespace-and-name-are-identity") and self._table.names_running(workload_id, spec):
            raise Refused(409, "a workload with this name runs", workload_id)
        try:
            workload = self._table.start(workload_id, spec)
        except IdTaken as error:  # HOST-START-002
            self._refuse_taken(request, workload_id, spec, error)
            return
        except TableFull:
            raise Refused(503, "the host has reached its limit of workloads", workload_id) from None
        if violates("listens-to-all-after-first-start") and count("starts") == 1 and self.client:
            self.client.listen_to_all(STATUS)
        if violates("unanswered-failure-forgotten"):
            workload.is_forgotten_on_failure = not request.reply
        self._executing.add(request.reply)
        self._spawn(self._reply_to_start(request, workload))

    def _spawn(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refuse_taken(self, request: Request, workload_id: str, spec: Message, error: IdTaken) -> None:
        workload = error.holder
        if violates("same-content-replies-running") and workload.is_running(spec):
            self._report(START, request, workload_id, workload)
            return
        if violates("refused-start-adds-routes"):
            workload.add_routes_of(spec)
        if violates("refused-start-renews-restarts"):
            workload.failures = 0
        if violates("refused-start-logged"):
            log.info("refused start %s", request.payload.decode("utf-8", "replace"))
        name = f" {workload_id}" if violates("newline-in-error-header") else ""
        raise Refused(409, f"the id{name} is taken; stop it first", workload_id)

    async def _reply_to_start(self, request: Request, workload: Workload) -> None:
        try:
            async with asyncio.timeout(REPLY_S):
                await workload.settled.wait()
        except TimeoutError:
            pass
        if self.client and not self.closing:
            await self.client.connected.wait()  # the caller may wait through an outage
        self._executing.discard(request.reply)
        canceled = workload.state in (STOPPING, NOT_FOUND)
        if violates("canceled-start-unanswered") and canceled:
            return
        if violates("start-unanswered-at-shutdown") and canceled and self.closing:
            return
        self._report(START, request, workload.id, workload)

    async def drain(self, seconds: float) -> None:
        """HOST-DOWN-003: waits until each start has its reply."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def _report(self, command: str, request: Request, workload_id: str, workload: Workload | None) -> None:
        if workload and workload.state != NOT_FOUND:
            state, message = workload.report(is_status=command == STATUS)
        else:
            state, message = NOT_FOUND, "no workload has this id"
        fate = Fate(command, state, workload)
        self._reply(request, workload_id, state, message, {}, fate)

    def _refuse(self, request: Request, refusal: Refused) -> None:
        text = refusal.message
        quotes_id = violates("newline-in-error-header") and refusal.code == 409
        if not (quotes_id or violates("refusal-quotes-whole-value")):
            text = one_line(text, MAX_HEADER_CHARACTERS)
        headers = {"Nats-Service-Error-Code": str(refusal.code), "Nats-Service-Error": text}
        if violates("code-header-wrong-case") and refusal.code == 409:
            headers["nats-service-error-code"] = headers.pop("Nats-Service-Error-Code")
        count("refusals")
        self._reply(request, refusal.workload_id, ERROR, refusal.message, headers)

    def _reply(
        self,
        request: Request,
        workload_id: str,
        state: int,
        message: str,
        headers: dict[str, str],
        fate: Fate | None = None,
    ) -> None:
        """HOST-WIRE-010: shortens the message until the reply fits."""
        if self.client is None or not request.reply:
            return
        if violates("request-headers-copied"):
            headers = dict(request.headers) | headers
        if violates("astral-id-echoed-as-question-mark"):
            workload_id = re.sub(r"[\U00010000-\U0010ffff]", "?", workload_id)
        cuts = not any(
            violates(each)
            for each in ("refusal-quotes-whole-value", "max-payload-assumed", "message-cut-inside-character")
        )
        message = message[:MAX_MESSAGE_CHARACTERS] if cuts else message
        maximum = DEFAULT_PAYLOAD_BYTES if violates("max-payload-assumed") else self.client.max_payload
        room = maximum - (len(header_block(headers)) if headers else 0)
        while True:
            status = {"workloadId": workload_id, "workloadState": state, "message": message}
            payload = codec.write("Reply", {"workloadStatus": status})
            if len(payload) <= room or not message:
                break
            if violates("refusal-quotes-whole-value"):
                return  # the client library refuses to publish the reply
            message = message[: len(message) // 2]
        self._publish(request, distort_reply(payload, status, fate), headers)

    def _publish(self, request: Request, payload: bytes, headers: dict[str, str] | None = None) -> None:
        if violates("only-inbox-gets-replies") and not request.reply.startswith("_INBOX."):
            return
        if self.client and request.reply:
            self.client.publish(request.reply, payload, headers)


def _has_empty_id(request: Request) -> bool:
    value = json.loads(request.payload)
    return bool(value.get("workloadId", value.get("workload_id")) == "")


def _check_mounted_oneofs(spec: Message, workload_id: str) -> None:
    parts = [*(spec["witWorld"] or {"components": []})["components"], spec["service"]]
    resources = [part["localResources"] for part in parts if part and part["localResources"]]
    mounted = {mount["name"] for each in resources for mount in each["volumeMounts"]}
    for volume in spec["volumes"]:
        if volume["name"] in mounted and volume["hostPath"] and volume["emptyDir"] is not None:
            raise Refused(400, "workload.volumes: emptyDir conflicts with hostPath", workload_id)
