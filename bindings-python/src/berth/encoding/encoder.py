"""Encodes a message in the canonical form."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from berth.encoding.parser import MAX_VALUES
from berth.errors import EncodeError
from berth.proto._pool import Timestamp


def encode(message: Message) -> bytes:
    """Returns a message as canonical JSON.

    It has JSON field names, enum names, 64-bit integers as strings, no nulls and no default values.

    Raises `EncodeError` if `decode` would refuse the result, and no other error.
    """
    _check(message)
    members = json_format.MessageToDict(message)
    if _count(members) > MAX_VALUES:
        raise EncodeError(message.DESCRIPTOR.name, f"has more than {MAX_VALUES} values")
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()


def _check(message: Message) -> None:
    """Raises `EncodeError` for a value that `json_format` would write in a form that no reader accepts."""
    if message.DESCRIPTOR.full_name == Timestamp.DESCRIPTOR.full_name:
        return
    for field, value in message.ListFields():
        name = f"{message.DESCRIPTOR.name}.{field.name}"
        values = value.values() if isinstance(value, Mapping) else value if field.is_repeated else [value]
        for item in values:
            _check_value(field, name, item)


def _check_value(field: FieldDescriptor, name: str, value: Any) -> None:
    if field.enum_type is not None:
        if value not in field.enum_type.values_by_number:
            raise EncodeError(name, f"holds {value}, which has no name")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise EncodeError(name, "is not a finite number")
    elif isinstance(value, Message):
        if value.DESCRIPTOR.full_name == Timestamp.DESCRIPTOR.full_name:
            _check_timestamp(name, value)
        _check(value)


def _check_timestamp(name: str, value: Any) -> None:
    try:
        value.ToJsonString()
    except ValueError as error:
        raise EncodeError(name, "is not a valid timestamp") from error


def _count(value: object) -> int:
    """Returns the number of values in a JSON value, itself included."""
    if isinstance(value, dict):
        return 1 + sum(map(_count, value.values()))
    return 1 + sum(map(_count, value)) if isinstance(value, list) else 1
