"""Packaging: generated code is fresh, the wheel is complete, and the public API is documented."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

from google.protobuf.message import Message

import berth
from berth import errors

BINDINGS = Path(__file__).parents[1]


def run(*command: object, cwd: Path = BINDINGS) -> str:
    arguments = [str(argument) for argument in command]
    result = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_generated_code_is_fresh() -> None:
    run(sys.executable, "tools/generate.py", "--check")


def test_wheel_contains_generated_code_and_is_self_contained(tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, BINDINGS)
    [wheel] = tmp_path.glob("berth_sdk-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("berth/py.typed", "berth/proto/_gen/workload_pb2.py", "berth/proto/_gen/workload_pb2.pyi"):
        assert name in names
    assert {name.split("/")[0] for name in names} == {
        "berth",
        wheel.name.replace("-py3-none-any.whl", ".dist-info"),
    }
    # Dependencies come from this environment, the package itself only from the wheel.
    venv.create(tmp_path / "venv", system_site_packages=False, with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    source_dir = Path(inspect.getfile(errors)).parents[1]
    site_packages = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    code = (
        f"import sys; sys.path[:0] = [{str(wheel)!r}, {str(site_packages)!r}]\n"
        "import berth\n"
        f"assert {str(source_dir)!r} not in sys.path\n"
        "print(berth.__file__, berth.encoding.encode(berth.Workload(name='a')).decode())"
    )
    output = run(python, "-I", "-c", code, cwd=tmp_path)
    assert output.split() == [f"{wheel}/berth/__init__.py", '{"name":"a"}']


def test_public_names_exist_and_are_documented() -> None:
    for name in berth.__all__:
        member = getattr(berth, name)
        # Messages are documented in the generated stubs.
        is_own_class = inspect.isclass(member) and not issubclass(member, Message)
        if is_own_class or inspect.isfunction(member):
            assert member.__doc__, name


def test_all_errors_derive_from_berth_error() -> None:
    for name, member in vars(errors).items():
        if inspect.isclass(member) and issubclass(member, Exception):
            assert issubclass(member, berth.BerthError), name
            assert member.__doc__, name


def test_import_does_not_affect_stubs_of_other_packages(tmp_path: Path) -> None:
    """Not even if the stubs are generated from another revision of the schema."""
    schema = tmp_path / "schema"
    shutil.copytree(BINDINGS.parent / "proto" / "wasmcloud", schema / "wasmcloud")
    other = schema / "wasmcloud/runtime/v2/host_heartbeat.proto"
    other.write_text(other.read_text(encoding="utf-8").replace("friendly_name", "nice_name"), encoding="utf-8")
    files = sorted(str(path.relative_to(schema)) for path in schema.rglob("*.proto"))
    run(sys.executable, "-m", "grpc_tools.protoc", f"-I{schema}", f"--python_out={tmp_path}", *files)
    code = f"""
import sys; sys.path[:0] = [{str(BINDINGS / "src")!r}, {str(tmp_path)!r}]
def use_stubs():
    from wasmcloud.runtime.v2 import host_heartbeat_pb2, workload_pb2
    assert "nice_name" in host_heartbeat_pb2.HostHeartbeat.DESCRIPTOR.fields_by_name
    secret = workload_pb2.ImagePullSecret(password="hunter2")
    assert "hunter2" in str(secret) and "hunter2" in repr(secret), secret
    return workload_pb2
def use_berth():
    import berth
    secret = berth.proto.ImagePullSecret(password="hunter2")
    assert "hunter2" not in str(secret) + repr(secret), secret
    assert berth.encoding.encode(secret) == b'{{"password":"hunter2"}}'
    return berth.proto
first, second = sys.argv[1:]
one = globals()[first](); two = globals()[second](); globals()[first]()
assert one.Workload is not two.Workload
"""
    for order in (("use_stubs", "use_berth"), ("use_berth", "use_stubs")):
        run(sys.executable, "-I", "-B", "-c", code, *order, cwd=tmp_path)


def test_import_has_no_side_effects_on_the_process(tmp_path: Path) -> None:
    code = f"""
import asyncio, logging, signal, sys, threading, warnings
sys.path.insert(0, {str(BINDINGS / "src")!r})
from google.protobuf import descriptor_pool, empty_pb2, timestamp_pb2
def state():
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    loggers = (logging.root.handlers[:], logging.root.level, logging.getLogger("berth").level)
    texts = (str(timestamp_pb2.Timestamp(seconds=1)), timestamp_pb2.Timestamp.__str__)
    return handlers, loggers, texts, threading.active_count(), asyncio.get_event_loop_policy().__class__
before = state()
import berth
assert state() == before
try:
    descriptor_pool.Default().FindFileByName("wasmcloud/runtime/v2/workload.proto")
except KeyError:
    pass
else:
    raise AssertionError("the pool of the process has the schema")
"""
    run(sys.executable, "-I", "-B", "-c", code, cwd=tmp_path)
