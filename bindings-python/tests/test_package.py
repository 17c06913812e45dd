"""What is shipped: the wheel with the generated code, fresh, and a public face that is documented."""

from __future__ import annotations

import inspect
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
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_generated_code_is_fresh() -> None:
    run(sys.executable, "tools/generate.py", "--check")


def test_the_wheel_holds_the_generated_code_and_works_alone(tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, BINDINGS)
    [wheel] = tmp_path.glob("berth_sdk-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("berth/py.typed", "berth/proto/_gen/workload_pb2.py", "berth/proto/_gen/workload_pb2.pyi"):
        assert name in names
    assert {name.split("/")[0] for name in names} == {
        "berth",
        wheel.name.replace("-py3-none-any.whl", ".dist-info"),
    }
    # What it depends on comes from here; it itself only from the wheel.
    venv.create(tmp_path / "venv", system_site_packages=False, with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    libraries = Path(inspect.getfile(errors)).parents[1]
    site = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    code = (
        f"import sys; sys.path[:0] = [{str(wheel)!r}, {str(site)!r}]\n"
        "import berth\n"
        f"assert {str(libraries)!r} not in sys.path\n"
        "print(berth.__file__, berth.encoding.write(berth.Workload(name='a')).decode())"
    )
    said = run(python, "-I", "-c", code, cwd=tmp_path)
    assert said.split() == [f"{wheel}/berth/__init__.py", '{"name":"a"}']


def test_what_is_public_is_there_and_documented() -> None:
    for name in berth.__all__:
        thing = getattr(berth, name)
        # Messages have theirs in the stubs, from the schema.
        ours = inspect.isclass(thing) and not issubclass(thing, Message)
        if ours or inspect.isfunction(thing):
            assert thing.__doc__, name


def test_all_errors_are_of_one_family() -> None:
    for name, thing in vars(errors).items():
        if inspect.isclass(thing) and issubclass(thing, Exception):
            assert issubclass(thing, berth.BerthError), name
            assert thing.__doc__, name
