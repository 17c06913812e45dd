"""Parses a payload into plain values, and rejects JSON that the protocol forbids."""

from __future__ import annotations

import json
from collections import Counter
from typing import NoReturn, TypeAlias

from berth._text import shorten
from berth.errors import DecodeError

MAX_DEPTH = 64
"""Maximum nesting depth; the schema needs seven levels, the rest is reserved for later revisions."""

MAX_VALUES = 65_536
"""Maximum number of values in one message; otherwise 1 MB of `0,` would take many times its size in memory."""

_MAX_DIGITS = 400
"""Maximum length of an integer; one that is longer exceeds the range of every field."""

JsonValue: TypeAlias = "dict[str, JsonValue] | list[JsonValue] | str | int | float | bool | None"


class _Object(dict[str, JsonValue]):
    """A JSON object that records a duplicate key, if it had one."""

    duplicate_key: str | None = None


def parse(payload: bytes) -> dict[str, JsonValue]:
    """Parses a single JSON object without duplicate keys and trailing data, bounded in depth and size."""
    if not payload:
        raise DecodeError("the payload is empty")
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        _reject(f"invalid UTF-8 at byte {error.start}", error)
    try:
        value: JsonValue = _decoder.decode(text)
    except RecursionError as error:
        _reject(f"nested deeper than {MAX_DEPTH} levels", error)
    except json.JSONDecodeError as error:
        _reject(f"{error.msg} at line {error.lineno} column {error.colno}", error)
    except ValueError as error:
        _reject("NaN and Infinity are not JSON", error)
    if not isinstance(value, dict):
        _reject(f"found {_type_name(value)}")
    _Checker().check(value, "", MAX_DEPTH)
    return value


def _reject(problem: str, cause: BaseException | None = None) -> NoReturn:
    raise DecodeError(f"the payload is not a JSON object: {problem}") from cause


def _type_name(value: JsonValue) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "a number"


def _object(pairs: list[tuple[str, JsonValue]]) -> _Object:
    members = _Object(pairs)
    if len(members) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        members.duplicate_key = next(key for key, count in counts.items() if count > 1)
    return members


def _int(text: str) -> int | float:
    """Returns an integer, or infinity if no field has room for it; an unknown field may have any number."""
    return int(text) if len(text) <= _MAX_DIGITS else float(text)


def _constant(_name: str) -> NoReturn:
    raise ValueError


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=_int, parse_constant=_constant)


class _Checker:
    """Traverses a value once, and enforces the limits."""

    def __init__(self) -> None:
        self._values_left = MAX_VALUES

    def check(self, value: JsonValue, path: str, levels_left: int) -> None:
        self._values_left -= 1
        if self._values_left < 0:
            raise DecodeError(f"more than {MAX_VALUES} values", path)
        if not isinstance(value, dict | list):
            return
        if levels_left == 0:
            raise DecodeError(f"nested deeper than {MAX_DEPTH} levels", path)
        if isinstance(value, list):
            for index, item in enumerate(value):
                self.check(item, f"{path}[{index}]", levels_left - 1)
            return
        duplicate = value.duplicate_key if isinstance(value, _Object) else None
        if duplicate is not None:
            raise DecodeError(f"duplicate key {shorten(duplicate, 64)!r}", path or ".")
        for key, member in value.items():
            self.check(member, f"{path}.{key}" if path else key, levels_left - 1)
