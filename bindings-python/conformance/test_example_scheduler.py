"""Conformance of the example scheduler, for the profiles it claims."""

from __future__ import annotations

from pathlib import Path

from suite_runner import EXAMPLES, run_suite


def test_dir_scheduler_conforms_to_claimed_profiles(tmp_path: Path) -> None:
    directory = EXAMPLES / "dir_scheduler"
    report = run_suite(tmp_path / "report.json", "--target", "target.toml", cwd=directory, side="scheduler")
    assert report["verdict"] == "conformant"
