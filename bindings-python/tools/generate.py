"""Generates `src/berth/proto/_gen/` from the schema; with `--check`, reports stale files instead.

Requires grpcio-tools and mypy-protobuf in the versions pinned in `requirements-dev.txt`, but no protoc.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

# The output differs between releases, so the versions are pinned.
PINNED = {"grpcio-tools": "1.76.0", "mypy-protobuf": "5.1.0"}

BINDINGS = Path(__file__).resolve().parent.parent
PROTO = BINDINGS.parent / "proto"
PACKAGE_DIR = Path("wasmcloud/runtime/v2")
OUTPUT = BINDINGS / "src/berth/proto/_gen"

# Generated modules import each other by their schema path; here they are in one package.
SCHEMA_IMPORT = re.compile(r"^from wasmcloud\.runtime\.v2 import (\w+) as ", re.MULTILINE)

# The `__module__` of the generated classes, which pickle uses.
SCHEMA_MODULE = re.compile(r"'wasmcloud\.runtime\.v2\.(\w+_pb2)'")

# The pool of the process would be shared with the stubs that other packages generate from the same schema.
DEFAULT_POOL = "_descriptor_pool.Default()"

INIT_CONTENT = '"""Generated from the schema by `tools/generate.py`; nothing here is written by hand."""\n'


def main() -> int:
    """Writes or checks the generated files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="Write nothing; fail if a file is stale")
    check = parser.parse_args().check
    errors = version_errors()
    if errors:
        print("\n".join(errors), file=sys.stderr)
        return 2
    outputs = generate()
    stale = differences(outputs)
    if check:
        for line in stale:
            print(line, file=sys.stderr)
        return 1 if stale else 0
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for path in unexpected_files(outputs):
        path.unlink()
    for name, content in outputs.items():
        (OUTPUT / name).write_text(content, encoding="utf-8")
    print(f"generated {len(outputs)} files in {OUTPUT.relative_to(BINDINGS)}, {len(stale)} changed")
    return 0


def version_errors() -> list[str]:
    """Returns an error for each generator that is not installed in its pinned version."""
    errors = []
    for name, required in PINNED.items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed = "no version"
        if installed != required:
            errors.append(f"{name} {required} required, {installed} installed: see requirements-dev.txt")
    return errors


def generate() -> dict[str, str]:
    """Returns the generated files by name."""
    from grpc_tools import protoc  # type: ignore[import-untyped]

    schema = sorted(path.relative_to(PROTO) for path in (PROTO / PACKAGE_DIR).glob("*.proto"))
    plugin = Path(sysconfig.get_path("scripts")) / "protoc-gen-mypy"
    well_known = Path(protoc.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as directory:
        arguments = [
            "protoc",
            f"--proto_path={PROTO}",
            f"--proto_path={well_known}",
            f"--plugin=protoc-gen-mypy={plugin}",
            f"--python_out={directory}",
            f"--mypy_out=quiet:{directory}",
            *map(str, schema),
        ]
        if protoc.main(arguments) != 0:
            raise SystemExit("cannot compile the schema")
        outputs = {"__init__.py": INIT_CONTENT}
        for path in sorted((Path(directory) / PACKAGE_DIR).iterdir()):
            text = path.read_text(encoding="utf-8")
            text = SCHEMA_IMPORT.sub(r"from berth.proto._gen import \1 as ", text)
            text = text.replace(DEFAULT_POOL, "POOL").replace(
                "from google.protobuf import descriptor_pool as _descriptor_pool\n",
                "from berth.proto._pool import POOL\n",
            )
            outputs[path.name] = SCHEMA_MODULE.sub(r"'berth.proto._gen.\1'", text)
        shutil.rmtree(Path(directory) / PACKAGE_DIR)
        return outputs


def differences(outputs: dict[str, str]) -> list[str]:
    """Returns a message for each stale, missing or unexpected file."""
    messages = [f"{path.relative_to(BINDINGS)}: not a generated file" for path in unexpected_files(outputs)]
    for name, content in outputs.items():
        path = OUTPUT / name
        if not path.is_file():
            messages.append(f"{path.relative_to(BINDINGS)}: missing")
        elif path.read_text(encoding="utf-8") != content:
            messages.append(f"{path.relative_to(BINDINGS)}: out of date; run tools/generate.py")
    return messages


def unexpected_files(outputs: dict[str, str]) -> list[Path]:
    """Returns the files in the output directory that are not generated."""
    return [path for path in sorted(OUTPUT.glob("*")) if path.is_file() and path.name not in outputs]


if __name__ == "__main__":
    sys.exit(main())
