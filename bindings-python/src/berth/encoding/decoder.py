"""Decodes a message as leniently as the protocol requires, and rejects input that it forbids."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TypeVar, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from berth.encoding.parser import JsonValue, parse
from berth.errors import DecodeError
from berth.proto._pool import Timestamp

M = TypeVar("M", bound=Message)

_INTEGER_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}

# Numbers as in JSON.
_DIGITS = re.compile(r"-?(0|[1-9][0-9]{0,19})", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(Z|[+-]\d{2}:\d{2})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SINGLE_OVERFLOW = 3.4028235677973366e38
"""Smallest number that single precision rounds to infinity."""
_MAX_EXACT = 2**53
"""Largest number up to which a float represents every integer exactly."""


def decode(message_type: type[M], payload: bytes) -> M:
    """Decodes the message in a payload.

    Unknown fields are ignored, null means unset, numbers may be strings, enums may be numbers, and a field may
    have its JSON name or its proto name.

    Raises `DecodeError`, which names the invalid field and contains no value, because values may be secrets.
    """
    message = message_type()
    _decode_message(message, parse(payload), "")
    return message


def _decode_message(message: Message, members: dict[str, JsonValue], path: str) -> None:
    fields = _fields_of(message)
    seen: set[str] = set()
    present: set[str] = set()
    for key, value in members.items():
        field = fields.get(key)
        if field is None:
            continue
        if field.name in seen:
            raise DecodeError(f"duplicate field `{field.json_name}`", path or ".")
        seen.add(field.name)
        if value is None:  # null means unset
            continue
        present.add(field.name)
        conflict = _oneof_conflict(field, present)
        if conflict is not None:
            raise DecodeError(f"both `{conflict.json_name}` and `{field.json_name}` are set", path or ".")
        _decode_field(message, field, value, f"{path}.{key}" if path else key)


def _oneof_conflict(field: FieldDescriptor, present: set[str]) -> FieldDescriptor | None:
    """Returns another member of the same oneof that is also set, if any."""
    if field.containing_oneof is None:
        return None
    others = (other for other in field.containing_oneof.fields if other is not field)
    return next((other for other in others if other.name in present), None)


_fields_cache: dict[str, dict[str, FieldDescriptor]] = {}


def _fields_of(message: Message) -> dict[str, FieldDescriptor]:
    """Returns the fields of a message by JSON name and by proto name."""
    descriptor = cast(Descriptor, message.DESCRIPTOR)
    fields = _fields_cache.get(descriptor.full_name)
    if fields is None:
        fields = {field.name: field for field in descriptor.fields}
        fields |= {field.json_name: field for field in descriptor.fields}
        _fields_cache[descriptor.full_name] = fields
    return fields


def _decode_field(message: Message, field: FieldDescriptor, value: JsonValue, path: str) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        if not isinstance(value, dict):
            raise DecodeError("expected a map", path)
        value_field = field.message_type.fields_by_name["value"]
        entries = getattr(message, field.name)
        for key, entry in value.items():
            if entry is None:
                continue
            entries[_text(key, path)] = _scalar(value_field, entry, f"{path}.{key}")
    elif field.is_repeated:
        if not isinstance(value, list):
            raise DecodeError("expected a list", path)
        items = getattr(message, field.name)
        for index, item in enumerate(value):
            item_path = f"{path}[{index}]"
            if field.message_type is None:
                items.append(_scalar(field, item, item_path))
            else:
                _decode_message(items.add(), _object(item, item_path), item_path)
    elif field.message_type is None:
        setattr(message, field.name, _scalar(field, value, path))
    elif field.message_type.full_name == Timestamp.DESCRIPTOR.full_name:
        getattr(message, field.name).CopyFrom(_timestamp(value, path))
    else:
        nested = getattr(message, field.name)
        nested.SetInParent()
        _decode_message(nested, _object(value, path), path)


def _object(value: JsonValue, path: str) -> dict[str, JsonValue]:
    if not isinstance(value, dict):
        raise DecodeError("expected an object", path)
    return value


def _scalar(field: FieldDescriptor, value: JsonValue, path: str) -> str | bool | int | float:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return _text(value, path)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if not isinstance(value, bool):
            raise DecodeError("expected a boolean", path)
        return value
    if field.enum_type is not None:
        return _enum(field.enum_type, value, path)
    if field.cpp_type in _INTEGER_RANGES:
        low, high = _INTEGER_RANGES[field.cpp_type]
        number = _integer(value, path)
        if not low <= number <= high:
            raise DecodeError("expected a number within the range of the field", path)
        return number
    return _float(value, path)


def _text(value: JsonValue, path: str) -> str:
    if not isinstance(value, str):
        raise DecodeError("expected a string", path)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DecodeError("contains an unpaired surrogate", path) from error
    return value


def _enum(enum: EnumDescriptor, value: JsonValue, path: str) -> int:
    names = enum.values_by_name
    if isinstance(value, str):
        if value not in names:
            raise DecodeError(f"expected one of {', '.join(names)}", path)
        return int(names[value].number)
    number = _integer(value, path)
    if number not in enum.values_by_number:
        raise DecodeError("expected a number defined by the enum", path)
    return number


def _integer(value: JsonValue, path: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    # An integer written with a fraction or an exponent.
    if isinstance(value, float) and value.is_integer() and abs(value) <= _MAX_EXACT:
        return int(value)
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    raise DecodeError("expected an integer", path)


def _float(value: JsonValue, path: str) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DecodeError("expected a number", path)
    # Also rejects infinity, and an integer that exceeds the range of a float.
    if not -_SINGLE_OVERFLOW < value < _SINGLE_OVERFLOW:
        raise DecodeError("expected a number within the range of the field", path)
    return float(value)


def _timestamp(value: JsonValue, path: str) -> Timestamp:
    parts = _TIME.fullmatch(value) if isinstance(value, str) else None
    if parts is None:
        raise DecodeError("expected an RFC 3339 timestamp", path)
    date, time, fraction, zone = parts.groups()
    try:
        instant = datetime.fromisoformat(f"{date}T{time}{'+00:00' if zone == 'Z' else zone}")
        since_epoch = instant - _EPOCH
    except (ValueError, OverflowError) as error:
        raise DecodeError("expected an RFC 3339 timestamp", path) from error
    seconds = since_epoch.days * 86_400 + since_epoch.seconds
    return Timestamp(seconds=seconds, nanos=int((fraction or "0").ljust(9, "0")))
