"""Decoder and encoder beyond the vectors: errors, limits, hostile payloads, secrets."""

from __future__ import annotations

import contextlib
import json
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth import proto
from berth.encoding import MAX_DEPTH, MAX_VALUES, decode, encode
from berth.errors import DecodeError, EncodeError


def decode_start(text: str) -> proto.WorkloadStartRequest:
    return decode(proto.WorkloadStartRequest, text.encode())


def test_decodes_leniently() -> None:
    lenient = decode_start(
        """{"workload_id":"a","later":{"x":[1,{"y":null}]},"workload":{"name":null,"service":
        {"maxRestarts":3.0,"image_pull_policy":2,"localResources":{"memoryLimitMb":"64","config":
        {"k":null,"l":"m"}}},"witWorld":{"components":[{"poolSize":null,"image":"i"}]}}}"""
    )
    strict = decode_start(
        """{"workloadId":"a","workload":{"service":{"maxRestarts":"3",
        "imagePullPolicy":"IMAGE_PULL_POLICY_IF_NOT_PRESENT","localResources":{
        "memoryLimitMb":64,"config":{"l":"m"}}},"witWorld":{"components":[{"image":"i"}]}}}"""
    )
    assert lenient == strict
    heartbeat = decode(
        proto.HostHeartbeat,
        b'{"systemCpuUsage":3.0,"systemMemoryTotal":7,"startedAt":"2020-01-01T00:00:00+01:00"}',
    )
    assert (heartbeat.system_cpu_usage, heartbeat.system_memory_total) == (3.0, 7)
    assert heartbeat.started_at.seconds == 1_577_833_200


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"workloadId":7}', "field `workloadId`: expected a string"),
        (
            '{"workload":{"witWorld":{"components":[{},{"poolSize":"many"}]}}}',
            "field `workload.witWorld.components[1].poolSize`: expected an integer",
        ),
        (
            '{"workload":{"witWorld":{"components":[{"poolSize":4294967296}]}}}',
            "field `workload.witWorld.components[0].poolSize`: expected a number within the range",
        ),
        (
            '{"workload":{"service":{"imagePullSecret":"hunter2"}}}',
            "field `workload.service.imagePullSecret`: expected an object",
        ),
        (
            '{"workload":{"service":{"imagePullPolicy":"hunter2"}}}',
            "field `workload.service.imagePullPolicy`: expected one of IMAGE_PULL_POLICY_UNSPECIFIED, ",
        ),
        ('{"workload":{"volumes":[{"hostPath":{},"emptyDir":{}}]}}', "field `workload.volumes[0]`: both `h"),
        ('{"workloadId":"a","workload_id":"a"}', "field `.`: duplicate field `workloadId`"),
        ('{"workloadId":"\\ud800"}', "field `workloadId`: contains an unpaired surrogate"),
        (
            '{"workload":{"a":{"b":1,"b":2}}}',
            "field `workload.a`: duplicate key 'b'",
        ),
        ("[]", "the payload is not a JSON object: found an array"),
        ("{} {}", "the payload is not a JSON object: Extra data at line 1 column 4"),
        ('{"x":NaN}', "the payload is not a JSON object: NaN and Infinity are not JSON"),
        ('{"workload":{"service":{"maxRestarts":1e400}}}', "field `workload.service.maxRestarts`: expected an"),
        (
            '{"workload":{"service":{"maxRestarts":' + "9" * 5000 + "}}}",
            "field `workload.service.maxRestarts`: ",
        ),
        ("", "the payload is empty"),
    ],
)
def test_names_path_of_invalid_field(text: str, expected: str) -> None:
    with pytest.raises(DecodeError) as error:
        decode_start(text)
    assert str(error.value).startswith(expected)
    assert "hunter2" not in str(error.value)


def test_rejects_hostile_payloads() -> None:
    deep = '{"x":' + "[" * 100_000 + "]" * 100_000 + "}"
    wide = '{"x":[' + "0," * MAX_VALUES + "0]}"
    for payload in (deep, wide, "[" * 900_000, "null"):
        with pytest.raises(DecodeError):
            decode_start(payload)
    with pytest.raises(DecodeError, match="invalid UTF-8 at byte 15"):
        decode(proto.WorkloadStartRequest, b'{"workloadId":"\xff"}')
    decode_start('{"x":' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1) + "}")
    with pytest.raises(DecodeError, match="nested deeper than 64 levels"):
        decode_start('{"x":' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}")


@given(st.binary(max_size=200))
def test_decodes_or_rejects_any_bytes(noise: bytes) -> None:
    decode_or_reject(noise)


TOKENS = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    '"workload"',
    '"workloadId"',
    '"service"',
    "null",
    "1e99",
    "-0",
    '"x"',
    " ",
]


@given(st.lists(st.sampled_from(TOKENS), max_size=30))
def test_decodes_or_rejects_any_json_tokens(tokens: list[str]) -> None:
    decode_or_reject("".join(tokens).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["workload", "service"]), inner)
    ),
)


@given(JSON)
def test_decodes_or_rejects_any_json(value: object) -> None:
    decode_or_reject(json.dumps({"workload": value, "workloadId": value}).encode(errors="replace"))
    decode_or_reject(json.dumps({"startedAt": value, "systemCpuUsage": value}).encode(errors="replace"))


def decode_or_reject(payload: bytes) -> None:
    for message in (proto.WorkloadStartRequest, proto.HostHeartbeat):
        with contextlib.suppress(DecodeError):
            decode(message, payload)


@given(
    st.text(),
    st.text(),
    st.integers(0, 2**64 - 1),
    st.integers(-(2**31), 2**31 - 1),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)
def test_messages_round_trip(workload_id: str, name: str, restarts: int, limit: int, cpu: float) -> None:
    resources = proto.LocalResources(memory_limit_mb=limit, environment={name: workload_id})
    request = proto.WorkloadStartRequest(
        workload_id=workload_id,
        workload=proto.Workload(
            name=name, service=proto.Service(max_restarts=restarts, local_resources=resources)
        ),
    )
    assert decode(proto.WorkloadStartRequest, encode(request)) == request
    heartbeat = proto.HostHeartbeat(system_cpu_usage=cpu)
    assert decode(proto.HostHeartbeat, encode(heartbeat)) == heartbeat


def test_rejects_unnamed_enum_number() -> None:
    component = proto.Component(image_pull_policy=99)  # type: ignore[arg-type]
    with pytest.raises(EncodeError, match=r"`Component\.image_pull_policy` holds 99"):
        encode(proto.Workload(wit_world=proto.WitWorld(components=[component])))


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, 1e39, -1e300])
def test_writer_refuses_number_that_readers_refuse(number: float) -> None:
    heartbeat = proto.HostHeartbeat(system_cpu_usage=number)
    for message in (heartbeat, proto.HostHeartbeatRequest(heartbeat=heartbeat)):
        with pytest.raises(EncodeError, match=r"`HostHeartbeat\.system_cpu_usage` is not a finite number"):
            encode(message)


def test_writer_refuses_other_values_that_readers_refuse() -> None:
    for seconds, nanos in ((-(10**11), 0), (10**12, 0), (0, -1), (0, 10**9)):
        heartbeat = proto.HostHeartbeat(id="a")
        heartbeat.started_at.seconds, heartbeat.started_at.nanos = seconds, nanos
        with pytest.raises(EncodeError, match="started_at"):
            encode(heartbeat)
    environment = {str(number): "" for number in range(MAX_VALUES)}
    with pytest.raises(EncodeError, match="values"):
        encode(proto.LocalResources(environment=environment))
    del environment["0"]
    resources = proto.LocalResources(environment=environment)
    with pytest.raises(EncodeError, match="values"):
        encode(resources)
    del environment["1"]
    resources = proto.LocalResources(environment=environment)
    assert decode(proto.LocalResources, encode(resources)) == resources


@given(
    st.builds(
        proto.HostHeartbeat,
        system_cpu_usage=st.floats(),
        started_at=st.fixed_dictionaries(
            {"seconds": st.integers(-(2**63), 2**63 - 1), "nanos": st.integers(-(2**31), 2**31 - 1)}
        ),
    )
)
def test_each_message_is_encoded_readably_or_refused(heartbeat: proto.HostHeartbeat) -> None:
    with contextlib.suppress(EncodeError):
        assert decode(proto.HostHeartbeat, encode(heartbeat)) == heartbeat


@pytest.mark.parametrize(
    "timestamp",
    [
        "2020-01-01t00:00:00Z",
        "2020-01-01T00:00:00z",
        "2020-01-01 00:00:00Z",
        "2020-01-01T00:00:00.1234567890Z",
        "2020-01-01T00:00:00.Z",
        "2020-01-01T00:00:00",
        "2020-01-01T00:00:00+0100",
        "2020-01-01T24:00:00Z",
        " 2020-01-01T00:00:00Z",
    ],
)
def test_refuses_timestamp(timestamp: str) -> None:
    with pytest.raises(DecodeError, match="startedAt"):
        decode(proto.HostHeartbeat, json.dumps({"startedAt": timestamp}).encode())


@pytest.mark.parametrize(
    "text", ["+3", "", " 3", "3 ", "0x3", "3_0", "\u0663", "--3", "007", ".5", "5.", "NaN"]
)
def test_refuses_text_that_is_not_a_json_number(text: str) -> None:
    for field in ("systemMemoryTotal", "httpPort", "systemCpuUsage"):
        with pytest.raises(DecodeError, match=field):
            decode(proto.HostHeartbeat, json.dumps({field: text}).encode())


@pytest.mark.parametrize(
    "value",
    [
        "1e400",
        "-1e400",
        "9" * 5000,
        "-" + "9" * 5000,
        '"\\ud800"',
        '{"\\ud800":"\\udfff"}',
        '{"a_b":null,"aB":1}',
        '{"aB":1,"a_b":null}',
        "[null,1e400]",
        "0.1e-999",
    ],
)
def test_ignores_unknown_field_with_any_value(value: str) -> None:
    assert decode_start(f'{{"workloadId":"a","later":{value}}}').workload_id == "a"
    assert decode_start(f'{{"workloadId":"a","workload":{{"later":{value}}}}}').workload_id == "a"
    assert decode_start(f'{{"\\ud800":{value},"workloadId":"a"}}').workload_id == "a"


def test_null_and_its_alias_are_a_duplicate_only_in_known_fields() -> None:
    for text in ('{"workloadId":null,"workload_id":"a"}', '{"workload_id":"a","workloadId":null}'):
        with pytest.raises(DecodeError, match="duplicate"):
            decode_start(text)
    labels = decode(proto.HostHeartbeat, b'{"labels":{"a_b":null,"aB":"x"}}').labels
    assert dict(labels) == {"aB": "x"}
    # A null member of a oneof is unset, so the other one may be set.
    volume = decode(proto.Volume, b'{"hostPath":null,"emptyDir":{}}')
    assert volume.HasField("empty_dir")


def test_repr_hides_secrets() -> None:
    resources = proto.LocalResources(
        environment={"KEY": "hunter1"}, config={"k": "hunter2"}, allowed_hosts=["a.example"]
    )
    secret = proto.ImagePullSecret(username="hunter3", password="hunter4")
    interface = proto.WitInterface(namespace="wasi", config={"c": "hunter5"})
    workload = proto.Workload(
        name="shop",
        service=proto.Service(image="i", local_resources=resources, image_pull_secret=secret, max_restarts=3),
        wit_world=proto.WitWorld(host_interfaces=[interface]),
    )
    for text in (repr(workload), str(workload), f"{[workload]}", repr(secret), str(resources)):
        assert "hunter" not in text
    assert repr(workload) == (
        "Workload(name='shop', service=Service(image='i', "
        "local_resources=LocalResources(config={'k': [redacted]}, environment={'KEY': [redacted]}, "
        "allowed_hosts=['a.example']), max_restarts=3, "
        "image_pull_secret=ImagePullSecret(username=[redacted], password=[redacted])), "
        "wit_world=WitWorld(host_interfaces=[WitInterface(namespace='wasi', config={'c': [redacted]})]))"
    )
    heartbeat = decode(proto.HostHeartbeat, b'{"startedAt":"2020-01-01T00:00:00Z"}')
    assert repr(heartbeat) == "HostHeartbeat(started_at=Timestamp(seconds=1577836800))"


def test_messages_can_be_pickled() -> None:
    workload = proto.Workload(name="a")
    assert pickle.loads(pickle.dumps(workload)) == workload
