"""Encodes a message in the canonical form."""

from __future__ import annotations

import json

from google.protobuf import json_format
from google.protobuf.message import Message

from berth.errors import EncodeError


def encode(message: Message) -> bytes:
    """Returns a message as canonical JSON.

    It has JSON field names, enum names, 64-bit integers as strings, no nulls and no default values.

    Raises `EncodeError` if an enum field holds a number without a name, and no other error.
    """
    _check_enums(message)
    return json.dumps(json_format.MessageToDict(message), ensure_ascii=False, separators=(",", ":")).encode()


def _check_enums(message: Message) -> None:
    """Raises `EncodeError` for an unnamed enum number, which `json_format` would write as a number."""
    for field, value in message.ListFields():
        if field.enum_type is not None:
            if value not in field.enum_type.values_by_number:
                raise EncodeError(f"{message.DESCRIPTOR.name}.{field.name}", value)
        elif isinstance(value, Message):
            _check_enums(value)
        elif field.message_type is not None and not hasattr(value, "items"):
            for item in value:
                _check_enums(item)
