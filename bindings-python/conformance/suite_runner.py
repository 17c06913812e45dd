"""Runs the conformance suite against an example."""

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
    """Returns the suite's program: from BERTH_CONFORMANCE, built in this checkout, or on the PATH."""
    configured = os.environ.get("BERTH_CONFORMANCE")
    if configured:
        return Path(configured)
    built = (BINDINGS.parent / "target" / profile / "berth-conformance" for profile in ("release", "debug"))
    program = next((path for path in built if path.is_file()), None) or shutil.which("berth-conformance")
    assert program, (
        "berth-conformance not found: set BERTH_CONFORMANCE, run `cargo build -p berth-conformance`, "
        "or add it to the PATH"
    )
    return Path(program)


def run_suite(report_path: Path, *arguments: str, cwd: Path, side: str = "host") -> dict[str, object]:
    python = Path(sys.executable)
    environment = os.environ | {
        # `python3` in the launch commands is the interpreter that runs the tests.
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(BINDINGS / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "BERTH_NATS_SERVER": str(nats_server()),
    }
    command: list[str | Path] = [suite(), side, "--report", report_path, *arguments]
    run = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    report: dict[str, object] = json.loads(report_path.read_bytes())
    return report
