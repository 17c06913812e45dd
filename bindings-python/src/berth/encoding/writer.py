"""Writes a message in the canonical form."""

from __future__ import annotations

import json

from google.protobuf import json_format
from google.protobuf.message import Message

from berth.errors import WriteError


def write(message: Message) -> bytes:
    """JSON names, enum names, 64-bit integers as strings, no nulls, defaults left out.

    Raises `WriteError` for a number of an enum that has no name, and for nothing else.
    """
    _check_enums(message)
    return json.dumps(json_format.MessageToDict(message), ensure_ascii=False, separators=(",", ":")).encode()


def _check_enums(message: Message) -> None:
    """`json_format` would write such a number as it is."""
    for field, value in message.ListFields():
        if field.enum_type is not None:
            if value not in field.enum_type.values_by_number:
                raise WriteError(f"{message.DESCRIPTOR.name}.{field.name}: {value} has no name")
        elif isinstance(value, Message):
            _check_enums(value)
        elif field.message_type is not None and not hasattr(value, "items"):
            for item in value:
                _check_enums(item)
