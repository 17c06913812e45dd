"""JSON mapping of the schema: a liberal reader of requests and a strict writer of replies and heartbeats."""

import json
import math
import re
from typing import Any

from schema import ENUMS, INTEGER_RANGES, MESSAGES, ONEOFS

Message = dict[str, Any]

# HOST-WIRE-011: the schema needs ten levels; deeper payloads are refused before they are decoded.
MAX_DEPTH = 100

_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")


class InvalidPayload(Exception):  # noqa: N818 - a payload is invalid, the program has no error
    """A payload that is not a valid message; the text begins with the path of the field."""


class _Object(list[tuple[str, Any]]):
    """The members of a JSON object in their order, including duplicates."""


class _NotInteger:
    """A JSON number with a fraction or an exponent."""


def read(message: str, payload: bytes) -> Message:
    """Decodes a payload; the result has a value for each field, None for an unset message."""
    try:
        value = json.loads(
            payload.decode("utf-8"),
            object_pairs_hook=_Object,
            parse_float=lambda _: _NotInteger(),
            parse_constant=_refuse_constant,
        )
    except RecursionError:
        raise InvalidPayload("the payload is nested too deeply") from None
    except ValueError:  # includes invalid UTF-8; the text of the error would quote the payload
        raise InvalidPayload("the payload is not valid JSON in UTF-8") from None
    _check_tree(value, "", 0)
    return _read_message(message, value, "")


def _refuse_constant(_: str) -> None:
    raise ValueError("not a JSON number")


def _check_tree(value: object, path: str, depth: int) -> None:
    """Refuses deep nesting, duplicate keys and text that is not Unicode, in unknown fields as well."""
    if depth > MAX_DEPTH:
        raise InvalidPayload("the payload is nested too deeply")
    if isinstance(value, _Object):
        seen: set[str] = set()
        for key, item in value:
            _check_text(key, path)
            if key in seen:  # HOST-JSON-017
                raise InvalidPayload(f"{_join(path, key)}: the key appears twice")
            seen.add(key)
            _check_tree(item, _join(path, key), depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_tree(item, f"{path}[{index}]", depth + 1)
    elif isinstance(value, str):
        _check_text(value, path)


def _check_text(text: str, path: str) -> None:
    if _SURROGATE.search(text):
        raise InvalidPayload(f"{path or 'payload'}: the text is not valid Unicode")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _read_message(message: str, value: object, path: str) -> Message:
    if not isinstance(value, _Object):
        raise InvalidPayload(f"{path or 'payload'}: {_kind(value)} is not an object")
    fields = MESSAGES[message]
    names = {_proto_name(name): name for name in fields} | {name: name for name in fields}
    result = {name: _default(kind) for name, kind in fields.items()}
    seen: set[str] = set()
    for key, item in value:
        name = names.get(key)
        if name is None:  # HOST-JSON-009
            continue
        if name in seen:
            raise InvalidPayload(f"{_join(path, name)}: the field appears under both of its names")
        seen.add(name)
        if item is not None:  # HOST-JSON-013
            result[name] = _read_field(fields[name], item, _join(path, name))
    members = [name for name in ONEOFS.get(message, ()) if result[name] is not None]
    if len(members) > 1:  # HOST-JSON-015
        raise InvalidPayload(f"{_join(path, members[1])}: conflicts with {members[0]}")
    return result


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
    if kind.startswith("repeated "):
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
    if not isinstance(value, bool if kind == "bool" else str):
        raise InvalidPayload(f"{path}: {_kind(value)} is not a {'boolean' if kind == 'bool' else 'string'}")
    return value


def _read_map(value: object, path: str) -> dict[str, str]:
    if not isinstance(value, _Object):
        raise InvalidPayload(f"{path}: {_kind(value)} is not an object")
    for key, item in value:
        if not isinstance(item, str):
            raise InvalidPayload(f"{path}.{key}: {_kind(item)} is not a string")
    return dict(value)


def _read_integer(kind: str, value: object, path: str) -> int:
    if isinstance(value, str) and _DECIMAL.fullmatch(value) and len(value) <= 32:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidPayload(f"{path}: {_kind(value)} is not an integer")
    low, high = INTEGER_RANGES[kind]
    if not low <= value <= high:
        raise InvalidPayload(f"{path}: the number is outside the range of {kind}")
    return value


def _read_enum(kind: str, value: object, path: str) -> int:
    names = ENUMS[kind]
    if isinstance(value, str) and value in names:
        return names.index(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return value
    raise InvalidPayload(f"{path}: {_kind(value)} is not a value of {kind}")


def _kind(value: object) -> str:
    """Names the JSON type of a value; the value itself may be secret."""
    if value is None:
        return "null"
    if isinstance(value, _Object):
        return "an object"
    if isinstance(value, _NotInteger):
        return "a number with a fraction or an exponent"
    kinds = {bool: "a boolean", int: "a number", str: "a string", list: "an array"}
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
