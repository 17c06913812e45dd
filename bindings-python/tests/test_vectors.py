"""Golden vectors, decoded and encoded."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from berth import proto
from berth.encoding import decode, encode
from berth.errors import DecodeError

VECTORS = Path(__file__).parents[2] / "proto" / "vectors"
MESSAGE_TYPES = {message.DESCRIPTOR.name: message for message in proto.MESSAGES}


def vectors() -> Iterator[Any]:
    for path in sorted(VECTORS.glob("*.json")):
        for vector in json.loads(path.read_text(encoding="utf-8"))["vectors"]:
            yield pytest.param(vector, id=f"{path.stem}: {vector['name']}")


ALL_VECTORS = list(vectors())


@pytest.mark.parametrize("vector", ALL_VECTORS)
def test_decodes_and_encodes_vector(vector: dict[str, Any]) -> None:
    message = MESSAGE_TYPES[vector["message"]]
    expected = decode(message, to_json(vector["canonical"]))
    assert normalized(json.loads(encode(expected))) == normalized(vector["canonical"])
    assert message.FromString(expected.SerializeToString()) == expected
    for entry in vector["accepts"]:
        assert decode(message, payload(entry)) == expected, entry["why"]
    for entry in vector["refuses"]:
        with pytest.raises(DecodeError) as error:
            decode(message, payload(entry))
        if "field" in entry:
            assert entry["field"] in str(error.value), entry["why"]


def test_vectors_cover_all_messages() -> None:
    assert {param.values[0]["message"] for param in ALL_VECTORS} == set(MESSAGE_TYPES)
    pool = proto._gen.workload_pb2.DESCRIPTOR.pool
    schema_messages = [
        name
        for file in ("host_heartbeat", "host_service", "wit_interface", "workload", "workload_service")
        for name in pool.FindFileByName(f"wasmcloud/runtime/v2/{file}.proto").message_types_by_name
    ]
    assert sorted(schema_messages) == sorted(MESSAGE_TYPES)


def payload(entry: dict[str, Any]) -> bytes:
    if "json" in entry:
        return to_json(entry["json"])
    if "text" in entry:
        return str(entry["text"]).encode()
    return base64.b64decode(entry["base64"])


def to_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def normalized(value: Any) -> Any:
    """Returns the value with its timestamp as an instant and its float in single precision."""
    if isinstance(value, list):
        return [normalized(item) for item in value]
    if not isinstance(value, dict):
        return value
    members = {key: normalized(member) for key, member in value.items()}
    if isinstance(members.get("startedAt"), str):
        instant = Timestamp()
        instant.FromJsonString(members["startedAt"])
        members["startedAt"] = (instant.seconds, instant.nanos)
    if "systemCpuUsage" in members:
        members["systemCpuUsage"] = struct.pack("f", members["systemCpuUsage"])
    return members
