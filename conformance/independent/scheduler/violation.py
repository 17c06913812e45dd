"""The violation of the specification that this process contains, if any."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path

CATALOG = Path(__file__).resolve().parent.parent / "scheduler-violations.toml"


class _Active:
    id = ""


def activate(violation: str) -> None:
    """Makes this process violate the specification; raises ValueError for an unknown id."""
    with CATALOG.open("rb") as file:
        known = [entry["id"] for entry in tomllib.load(file)["violation"]]
    if violation not in known:
        near = difflib.get_close_matches(violation, known, n=1, cutoff=0.0)
        raise ValueError(f"unknown violation `{violation}`; did you mean `{near[0]}`?")
    _Active.id = violation


def violates(violation: str) -> bool:
    """Returns whether this process contains a violation."""
    return _Active.id == violation
