"""The violation of the specification that this process contains, if any; see ../host-violations.toml."""

import difflib
import time
import tomllib
from pathlib import Path
from typing import Any

_FILE = Path(__file__).resolve().parent.parent / "host-violations.toml"

_active = ""


class _Notes(dict[Any, Any]):
    """Values by key; a conforming process stores none."""

    def __setitem__(self, key: object, value: object) -> None:
        if _active:
            super().__setitem__(key, value)


# State of the active violation across requests; one process contains at most one violation.
notes = _Notes()


class UnknownViolation(Exception):  # noqa: N818 - names the value, not the program
    """An id that the list of violations does not contain."""


def activate(violation_id: str) -> None:
    """Selects a violation of the list."""
    global _active
    ids = [entry["id"] for entry in tomllib.loads(_FILE.read_text())["violation"]]
    if violation_id not in ids:
        near = difflib.get_close_matches(violation_id, ids)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise UnknownViolation(f"unknown violation {violation_id!r}{hint}")
    _active = violation_id


def violates(violation_id: str) -> bool:
    """Tells whether the process contains a violation."""
    return _active == violation_id


def within(key: object, seconds: float) -> bool:
    """Tells whether `note_now` recorded the key within the last seconds."""
    return bool(time.monotonic() - notes.get(key, float("-inf")) < seconds)


def note_now(key: object) -> None:
    """Records the time for a key."""
    notes[key] = time.monotonic()


def count(key: object) -> int:
    """Increments the counter of a key and returns it."""
    notes[key] = notes.get(key, 0) + 1
    return int(notes.get(key, 0))
