"""Runs the conformance suite on an example."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from support import nats_server

BINDINGS = Path(__file__).parents[1]
EXAMPLES = BINDINGS / "examples"


def suite() -> Path:
    """The suite's program: named, built in this checkout, or on the PATH."""
    named = os.environ.get("BERTH_CONFORMANCE")
    if named:
        return Path(named)
    built = (BINDINGS.parent / "target" / profile / "berth-conformance" for profile in ("release", "debug"))
    found = next((path for path in built if path.is_file()), None) or shutil.which("berth-conformance")
    assert found, (
        "berth-conformance is needed: BERTH_CONFORMANCE, `cargo build -p berth-conformance`, or the PATH"
    )
    return Path(found)


def judge(report: Path, *arguments: str, cwd: Path, side: str = "host") -> dict[str, object]:
    python = Path(sys.executable)
    environment = os.environ | {
        # The launch commands say `python3`: the one that runs the tests.
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(BINDINGS / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "BERTH_NATS_SERVER": str(nats_server()),
    }
    command: list[str | Path] = [suite(), side, "--report", report, *arguments]
    run = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    found: dict[str, object] = json.loads(report.read_bytes())
    return found
