"""JSON mapping of the schema: a liberal reader of requests and a strict writer of replies and heartbeats."""

import json
import math
import re
from typing import Any

from schema import ENUMS, INTEGER_RANGES, MESSAGES, ONEOFS
from violation import violates

Message = dict[str, Any]

# HOST-WIRE-011: the schema needs ten levels; deeper payloads are refused before they are decoded.
MAX_DEPTH = 100

_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")


class InvalidPayload(Exception):  # noqa: N818 - a payload is invalid, the program has no error
    """A payload that is not a valid message; the text begins with the path of the field."""


class _Object(list[tuple[str, Any]]):
    """The members of a JSON object in their order, including duplicates."""


class _NotInteger(str):
    """A JSON number with a fraction or an exponent, as text."""

    __slots__ = ()


def read(message: str, payload: bytes) -> Message:
    """Decodes a payload; the result has a value for each field, None for an unset message."""
    if violates("leading-white-space-refused") and payload[:1] != b"{":
        raise InvalidPayload("the payload is not an object")
    try:
        value = _parse(_text(payload))
    except RecursionError:
        raise InvalidPayload("the payload is nested too deeply") from None
    except ValueError as error:  # includes invalid UTF-8; the text of the error would quote the payload
        if violates("huge-number-unanswered") and "Exceeds the limit" in str(error):
            raise
        raise InvalidPayload("the payload is not valid JSON in UTF-8") from None
    _check_tree(value, "", 0)
    try:
        return _read_message(message, value, "")
    except InvalidPayload as error:
        if violates("refusal-names-first-component"):
            raise InvalidPayload(re.sub(r"components\[\d+\]", "components[0]", str(error))) from None
        raise


def _text(payload: bytes) -> str:
    if violates("payload-cut-at-crlf"):
        payload = payload.split(b"\r\n")[0]
    if violates("payload-over-64-kib-refused"):
        payload = payload[:65536]
    if violates("utf16-accepted") and json.detect_encoding(payload).startswith("utf-16"):
        return payload.decode("utf-16")
    if violates("invalid-utf8-replaced"):
        return payload.decode("utf-8", "replace")
    return payload.decode("utf-8")


def _parse(text: str) -> object:
    decoder = json.JSONDecoder(
        object_pairs_hook=_Object, parse_float=_NotInteger, parse_constant=_refuse_constant
    )
    if violates("trailing-data-accepted"):
        return decoder.raw_decode(text.lstrip())[0]
    return decoder.decode(text)


def _refuse_constant(text: str) -> str:
    if violates("nan-accepted"):
        return _NotInteger(text)
    raise ValueError("not a JSON number")


def _check_tree(value: object, path: str, depth: int) -> None:
    """Refuses deep nesting and duplicate keys, in unknown fields as well."""
    if depth > MAX_DEPTH:
        raise InvalidPayload("the payload is nested too deeply")
    if isinstance(value, _Object):
        seen: set[str] = set()
        for key, item in value:
            lenient = violates("duplicate-environment-key") and path.endswith(".environment")
            if key in seen and not lenient:  # HOST-JSON-017
                raise InvalidPayload(f"{_join(path, key)}: the key appears twice")
            seen.add(key)
            _check_tree(item, _join(path, key), depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_tree(item, f"{path}[{index}]", depth + 1)


def _check_text(text: str, path: str) -> None:
    if violates("surrogate-id-unanswered") and path == "workloadId":
        return
    if _SURROGATE.search(text):
        raise InvalidPayload(f"{path or 'payload'}: the text is not valid Unicode")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


# Proto names that a violation ignores.
_IGNORED_NAMES = {
    ("VolumeMount", "read_only"): "read-only-proto-name-ignored",
    ("Service", "image_pull_secret"): "service-pull-secret-proto-name",
    ("LocalResources", "allowed_hosts"): "allowed-hosts-proto-name",
}


def _read_message(message: str, value: object, path: str) -> Message:
    if not isinstance(value, _Object):
        raise InvalidPayload(f"{path or 'payload'}: {_kind(value)} is not an object")
    fields = MESSAGES[message]
    names = {_proto_name(name): name for name in fields} | {name: name for name in fields}
    for (owner, proto_name), violation in _IGNORED_NAMES.items():
        if message == owner and violates(violation):
            del names[proto_name]
    result = {name: _default(kind) for name, kind in fields.items()}
    if violates("absent-max-restarts-is-1") and message == "Service":
        result["maxRestarts"] = 1
    seen: set[str] = set()
    for key, item in value:
        name = names.get(key)
        if name is None:  # HOST-JSON-009
            name = _read_unknown(message, key, item, path)
            if name is None:
                continue
        elif name in seen:
            raise InvalidPayload(f"{_join(path, name)}: the field appears under both of its names")
        seen.add(name)
        if violates("stop-coerces-number-id") and message == "WorkloadStopRequest" and _is_integer(item):
            item = str(item)
        if item is not None:  # HOST-JSON-013
            result[name] = _read_field(fields[name], item, _join(path, name))
        elif (replacement := _read_null(name, path)) is not None:
            result[name] = replacement
    _check_oneof(message, value, result, path)
    if message == "Workload" and violates("volumes-must-come-first"):
        order = [names.get(key) for key, _ in value]
        late = "volumes" in order and "witWorld" in order[: order.index("volumes")]
        result["volumesAreLate"] = late
    lacks_components = "hostInterfaces" in seen and "components" not in seen
    if message == "WitWorld" and violates("absent-components-refused") and lacks_components:
        raise InvalidPayload(f"{_join(path, 'components')}: the field is absent")
    return result


def _read_unknown(message: str, key: str, item: object, path: str) -> str | None:
    """Ignores an unknown field; returns a name only for a violation that guesses the field."""
    if violates("unknown-mount-field-refused") and message == "VolumeMount":
        raise InvalidPayload(f"{_join(path, key)}: the field is unknown")
    if violates("twelve-levels-refused") and _depth(item) > 12:
        raise InvalidPayload(f"{_join(path, key)}: the value is nested too deeply")
    if violates("field-names-case-insensitive"):
        return {name.lower(): name for name in MESSAGES[message]}.get(key.lower())
    return None


def _depth(value: object) -> int:
    """Returns the number of levels of objects."""
    if isinstance(value, _Object):
        return 1 + max((_depth(item) for _, item in value), default=0)
    return max(map(_depth, value), default=0) if isinstance(value, list) else 0


def _read_null(name: str, path: str) -> object:
    """Returns None, or the value that a violation reads from `null`."""
    if violates("null-environment-refused") and name == "environment":
        raise InvalidPayload(f"{_join(path, name)}: null is not an object")
    if violates("null-id-becomes-text") and name == "workloadId":
        return "None"
    if violates("null-workload-runs") and name == "workload":
        return _read_message("Workload", _Object(), path)
    return None


def _check_oneof(message: str, value: _Object, result: Message, path: str) -> None:
    """HOST-JSON-015: refuses a message that sets two members of a oneof."""
    oneof = ONEOFS.get(message, ())
    members = [name for name in oneof if result[name] is not None]
    keys = [key for key, _ in value]
    if violates("oneof-mixed-names-accepted"):
        members = [name for name in members if name in keys]
    if violates("oneof-unchecked-if-unmounted"):
        return
    if oneof and violates("null-oneof-member-counted"):
        members = [name for name in oneof if name in keys or _proto_name(name) in keys]
    if oneof and violates("unknown-volume-type-counted"):
        members = [key for key in keys if key != "name"]
    if len(members) > 1:
        raise InvalidPayload(f"{_join(path, members[1])}: conflicts with {members[0]}")


def _proto_name(name: str) -> str:
    return re.sub("[A-Z]", lambda match: "_" + match.group().lower(), name)


def _default(kind: str) -> Any:
    if kind.startswith("repeated "):
        return []
    if kind in INTEGER_RANGES or kind in ENUMS:
        return 0
    if kind == "map":
        return {}
    return {"string": "", "bool": False, "float": 0.0}.get(kind)


def _read_field(kind: str, value: object, path: str) -> Any:
    if violates("falsy-service-as-unset") and kind == "Service" and _is_falsy(value):
        return None
    if kind.startswith("repeated "):
        if violates("single-text-as-list") and path.endswith(".allowedHosts") and isinstance(value, str):
            value = [value]
        if violates("null-component-skipped") and kind == "repeated Component" and isinstance(value, list):
            value = [item for item in value if item is not None]
        if not isinstance(value, list) or isinstance(value, _Object):
            raise InvalidPayload(f"{path}: {_kind(value)} is not an array")
        item_kind = kind.removeprefix("repeated ")
        return [_read_field(item_kind, item, f"{path}[{index}]") for index, item in enumerate(value)]
    if kind == "map":
        return _read_map(value, path)
    if kind in INTEGER_RANGES:
        return _read_integer(kind, value, path)
    if kind in ENUMS:
        return _read_enum(kind, value, path)
    if kind in MESSAGES:
        return _read_message(kind, value, path)
    if isinstance(value, _NotInteger) or not isinstance(value, bool if kind == "bool" else str):
        if violates("refusal-quotes-password") and path.endswith(".password"):
            raise InvalidPayload(f"{path}: {value} is not a string")
        raise InvalidPayload(f"{path}: {_kind(value)} is not a {'boolean' if kind == 'bool' else 'string'}")
    if isinstance(value, str):
        _check_text(value, path)
    return value


def _is_falsy(value: object) -> bool:
    return not isinstance(value, _Object | bool) and value in ([], "", 0)


def _read_map(value: object, path: str) -> dict[str, str]:
    if not isinstance(value, _Object):
        raise InvalidPayload(f"{path}: {_kind(value)} is not an object")
    coerces = violates("map-number-coerced") and path.endswith(".environment")
    for key, item in value:
        _check_text(key, path)
        if coerces and (_is_integer(item) or isinstance(item, _NotInteger)):
            continue
        if not isinstance(item, str) or isinstance(item, _NotInteger):
            raise InvalidPayload(f"{path}.{key}: {_kind(item)} is not a string")
        _check_text(item, f"{path}.{key}")
    return {key: str(item) for key, item in value}


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _read_integer(kind: str, value: object, path: str) -> int:
    field = path.rpartition(".")[2]
    text = value if isinstance(value, str) and not isinstance(value, _NotInteger) else None
    if violates("memory-limit-string-refused") and field == "memoryLimitMb" and text is not None:
        raise InvalidPayload(f"{path}: a string is not an integer")
    if violates("boolean-as-integer") and field in ("poolSize", "maxInvocations", "maxConcurrency"):
        value = int(value) if isinstance(value, bool) else value
    if violates("underscore-in-integer") and field == "maxRestarts" and text is not None:
        value = _python_integer(text)
    elif text is not None and _DECIMAL.fullmatch(text) and len(text) <= 32:
        value = int(text)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidPayload(f"{path}: {_kind(value)} is not an integer")
    if violates("pool-size-wraps") and field == "poolSize":
        value = (value + 2**31) % 2**32 - 2**31
    low, high = INTEGER_RANGES[kind]
    if not low <= value <= high:
        raise InvalidPayload(f"{path}: the number is outside the range of {kind}")
    if violates("text-max-restarts-unbounded") and field == "maxRestarts" and text is not None:
        return min(value, 2**32 - 1)
    return value


def _python_integer(text: str) -> object:
    try:
        return int(text)
    except ValueError:
        return text


def _read_enum(kind: str, value: object, path: str) -> int:
    names = ENUMS[kind]
    if violates("enum-name-case-folded") and isinstance(value, str):
        value = value.upper()
    if violates("enum-number-in-string") and isinstance(value, str) and _DECIMAL.fullmatch(value):
        value = int(value)
    if violates("pull-policy-number-off-by-one") and isinstance(value, int) and not isinstance(value, bool):
        value += 1
    if isinstance(value, str) and value in names:
        return names.index(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return value
    if violates("refusal-quotes-whole-value"):
        raise InvalidPayload(f"{path}: {value} is not a value of {kind}")
    raise InvalidPayload(f"{path}: {_kind(value)} is not a value of {kind}")


def _kind(value: object) -> str:
    """Names the JSON type of a value; the value itself may be secret."""
    if value is None:
        return "null"
    if isinstance(value, _Object):
        return "an object"
    if isinstance(value, _NotInteger):
        return "a number with a fraction or an exponent"
    kinds: dict[type, str] = {bool: "a boolean", int: "a number", str: "a string", list: "an array"}
    return kinds[type(value)]


def write(message: str, value: Message) -> bytes:
    """Encodes a message without its default values; a field outside the schema is a defect of the caller."""
    return json.dumps(_write_message(message, value), ensure_ascii=False, allow_nan=False).encode("utf-8")


def _write_message(message: str, value: Message) -> Message:
    fields = MESSAGES[message]
    return {
        name: _write_field(fields[name], item)
        for name, item in value.items()
        if item is not None and item != _default(fields[name])
    }


def _write_field(kind: str, value: Any) -> Any:
    if kind.startswith("repeated "):
        return [_write_field(kind.removeprefix("repeated "), item) for item in value]
    if kind == "uint64":  # HOST-JSON-004
        return str(value)
    if kind in ENUMS:  # HOST-JSON-003
        return ENUMS[kind][value]
    if kind in MESSAGES:
        return _write_message(kind, value)
    if kind == "float" and not math.isfinite(value):
        return 0.0
    return value
