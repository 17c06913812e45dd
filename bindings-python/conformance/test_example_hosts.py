"""The example hosts before the conformance suite, each for what it claims."""

from __future__ import annotations

from pathlib import Path

import pytest
from judging import EXAMPLES, judge


@pytest.mark.parametrize("broker", ["embedded", "nats-server"])
def test_the_minimal_host_passes_core(tmp_path: Path, broker: str) -> None:
    command = ["--profile", "core", "--broker", broker, "--", "python3", "minimal_host.py", "{nats_url}"]
    report = judge(tmp_path / "report.json", *command, cwd=EXAMPLES)
    assert report["verdict"] == "conformant"


def test_the_script_host_passes_what_it_claims(tmp_path: Path) -> None:
    report = judge(tmp_path / "report.json", "--target", "target.toml", cwd=EXAMPLES / "script_host")
    assert report["verdict"] == "conformant"
