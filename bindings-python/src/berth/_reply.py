"""A host's reply to a command: the status envelope, shortened to the broker's maximum payload."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from berth import proto
from berth._text import shorten
from berth.encoding import encode
from berth.state import WorkloadState

MAX_ID_BYTES = 256
"""Longest ID that is accepted and echoed (HOST-WIRE-007); a longer ID is refused with 413 (HOST-WIRE-009)."""

MAX_HEADER_TEXT_BYTES = 200
"""Longest text in the `Nats-Service-Error` header; the body has the complete message."""

HEADER_RESERVE_BYTES = MAX_HEADER_TEXT_BYTES + 100
"""Upper bound on the wire size of the two service headers, subtracted from the space for the body."""

ERROR_CODE_HEADER = "Nats-Service-Error-Code"
ERROR_TEXT_HEADER = "Nats-Service-Error"


class ErrorCode(enum.IntEnum):
    """Reason why a command was refused."""

    BAD_REQUEST = 400
    """The request is malformed or incomplete."""
    NOT_FOUND = 404
    """The command is unknown."""
    CONFLICT = 409
    """The ID is in use."""
    TOO_LARGE = 413
    """The ID is too long."""
    UNAVAILABLE = 503
    """The host is shutting down or at capacity."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Reply to a command about one workload ID."""

    id: str
    state: WorkloadState
    message: str
    code: ErrorCode | None = None

    @classmethod
    def not_found(cls, workload_id: str) -> Reply:
        """Returns the reply for an unknown ID."""
        return cls(workload_id, WorkloadState.NOT_FOUND, "no workload has this ID")

    @classmethod
    def refused(cls, workload_id: str, code: ErrorCode, message: str) -> Reply:
        """Returns the reply for a refused command: ERROR in the body and the code in the headers."""
        return cls(workload_id, WorkloadState.ERROR, message, code)

    def to_json(self, max_payload_bytes: int) -> bytes | None:
        """Returns the body; body and headers together are at most `max_payload_bytes` long.

        Shortens the message to fit, never the ID. Returns `None` if the ID alone is too long.
        """
        room = max_payload_bytes - (HEADER_RESERVE_BYTES if self.code is not None else 0)
        message = self.message
        while True:
            body = _envelope(self.id, self.state, message)
            if len(body) <= room:
                return body
            if not message:
                return None
            # One byte of the message takes at most six in JSON, so this never cuts off too much.
            excess = -((room - len(body)) // 6) + len("…".encode())
            message = shorten(message, max(len(message.encode()) - excess, 0))

    def headers(self) -> dict[str, str] | None:
        """Returns `Nats-Service-Error-Code` and `Nats-Service-Error` if the command was refused."""
        if self.code is None:
            return None
        text = "".join(char if " " <= char <= "~" else "?" for char in self.message)
        return {
            ERROR_CODE_HEADER: str(self.code.value),
            ERROR_TEXT_HEADER: text[:MAX_HEADER_TEXT_BYTES].strip(),
        }


def _envelope(workload_id: str, state: WorkloadState, message: str) -> bytes:
    """Encodes the status as a start response; start, stop and status responses have the same JSON."""
    status = proto.WorkloadStatus(workload_id=workload_id, message=message)
    status.workload_state = proto.WorkloadState.Value(state.proto_name)
    return encode(proto.WorkloadStartResponse(workload_status=status))
