"""A `repr` for messages that hides secrets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

REDACTED = "[redacted]"

# Message type and field name of each secret. The keys of a map are not secret.
_SECRET_FIELDS = {
    ("ImagePullSecret", "username"),
    ("ImagePullSecret", "password"),
    ("LocalResources", "config"),
    ("LocalResources", "environment"),
    ("WitInterface", "config"),
}


def install_redacted_repr(message_types: Iterable[type[Message]]) -> None:
    """Makes the `repr` and `str` of these types show no secrets, not even in nested messages.

    The generated `repr` shows all values, so a single `%r` would write a secret to a log. The types belong to
    this package's own descriptor pool, so that no messages of other packages change.
    """
    for message_type in message_types:
        setattr(message_type, "__repr__", to_text)  # noqa: B010  # mypy rejects an assignment to a method
        setattr(message_type, "__str__", to_text)  # noqa: B010


def to_text(message: Message) -> str:
    """Returns a message as a Python expression with its secrets redacted."""
    fields = ", ".join(f"{field.name}={_value(field, value)}" for field, value in message.ListFields())
    return f"{message.DESCRIPTOR.name}({fields})"


def _value(field: FieldDescriptor, value: object) -> str:
    secret = (field.containing_type and field.containing_type.name, field.name) in _SECRET_FIELDS
    if isinstance(value, Message):
        in_schema = value.DESCRIPTOR.file.package == "wasmcloud.runtime.v2"
        return to_text(value) if in_schema else _well_known(value)
    if isinstance(value, Mapping):
        entries = (f"{key!r}: {REDACTED if secret else repr(entry)}" for key, entry in value.items())
        return "{" + ", ".join(entries) + "}"
    if secret:
        return REDACTED
    if field.is_repeated and isinstance(value, Iterable):
        return (
            "["
            + ", ".join(_value(field, item) if isinstance(item, Message) else repr(item) for item in value)
            + "]"
        )
    return repr(value)


def _well_known(message: Message) -> str:
    """Returns a message of a well-known type on one line; the schema uses only `Timestamp`."""
    return f"{message.DESCRIPTOR.name}({', '.join(f'{f.name}={v!r}' for f, v in message.ListFields())})"
