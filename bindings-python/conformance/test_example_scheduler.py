"""The example scheduler before the conformance suite, for what it claims."""

from __future__ import annotations

from pathlib import Path

from judging import EXAMPLES, judge


def test_the_dir_scheduler_passes_what_it_claims(tmp_path: Path) -> None:
    directory = EXAMPLES / "dir_scheduler"
    report = judge(tmp_path / "report.json", "--target", "target.toml", cwd=directory, side="scheduler")
    assert report["verdict"] == "conformant"
