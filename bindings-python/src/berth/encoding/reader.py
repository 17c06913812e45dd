"""Reads a message as liberally as the protocol demands, and refuses what it forbids."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TypeVar, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from berth.encoding.tree import Tree, parse
from berth.errors import ReadError

M = TypeVar("M", bound=Message)

_INTEGER_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}

_DIGITS = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_SINGLE = 3.4028235677973366e38
_MAX_EXACT = 2**53


def read(message: type[M], payload: bytes) -> M:
    """The message in a payload.

    Unknown fields are ignored, null means unset, numbers may be strings, enums may be numbers, both names of a
    field are known.

    Raises `ReadError`, which names the field that is wrong and quotes no value, because values may be secrets.
    """
    into = message()
    _read_message(into, parse(payload), "")
    return into


def _read_message(into: Message, members: dict[str, Tree], path: str) -> None:
    fields = _fields_of(into)
    given: set[str] = set()
    for key, value in members.items():
        field = fields.get(key)
        if field is None:
            continue
        if field.name in given:
            raise ReadError(f"duplicate field `{field.json_name}`", path or ".")
        given.add(field.name)
        rival = _rival(field, given)
        if rival is not None:
            raise ReadError(f"both `{rival.json_name}` and `{field.json_name}` are set", path or ".")
        _read_field(into, field, value, f"{path}.{key}" if path else key)


def _rival(field: FieldDescriptor, given: set[str]) -> FieldDescriptor | None:
    """Another member of the same oneof that is given as well."""
    if field.containing_oneof is None:
        return None
    rivals = (other for other in field.containing_oneof.fields if other is not field)
    return next((rival for rival in rivals if rival.name in given), None)


_known_fields: dict[str, dict[str, FieldDescriptor]] = {}


def _fields_of(message: Message) -> dict[str, FieldDescriptor]:
    """The fields of a message under both of their names."""
    descriptor = cast(Descriptor, message.DESCRIPTOR)
    known = _known_fields.get(descriptor.full_name)
    if known is None:
        known = {field.name: field for field in descriptor.fields}
        known |= {field.json_name: field for field in descriptor.fields}
        _known_fields[descriptor.full_name] = known
    return known


def _read_field(into: Message, field: FieldDescriptor, value: Tree, path: str) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        if not isinstance(value, dict):
            raise ReadError("expected a map", path)
        entry = field.message_type.fields_by_name["value"]
        entries = getattr(into, field.name)
        for key, of in value.items():
            entries[_text(key, path)] = _scalar(entry, of, f"{path}.{key}")
    elif field.is_repeated:
        if not isinstance(value, list):
            raise ReadError("expected a list", path)
        items = getattr(into, field.name)
        for index, item in enumerate(value):
            place = f"{path}[{index}]"
            if field.message_type is None:
                items.append(_scalar(field, item, place))
            else:
                _read_message(items.add(), _object(item, place), place)
    elif field.message_type is None:
        setattr(into, field.name, _scalar(field, value, path))
    elif field.message_type.full_name == Timestamp.DESCRIPTOR.full_name:
        getattr(into, field.name).CopyFrom(_timestamp(value, path))
    else:
        below = getattr(into, field.name)
        below.SetInParent()
        _read_message(below, _object(value, path), path)


def _object(value: Tree, path: str) -> dict[str, Tree]:
    if not isinstance(value, dict):
        raise ReadError("expected an object", path)
    return value


def _scalar(field: FieldDescriptor, value: Tree, path: str) -> str | bool | int | float:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return _text(value, path)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if not isinstance(value, bool):
            raise ReadError("expected a boolean", path)
        return value
    if field.enum_type is not None:
        return _enum(field.enum_type, value, path)
    if field.cpp_type in _INTEGER_RANGES:
        low, high = _INTEGER_RANGES[field.cpp_type]
        number = _integer(value, path)
        if not low <= number <= high:
            raise ReadError("expected a number within the range of the field", path)
        return number
    return _float(value, path)


def _text(value: Tree, path: str) -> str:
    if not isinstance(value, str):
        raise ReadError("expected a string", path)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ReadError("holds half of a surrogate pair", path) from error
    return value


def _enum(enum: EnumDescriptor, value: Tree, path: str) -> int:
    names = enum.values_by_name
    if isinstance(value, str):
        if value not in names:
            raise ReadError(f"expected one of {', '.join(names)}", path)
        return int(names[value].number)
    number = _integer(value, path)
    if number not in enum.values_by_number:
        raise ReadError("expected a number that the enum has", path)
    return number


def _integer(value: Tree, path: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    # Written with a fraction or an exponent, and whole all the same.
    if isinstance(value, float) and value.is_integer() and abs(value) <= _MAX_EXACT:
        return int(value)
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    raise ReadError("expected an integer", path)


def _float(value: Tree, path: str) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ReadError("expected a number", path)
    # Also says no to infinity, and to an integer that no float can hold.
    if not -_MAX_SINGLE < value < _MAX_SINGLE:
        raise ReadError("expected a number within the range of the field", path)
    return float(value)


def _timestamp(value: Tree, path: str) -> Timestamp:
    parts = _TIME.fullmatch(value) if isinstance(value, str) else None
    if parts is None:
        raise ReadError("expected a time as in RFC 3339", path)
    date, time, fraction, zone = parts.groups()
    try:
        instant = datetime.fromisoformat(f"{date}T{time}{'+00:00' if zone in 'Zz' else zone}")
        since = instant - _EPOCH
    except (ValueError, OverflowError) as error:
        raise ReadError("expected a time as in RFC 3339", path) from error
    seconds = since.days * 86_400 + since.seconds
    return Timestamp(seconds=seconds, nanos=int((fraction or "0").ljust(9, "0")))
