"""The reference host, commanded by what the ordinary generator makes of the schema."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from judging import BINDINGS

PROTO = BINDINGS.parent / "proto"


def reference_host() -> Path:
    """The host's program: named, built in this checkout, or on the PATH."""
    named = os.environ.get("BERTH_HOST")
    if named:
        return Path(named)
    built = (BINDINGS.parent / "target" / profile / "berth-host" for profile in ("release", "debug"))
    found = next((path for path in built if path.is_file()), None) or shutil.which("berth-host")
    assert found, "berth-host is needed: BERTH_HOST, `cargo build -p berth-host`, or the PATH"
    return Path(found)


def test_the_stubs_reach_the_reference_host(tmp_path: Path) -> None:
    # The messages are made anew beside the stubs, and so the program that uses both runs apart from ours.
    files = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("wasmcloud/runtime/v2/*.proto"))
    generator = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}"]
    subprocess.run(
        [*generator, f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}", *files], check=True
    )
    program = Path(__file__).with_name("grpc_scheduler.py")
    subprocess.run([sys.executable, program, tmp_path, reference_host()], check=True, timeout=90)
