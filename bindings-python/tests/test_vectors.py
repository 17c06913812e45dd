"""The golden vectors, both ways."""

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
from berth.encoding import read, write
from berth.errors import ReadError

VECTORS = Path(__file__).parents[2] / "proto" / "vectors"
BY_NAME = {message.DESCRIPTOR.name: message for message in proto.MESSAGES}


def vectors() -> Iterator[Any]:
    for path in sorted(VECTORS.glob("*.json")):
        for vector in json.loads(path.read_text(encoding="utf-8"))["vectors"]:
            yield pytest.param(vector, id=f"{path.stem}: {vector['name']}")


ALL = list(vectors())


@pytest.mark.parametrize("vector", ALL)
def test_a_vector_is_obeyed_both_ways(vector: dict[str, Any]) -> None:
    message = BY_NAME[vector["message"]]
    expected = read(message, encoded(vector["canonical"]))
    assert comparable(json.loads(write(expected))) == comparable(vector["canonical"])
    assert message.FromString(expected.SerializeToString()) == expected
    for entry in vector["accepts"]:
        assert read(message, payload(entry)) == expected, entry["why"]
    for entry in vector["refuses"]:
        with pytest.raises(ReadError) as refused:
            read(message, payload(entry))
        if "field" in entry:
            assert entry["field"] in str(refused.value), entry["why"]


def test_each_message_has_vectors_and_each_vector_a_message() -> None:
    assert {param.values[0]["message"] for param in ALL} == set(BY_NAME)
    schema = proto._gen.workload_pb2.DESCRIPTOR.pool
    known = [
        name
        for file in ("host_heartbeat", "host_service", "wit_interface", "workload", "workload_service")
        for name in schema.FindFileByName(f"wasmcloud/runtime/v2/{file}.proto").message_types_by_name
    ]
    assert sorted(known) == sorted(BY_NAME)


def payload(entry: dict[str, Any]) -> bytes:
    if "json" in entry:
        return encoded(entry["json"])
    if "text" in entry:
        return str(entry["text"]).encode()
    return base64.b64decode(entry["base64"])


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def comparable(value: Any) -> Any:
    """The value with the one timestamp as an instant and the one float in single precision."""
    if isinstance(value, list):
        return [comparable(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: comparable(of) for key, of in value.items()}
    if isinstance(found.get("startedAt"), str):
        instant = Timestamp()
        instant.FromJsonString(found["startedAt"])
        found["startedAt"] = (instant.seconds, instant.nanos)
    if "systemCpuUsage" in found:
        found["systemCpuUsage"] = struct.pack("f", found["systemCpuUsage"])
    return found
