"""The intake: one JSON manifest for each file of a directory."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import manifests
from manifests import Key
from violation import violates

LOG = logging.getLogger("intake")

# A start of more than the broker's maximum payload, usually 1 MiB, cannot be sent anyway.
MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_FILES = 20_000

INVALID = {"invalid": True}

Signature = tuple[int, int, int]


class Directory:
    """Reads the manifests that have changed since the last scan."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[str, tuple[Signature, Key | None, dict[str, Any]]] = {}

    def scan(self) -> dict[Key, dict[str, Any]] | None:
        """Returns all objects, or None if nothing has changed or the directory cannot be read."""
        try:
            with os.scandir(self.path) as entries:
                found = {
                    entry.name: _signature(entry)
                    for entry in entries
                    if entry.name.endswith(".json") and not entry.name.startswith(".")
                }
        except OSError:
            return None
        names = sorted(found)[:MAX_FILES]
        if names == sorted(self._files) and all(
            self._files[name][0] == found[name] for name in names
        ):
            return None
        files = {}
        for name in names:
            files[name] = self._read(name, found[name])
            if files[name][2] == INVALID and violates("unfinished-file-blocks-later-files"):
                files = {**self._files, **files}
                break
        self._files = files
        return {key: value for _, key, value in self._files.values() if key is not None}

    def _read(
        self, name: str, signature: Signature
    ) -> tuple[Signature, Key | None, dict[str, Any]]:
        previous = self._files.get(name)
        if previous is not None and previous[0] == signature:
            return previous
        try:
            if signature[1] > MAX_FILE_BYTES:
                raise ValueError("the file is too large")
            content = (self.path / name).read_bytes()
            manifest = json.loads(content)
            if not isinstance(manifest, dict):
                raise ValueError("the file does not contain an object")  # noqa: TRY004
            key = manifests.key_of(manifest)
            if key.kind not in manifests.SCHEDULED_KINDS + manifests.REFERENCED_KINDS:
                return signature, None, {}
            if violates("reformatted-manifest-restarts"):
                manifest["text"] = content.decode()
            return signature, key, manifest
        except (OSError, ValueError, RecursionError, manifests.Refused) as error:
            # The text of the error may contain a secret.
            LOG.warning("cannot read manifest %s: %s", name, type(error).__name__)
            if previous is not None and not violates("half-written-file-stops-workload"):
                return signature, previous[1], previous[2]
            return signature, None, INVALID


def _signature(entry: os.DirEntry[str]) -> Signature:
    try:
        stat = entry.stat()
    except OSError:
        return (0, 0, 0)
    if violates("change-in-same-second-missed"):
        return (int(stat.st_mtime), stat.st_size, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
