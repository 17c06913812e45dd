"""Parses a payload into plain values, with what the protocol refuses refused and nulls left out."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import NoReturn, TypeAlias

from berth._text import shorten
from berth.errors import ReadError

MAX_DEPTH = 64
"""Deepest nesting that is read; the schema needs seven levels, the rest is left to later revisions."""

MAX_VALUES = 65_536
"""Most values in one message; 1 MB of `0,` would otherwise become many times its size in memory."""

Tree: TypeAlias = "dict[str, Tree] | list[Tree] | str | int | float | bool | None"


class _Object(dict[str, Tree]):
    """A JSON object that remembers the key that stood in it twice."""

    twice: str | None = None


def parse(payload: bytes) -> dict[str, Tree]:
    """One JSON object: no key twice, nothing behind it, bounded in depth and size.

    Members that are null are left out, which is what unset means.
    """
    if not payload:
        raise ReadError("the payload is empty")
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        _no_object(f"it is not UTF-8 at byte {error.start}", error)
    try:
        tree: Tree = _decoder.decode(text)
    except RecursionError as error:
        _no_object(f"nested deeper than {MAX_DEPTH} levels", error)
    except json.JSONDecodeError as error:
        _no_object(f"{error.msg} at line {error.lineno} column {error.colno}", error)
    except ValueError as error:  # a number of thousands of digits, NaN, infinity
        _no_object("number out of range", error)
    if not isinstance(tree, dict):
        _no_object(f"it begins with {_kind(tree)}")
    _Walk().below(tree, "", MAX_DEPTH)
    return tree


def _no_object(problem: str, cause: BaseException | None = None) -> NoReturn:
    raise ReadError(f"the payload is not one JSON object: {problem}") from cause


def _kind(tree: Tree) -> str:
    match tree:
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


def _object(pairs: list[tuple[str, Tree]]) -> _Object:
    found = _Object(pairs)
    if len(found) != len(pairs):
        times = Counter(key for key, _ in pairs)
        found.twice = next(key for key, often in times.items() if often > 1)
    return found


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _constant(_name: str) -> NoReturn:
    raise ValueError


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)


class _Walk:
    """Goes through a tree once, counts, and leaves nulls out."""

    def __init__(self) -> None:
        self._values_left = MAX_VALUES

    def below(self, tree: Tree, path: str, levels_left: int) -> None:
        self._values_left -= 1
        if self._values_left < 0:
            raise ReadError(f"more than {MAX_VALUES} values", path)
        if not isinstance(tree, dict | list):
            return
        if levels_left == 0:
            raise ReadError(f"nested deeper than {MAX_DEPTH} levels", path)
        if isinstance(tree, list):
            for index, item in enumerate(tree):
                self.below(item, f"{path}[{index}]", levels_left - 1)
            return
        twice = tree.twice if isinstance(tree, _Object) else None
        if twice is None:
            twice = _null_beside_its_other_name(tree)
        if twice is not None:
            raise _given_twice(twice, path)
        for key, value in tree.items():
            self.below(value, f"{path}.{key}" if path else key, levels_left - 1)
        for key in [key for key, value in tree.items() if value is None]:
            del tree[key]


def _given_twice(key: str, path: str) -> ReadError:
    return ReadError(f"the key {shorten(key, 64)!r} stands twice in one object", path or ".")


def _null_beside_its_other_name(members: dict[str, Tree]) -> str | None:
    """A null that is left out would hide that the field is given under its other name, too."""
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
