"""Conformance of the example hosts, each for the profiles it claims."""

from __future__ import annotations

from pathlib import Path

import pytest
from suite_runner import EXAMPLES, run_suite


@pytest.mark.parametrize("broker", ["embedded", "nats-server"])
def test_minimal_host_conforms_to_core(tmp_path: Path, broker: str) -> None:
    command = ["--profile", "core", "--broker", broker, "--", "python3", "minimal_host.py", "{nats_url}"]
    report = run_suite(tmp_path / "report.json", *command, cwd=EXAMPLES)
    assert report["verdict"] == "conformant"


def test_script_host_conforms_to_claimed_profiles(tmp_path: Path) -> None:
    report = run_suite(tmp_path / "report.json", "--target", "target.toml", cwd=EXAMPLES / "script_host")
    assert report["verdict"] == "conformant"
