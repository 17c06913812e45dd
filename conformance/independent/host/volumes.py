"""Volumes of a workload, and the mounts through which its guests see them."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from codec import Message
from violation import notes, violates

MAX_FILE_BYTES = 1024 * 1024  # a stand-in guest reads and writes a few bytes


class VolumeRefused(Exception):  # noqa: N818 - an outcome of a valid request
    """A volume or a mount that the host does not provide."""


class AccessDenied(Exception):  # noqa: N818 - an outcome for the guest
    """A file operation outside of the mounts, through a read-only mount, or that failed."""


@dataclass(frozen=True)
class Mount:
    """A directory that one guest sees."""

    directory: Path
    read_only: bool

    def _resolve(self, name: str) -> Path:
        """Refuses a path that leaves the directory through `..` or a symbolic link."""
        root = self.directory.resolve()
        path = (root / name.lstrip("/")).resolve()
        if not path.is_relative_to(root):
            raise AccessDenied
        return path

    def read(self, name: str) -> bytes:
        """Returns the content of a file."""
        try:
            path = self._resolve(name)
            if not path.is_file():  # a named pipe would block the host
                raise AccessDenied
            with path.open("rb") as file:
                return file.read(MAX_FILE_BYTES)
        except (OSError, ValueError, RuntimeError):
            raise AccessDenied from None

    def write(self, name: str, content: bytes) -> None:
        """Replaces the content of a file."""
        if self.read_only and not violates("read-only-allows-new-files"):  # HOST-RES-013
            raise AccessDenied
        try:
            path = self._resolve(name)
            if self.read_only and path.exists():
                raise AccessDenied
            if path.exists() and not path.is_file():
                raise AccessDenied
            path.write_bytes(content)
        except (OSError, ValueError, RuntimeError):
            raise AccessDenied from None


class Volumes:
    """The volumes of one workload; `close` removes its own directories and no others."""

    def __init__(self, directory: Path, permitted: list[Path], workload_id: str) -> None:
        """`directory` receives empty directories; `permitted` contains the roots of permitted host paths."""
        self._directory = directory
        self._workload_id = workload_id
        self._permitted = permitted
        self._paths: dict[str, Path] = {}
        self._created: list[Path] = []

    def create(self, volumes: list[Message], mounted: set[str]) -> None:
        """Creates empty directories and checks host paths; raises VolumeRefused."""
        for volume in volumes:
            name = volume["name"]
            if name in self._paths:
                raise VolumeRefused(f"volume {name!r} is declared twice")
            if violates("untyped-volume-refused") and not volume["hostPath"] and volume["emptyDir"] is None:
                raise VolumeRefused(f"volume {name!r} has no type")
            if violates("unmounted-host-path-unchecked") and volume["hostPath"] and name not in mounted:
                continue
            self._paths[name] = self._host_path(volume) if volume["hostPath"] else self._empty_dir(name)

    def borrow(self, others: "list[Volumes]") -> None:
        """Adds the volumes of other workloads, for a violation."""
        for other in others:
            self._paths = {**other._paths, **self._paths}

    def has(self, name: str) -> bool:
        """Tells whether the workload has a volume."""
        return name in self._paths

    def _empty_dir(self, name: str) -> Path:
        shared = self._shared_path(name)
        if shared:
            return shared
        prefix = "volume-"
        if violates("slash-in-id-breaks-empty-dir"):
            prefix += self._workload_id.replace("\0", "")[:60]
        try:
            path = Path(tempfile.mkdtemp(prefix=prefix, dir=self._directory))
        except OSError as error:
            raise VolumeRefused(f"cannot create volume {name!r}: {error.strerror}") from error
        self._created.append(path)
        return path

    def _shared_path(self, name: str) -> Path | None:
        """Returns the directory that a violation uses for several workloads."""
        if violates("empty-dir-shared-by-name"):
            key: object = name
        elif violates("empty-dir-kept-after-stop"):
            key = (self._workload_id, name)
        else:
            return None
        if key not in notes:
            notes[key] = Path(tempfile.mkdtemp(prefix="volume-", dir=self._directory))
        return Path(notes[key])

    def _host_path(self, volume: Message) -> Path:
        name, text = volume["name"], volume["hostPath"]["localPath"]
        try:
            path = Path(text)
            if violates("missing-host-path-created") and self._is_permitted(path):
                path.mkdir(parents=True, exist_ok=True)
            usable = path.is_absolute() and path.is_dir()
            real = path.resolve()
        except (OSError, ValueError, RuntimeError):
            usable = False
        if not usable:  # HOST-RES-011
            raise VolumeRefused(f"the host path of volume {name!r} is not a directory: {text!r}")
        if not self._is_permitted(path):
            raise VolumeRefused(f"the operator does not permit the host path of volume {name!r}: {text!r}")
        return real

    def _is_permitted(self, path: Path) -> bool:
        return any(path.resolve().is_relative_to(root.resolve()) for root in self._permitted)

    def mounts(self, requested: list[Message]) -> list[Mount]:
        """Returns the mounts of one guest; raises VolumeRefused."""
        mounts = []
        for mount in requested:
            if mount["name"] not in self._paths:  # HOST-RES-012
                raise VolumeRefused(f"a mount names the unknown volume {mount['name']!r}")
            if not mount["mountPath"].startswith("/"):
                raise VolumeRefused(f"the mount path of volume {mount['name']!r} is not absolute")
            mounts.append(Mount(self._paths[mount["name"]], mount["readOnly"]))
        return mounts

    def close(self) -> None:
        """Removes the empty directories and their content."""
        for path in self._created:
            shutil.rmtree(path, ignore_errors=True)
        self._created.clear()
        self._paths.clear()
