"""Values of ConfigMaps, Secrets, pull secrets and Artifacts that a workload references."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import manifests
from manifests import Key

DOCKER_HUB = "https://index.docker.io/v1/"
PULL_SECRET_KEYS = (".dockerconfigjson", "config.json")

Objects = Mapping[Key, dict[str, Any]]


class Missing(Exception):
    """A referenced object that does not exist yet."""


class Resolver:
    """Reads the objects of one namespace, and records the values of secrets that it returned."""

    def __init__(self, objects: Objects, namespace: str, artifacts: dict[str, str]) -> None:
        self.objects = objects
        self.namespace = namespace
        self.artifacts = artifacts
        self.secrets: set[str] = set()

    def values(self, source: dict[str, Any], inline: str, path: str) -> dict[str, str]:
        """Returns one map of inline values, then configurations, then secrets."""
        merged = dict(manifests.strings(source, inline, path))
        for entry in manifests.items(source, "configFrom", path):
            merged.update(self._config(manifests.text(entry, "name", f"{path}.configFrom[]")))
        for entry in manifests.items(source, "secretFrom", path):
            merged.update(self._secret(manifests.text(entry, "name", f"{path}.secretFrom[]")))
        return merged

    def image(self, image: str) -> str:
        """Returns an image, with `artifact://` replaced."""
        if not image.startswith("artifact://"):
            return image
        name = image.removeprefix("artifact://")
        if name not in self.artifacts:
            raise Missing(f"the deployment lists no artifact {name}")
        artifact = self._object("Artifact", self.artifacts[name])
        return manifests.text(manifests.mapping(artifact, "spec", ""), "image", "spec")

    def credentials(self, holder: dict[str, Any], image: str, path: str) -> dict[str, str] | None:
        """Returns the credentials for the registry of an image, or None."""
        name = manifests.text(manifests.mapping(holder, "imagePullSecret", path), "name", path)
        if not name:
            return None
        data = self._secret(name, remember=False)
        config = next((data[key] for key in PULL_SECRET_KEYS if key in data), "{}")
        found = _credentials(config, registry_of(image))
        if found is None:
            return None
        self.secrets.update(filter(None, found.values()))
        return found

    def _config(self, name: str) -> dict[str, str]:
        return manifests.strings(self._object("ConfigMap", name), "data", f"ConfigMap {name}")

    def _secret(self, name: str, remember: bool = True) -> dict[str, str]:
        secret = self._object("Secret", name)
        values = {}
        for key, value in manifests.strings(secret, "data", f"Secret {name}").items():
            try:
                values[key] = base64.b64decode(value, validate=False).decode()
            except (binascii.Error, ValueError):
                continue  # Values that are not text are left open.
        values.update(manifests.strings(secret, "stringData", f"Secret {name}"))
        if remember:
            self.secrets.update(filter(None, values.values()))
        return values

    def _object(self, kind: str, name: str) -> dict[str, Any]:
        found = self.objects.get(Key(kind, self.namespace, name))
        if found is None:
            raise Missing(f"{kind} {self.namespace}/{name} does not exist")
        return found


def registry_of(image: str) -> str:
    """Returns the registry in an image reference, `docker.io` if there is none."""
    first, slash, _ = image.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return "docker.io"
    return "docker.io" if first.lower() == "index.docker.io" else first.lower()


def _credentials(config: str, registry: str) -> dict[str, str] | None:
    try:
        entries = manifests.mapping(json.loads(config), "auths", "")
    except (ValueError, AttributeError, RecursionError, manifests.Refused):
        return None
    if registry == "docker.io" and DOCKER_HUB in entries:
        return _login(entries[DOCKER_HUB])
    for name, entry in entries.items():
        host = name.removeprefix("https://").removeprefix("http://").partition("/")[0]
        if host.lower() == registry:
            return _login(entry)
    return None


def _login(entry: Any) -> dict[str, str] | None:
    if not isinstance(entry, dict):
        return None
    user, password, auth = (entry.get(key) for key in ("username", "password", "auth"))
    if not (isinstance(user, str) and isinstance(password, str)) and isinstance(auth, str):
        try:
            user, _, password = base64.b64decode(auth).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
    if not isinstance(user, str) or not isinstance(password, str) or not (user or password):
        return None
    return {"username": user, "password": password}
