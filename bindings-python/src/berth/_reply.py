"""The answer to a command: the status envelope, and what makes it fit through the bus."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from berth import proto
from berth._text import shorten
from berth.encoding import write
from berth.state import WorkloadState

MAX_ID_BYTES = 256
"""Longest id that is accepted and echoed (HOST-WIRE-007); longer ones are refused with 413 (HOST-WIRE-009)."""

MAX_HEADER_TEXT_BYTES = 200
"""Longest text in the `Nats-Service-Error` header; the whole message stands in the body."""

HEADER_ROOM_BYTES = MAX_HEADER_TEXT_BYTES + 100
"""What the two service headers take on the wire at most, subtracted from the room of the body."""

ERROR_CODE = "Nats-Service-Error-Code"
ERROR_TEXT = "Nats-Service-Error"


class Code(enum.IntEnum):
    """Why a command was not obeyed."""

    BAD_REQUEST = 400
    """The request is malformed or lacks what it needs."""
    NOT_FOUND = 404
    """There is no such command."""
    CONFLICT = 409
    """The id is in use."""
    TOO_LARGE = 413
    """The id is too long."""
    UNAVAILABLE = 503
    """The host is shutting down, or has more to do than it can."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a caller is told about one id."""

    id: str
    state: WorkloadState
    message: str
    code: Code | None = None

    @classmethod
    def not_found(cls, workload_id: str) -> Reply:
        """The answer about an id that is not in the table."""
        return cls(workload_id, WorkloadState.NOT_FOUND, "no workload has this id")

    @classmethod
    def refused(cls, workload_id: str, code: Code, message: str) -> Reply:
        """A command that was not obeyed: ERROR, and the code in the headers."""
        return cls(workload_id, WorkloadState.ERROR, message, code)

    def to_json(self, max_payload_bytes: int) -> bytes | None:
        """The body, at most `max_payload_bytes` long together with the headers.

        The message is shortened to make it fit, the id never; `None` when the id alone is too long.
        """
        room = max_payload_bytes - (HEADER_ROOM_BYTES if self.code is not None else 0)
        message = self.message
        while True:
            body = _envelope(self.id, self.state, message)
            if len(body) <= room:
                return body
            if not message:
                return None
            # One byte of message is at most six of JSON, so this never takes too much away twice.
            excess = -((room - len(body)) // 6) + len("…".encode())
            message = shorten(message, max(len(message.encode()) - excess, 0))

    def headers(self) -> dict[str, str] | None:
        """`Nats-Service-Error-Code` and `Nats-Service-Error`, when the command was not obeyed."""
        if self.code is None:
            return None
        text = "".join(char if " " <= char <= "~" else "?" for char in self.message)
        return {ERROR_CODE: str(self.code.value), ERROR_TEXT: text[:MAX_HEADER_TEXT_BYTES].strip()}


def _envelope(workload_id: str, state: WorkloadState, message: str) -> bytes:
    """Start, stop and status have one answer; it is written as that of start."""
    status = proto.WorkloadStatus(workload_id=workload_id, message=message)
    status.workload_state = proto.WorkloadState.Value(state.proto_name)
    return write(proto.WorkloadStartResponse(workload_status=status))
