"""Changes of encoded replies and heartbeats that the strict writer cannot produce, for violations."""

import json
from dataclasses import dataclass

from codec import Message
from violation import violates
from workload import ERROR, NOT_FOUND, STOPPING, Workload

CUT_BYTES = 4096


@dataclass(frozen=True)
class Fate:
    """The command of a reply, the reported state, and the workload."""

    command: str
    state: int
    workload: Workload | None


def distort_reply(payload: bytes, status: Message, fate: Fate | None) -> bytes:
    """Returns the payload of a reply as the active violation writes it."""
    state, message = status["workloadState"], status["message"]
    if violates("nul-after-error-reply") and state == ERROR:
        return payload + b"\0"
    if violates("message-cut-inside-character") and len(message.encode()) > CUT_BYTES:
        return _cut(payload, message)
    changes: Message = {}
    if fate and fate.workload and fate.workload.restarts and violates("restart-count-in-status"):
        changes["restarts"] = fate.workload.restarts
    if violates("stopping-written-as-number") and state == STOPPING:
        changes["workloadState"] = STOPPING
    is_stop = fate is not None and fate.command == "workload.stop"
    if violates("null-message-in-stop-reply") and is_stop and state == NOT_FOUND:
        changes["message"] = None
    is_canceled_start = fate is not None and fate.command == "workload.start" and state in (STOPPING, NOT_FOUND)
    if violates("canceled-start-unspecified") and is_canceled_start:
        changes["workloadState"] = "WORKLOAD_STATE_UNSPECIFIED"
    value = json.loads(payload)
    value["workloadStatus"].update(changes)
    if violates("stop-not-found-lacks-id") and is_stop and state == NOT_FOUND:
        del value["workloadStatus"]["workloadId"]
        changes["workloadId"] = None
    return json.dumps(value, ensure_ascii=False).encode() if changes else payload


def _cut(payload: bytes, message: str) -> bytes:
    """Cuts a message after 4096 bytes, or up to three bytes earlier if that is inside of a character."""
    data = json.dumps(message, ensure_ascii=False)[1:-1].encode()
    ends = [CUT_BYTES - back for back in range(4) if data[CUT_BYTES - back] & 0xC0 == 0x80]
    return payload.replace(data, data[: ends[0] if ends else CUT_BYTES])


def distort_heartbeat(payload: bytes, *, is_reply: bool) -> bytes:
    """Returns the payload of a heartbeat as the active violation writes it."""
    value = json.loads(payload)
    if violates("description-in-imports"):
        for entry in value["imports"]:
            entry["description"] = "provided by the host"
    elif violates("component-count-snake-case") and "componentCount" in value:
        value["component_count"] = value.pop("componentCount")
    elif violates("workload-count-as-number") and "workloadCount" in value:
        value["workloadCount"] = int(value["workloadCount"])
    elif violates("http-port-as-string") and "httpPort" in value:
        value["httpPort"] = str(value["httpPort"])
    elif violates("offset-without-colon"):
        value["startedAt"] = value["startedAt"].replace("Z", "+0000")
    elif violates("environment-not-in-replies") and is_reply:
        value.pop("environment", None)
    else:
        return payload
    return json.dumps(value, ensure_ascii=False).encode()
