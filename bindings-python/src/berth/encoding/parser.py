"""Parses a payload into plain values, rejects JSON that the protocol forbids, and removes nulls."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import NoReturn, TypeAlias

from berth._text import shorten
from berth.errors import DecodeError

MAX_DEPTH = 64
"""Maximum nesting depth; the schema needs seven levels, the rest is reserved for later revisions."""

MAX_VALUES = 65_536
"""Maximum number of values in one message; otherwise 1 MB of `0,` would take many times its size in memory."""

JsonValue: TypeAlias = "dict[str, JsonValue] | list[JsonValue] | str | int | float | bool | None"


class _Object(dict[str, JsonValue]):
    """A JSON object that records a duplicate key, if it had one."""

    duplicate_key: str | None = None


def parse(payload: bytes) -> dict[str, JsonValue]:
    """Parses a single JSON object without duplicate keys and trailing data, bounded in depth and size.

    Members that are null are removed, because null means unset.
    """
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
    except ValueError as error:  # a number of thousands of digits, NaN or infinity
        _reject("number out of range", error)
    if not isinstance(value, dict):
        _reject(f"found {_type_name(value)}")
    _Normalizer().normalize(value, "", MAX_DEPTH)
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


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _constant(_name: str) -> NoReturn:
    raise ValueError


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)


class _Normalizer:
    """Traverses a value once, enforces the limits, and removes nulls."""

    def __init__(self) -> None:
        self._values_left = MAX_VALUES

    def normalize(self, value: JsonValue, path: str, levels_left: int) -> None:
        self._values_left -= 1
        if self._values_left < 0:
            raise DecodeError(f"more than {MAX_VALUES} values", path)
        if not isinstance(value, dict | list):
            return
        if levels_left == 0:
            raise DecodeError(f"nested deeper than {MAX_DEPTH} levels", path)
        if isinstance(value, list):
            for index, item in enumerate(value):
                self.normalize(item, f"{path}[{index}]", levels_left - 1)
            return
        duplicate = value.duplicate_key if isinstance(value, _Object) else None
        if duplicate is None:
            duplicate = _alias_of_null_member(value)
        if duplicate is not None:
            raise DecodeError(f"duplicate key {shorten(duplicate, 64)!r}", path or ".")
        for key, member in value.items():
            self.normalize(member, f"{path}.{key}" if path else key, levels_left - 1)
        for key in [key for key, member in value.items() if member is None]:
            del value[key]


def _alias_of_null_member(members: dict[str, JsonValue]) -> str | None:
    """Returns a key whose field is also present under its other name, with null under one of the two names.

    Removing the null would hide the duplicate.
    """
    nulls = {_camel_case(key) for key, value in members.items() if value is None}
    if not nulls:
        return None
    seen: set[str] = set()
    for key in members:
        name = _camel_case(key)
        if name in nulls and name in seen:
            return key
        seen.add(name)
    return None


def _camel_case(name: str) -> str:
    first, *words = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in words)
