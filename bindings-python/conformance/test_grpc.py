"""The reference host, commanded over gRPC with stubs from grpcio-tools."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from suite_runner import BINDINGS

PROTO = BINDINGS.parent / "proto"


def reference_host() -> Path:
    """Returns the host's program: from BERTH_HOST, built in this checkout, or on the PATH."""
    configured = os.environ.get("BERTH_HOST")
    if configured:
        return Path(configured)
    built = (BINDINGS.parent / "target" / profile / "berth-host" for profile in ("release", "debug"))
    program = next((path for path in built if path.is_file()), None) or shutil.which("berth-host")
    assert program, (
        "berth-host not found: set BERTH_HOST, run `cargo build -p berth-host`, or add it to the PATH"
    )
    return Path(program)


def test_grpc_stubs_command_the_reference_host(tmp_path: Path) -> None:
    # The messages are generated again next to the stubs, so the program runs in its own process.
    files = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("wasmcloud/runtime/v2/*.proto"))
    generator = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}"]
    subprocess.run(
        [*generator, f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}", *files], check=True
    )
    program = Path(__file__).with_name("grpc_scheduler.py")
    subprocess.run([sys.executable, program, tmp_path, reference_host()], check=True, timeout=90)
