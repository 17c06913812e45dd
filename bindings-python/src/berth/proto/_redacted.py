"""How messages show themselves: with everything but secrets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

HIDDEN = "[redacted]"

# Field by the message it stands in. Of a map the keys are shown.
_SECRET_FIELDS = {
    ("ImagePullSecret", "username"),
    ("ImagePullSecret", "password"),
    ("LocalResources", "config"),
    ("LocalResources", "environment"),
    ("WitInterface", "config"),
}


def hide_secrets(messages: Iterable[type[Message]]) -> None:
    """Gives these classes a `repr` that shows no secret, also not one in a message within.

    The generated `repr` shows everything, and a message ends up in a log with the first `%r`.
    """
    for message in messages:
        setattr(message, "__repr__", shown)  # noqa: B010  # a method that mypy would not let go
        setattr(message, "__str__", shown)  # noqa: B010


def shown(message: Message) -> str:
    """The message as an expression, its secrets replaced."""
    fields = ", ".join(f"{field.name}={_value(field, value)}" for field, value in message.ListFields())
    return f"{message.DESCRIPTOR.name}({fields})"


def _value(field: FieldDescriptor, value: object) -> str:
    secret = (field.containing_type and field.containing_type.name, field.name) in _SECRET_FIELDS
    if isinstance(value, Message):
        return shown(value) if value.DESCRIPTOR.file.package == "wasmcloud.runtime.v2" else _flat(value)
    if isinstance(value, Mapping):
        entries = (f"{key!r}: {HIDDEN if secret else repr(of)}" for key, of in value.items())
        return "{" + ", ".join(entries) + "}"
    if secret:
        return HIDDEN
    if field.is_repeated and isinstance(value, Iterable):
        return (
            "["
            + ", ".join(_value(field, item) if isinstance(item, Message) else repr(item) for item in value)
            + "]"
        )
    return repr(value)


def _flat(message: Message) -> str:
    """A well-known message on one line; a timestamp is the only one that the schema has."""
    return f"{message.DESCRIPTOR.name}({', '.join(f'{f.name}={v!r}' for f, v in message.ListFields())})"
