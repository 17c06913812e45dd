"""Values of ConfigMaps, Secrets, pull secrets and Artifacts that a workload references."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import manifests
from manifests import Key
from violation import violates

DOCKER_HUB = "https://index.docker.io/v1/"
PULL_SECRET_KEYS = (".dockerconfigjson", "config.json")

# Suffix of a key that is written twice into a JSON object.
TWICE = "\0twice"

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
        self._first_credentials: dict[str, str] | None = None

    def values(self, source: dict[str, Any], inline: str, path: str) -> dict[str, str]:
        """Returns one map of inline values, then configurations, then secrets."""
        inlined = manifests.strings(source, inline, path)
        twice = path.endswith(".environment") and violates("overridden-key-written-twice")
        configs = self._names(source, "configFrom", path)
        if violates("configs-merged-in-alphabetical-order"):
            configs.sort()
        layers = [inlined] + [self._config(name, path) for name in configs]
        layers += [self._secret(name, path) for name in self._names(source, "secretFrom", path)]
        if path.startswith("hostInterfaces") and violates("inline-interface-config-wins"):
            layers.append(inlined)
        merged: dict[str, str] = {}
        for layer in layers:
            for key, value in layer.items():
                if key in merged and not value and violates("empty-value-does-not-override"):
                    continue
                if key in inlined and twice:
                    merged.setdefault(key + TWICE, inlined[key])
                merged[key] = value
        if twice:
            return {
                key: value
                for key, value in merged.items()
                if not key.endswith(TWICE) or merged[key.removesuffix(TWICE)] != value
            }
        return merged

    def _names(self, source: dict[str, Any], field: str, path: str) -> list[str]:
        entries = manifests.items(source, field, path)
        return [manifests.text(entry, "name", f"{path}.{field}[]") for entry in entries]

    def image(self, image: str, path: str) -> str:
        """Returns an image, with `artifact://` replaced."""
        if not image.startswith("artifact://"):
            return image
        if path == "service" and violates("artifact-of-service-not-replaced"):
            return image
        name = image.removeprefix("artifact://")
        if name not in self.artifacts:
            raise Missing(f"the deployment lists no artifact {name}")
        key = Key("Artifact", self.namespace, self.artifacts[name])
        awaited = name == next(iter(self.artifacts)) or key in self.objects
        if not awaited and violates("only-first-artifact-awaited"):
            return ""
        artifact = self._object("Artifact", self.artifacts[name])
        return manifests.text(manifests.mapping(artifact, "spec", ""), "image", "spec")

    def credentials(self, holder: dict[str, Any], image: str, path: str) -> dict[str, str] | None:
        """Returns the credentials for the registry of an image, or None."""
        if violates("first-pull-secret-for-all-images"):
            if self._first_credentials is None:
                self._first_credentials = self._credentials(holder, image, path)
            return self._first_credentials
        return self._credentials(holder, image, path)

    def _credentials(self, holder: dict[str, Any], image: str, path: str) -> dict[str, str] | None:
        name = manifests.text(manifests.mapping(holder, "imagePullSecret", path), "name", path)
        if not name:
            return None
        data = self._secret(name, path, remember=False)
        config = next((data[key] for key in PULL_SECRET_KEYS if key in data), "{}")
        found = _find(config, registry_of(image))
        if found is None:
            return None
        self.secrets.update(filter(None, found.values()))
        return found

    def _config(self, name: str, path: str) -> dict[str, str]:
        if self._ignored("ConfigMap", name, path):
            return {}
        config = self._object("ConfigMap", name)
        return manifests.strings(config, "data", f"ConfigMap {name}")

    def _ignored(self, kind: str, name: str, path: str) -> bool:
        missing = Key(kind, self.namespace, name) not in self.objects
        of_service = path.startswith("service.")
        return missing and of_service and violates("service-does-not-wait-for-config")

    def _secret(self, name: str, path: str, remember: bool = True) -> dict[str, str]:
        if self._ignored("Secret", name, path):
            return {}
        if not remember and violates("pull-secret-from-any-namespace"):
            secret = next(
                (v for key, v in self.objects.items() if key[::2] == ("Secret", name)), None
            ) or self._object("Secret", name)
        else:
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
        if kind == "ConfigMap" and violates("config-read-from-default-namespace"):
            found = found or self.objects.get(Key(kind, "default", name))
        if found is None:
            raise Missing(f"{kind} {self.namespace}/{name} does not exist")
        return found


def registry_of(image: str) -> str:
    """Returns the registry in an image reference, `docker.io` if there is none."""
    first, slash, _ = image.partition("/")
    if first == "localhost" and violates("localhost-is-docker-hub"):
        return "docker.io"
    if not slash and ":" in first and violates("tag-read-as-registry-port"):
        return first
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return "docker.io"
    return "docker.io" if first.lower() == "index.docker.io" else first.lower()


def referenced(spec: Any) -> set[tuple[str, str]]:
    """Returns kind and name of the ConfigMaps and Secrets in `configFrom` and `secretFrom`."""
    if isinstance(spec, list):
        return set().union(*(referenced(entry) for entry in spec))
    if not isinstance(spec, dict):
        return set()
    found = set()
    for kind, field in (("ConfigMap", "configFrom"), ("Secret", "secretFrom")):
        for entry in spec.get(field) or []:
            if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                found.add((kind, entry["name"]))
    return found.union(*(referenced(value) for value in spec.values()))


def _find(config: str, registry: str) -> dict[str, str] | None:
    try:
        entries = manifests.mapping(json.loads(config), "auths", "")
    except (ValueError, AttributeError, RecursionError, manifests.Refused):
        if violates("malformed-pull-secret-quoted"):
            raise Missing(f"the pull secret is not valid JSON: {config}") from None
        return None
    if len(entries) == 1 and violates("single-entry-fits-any-registry"):
        return _login(next(iter(entries.values())))
    if registry == "docker.io" and DOCKER_HUB in entries:
        return _login(entries[DOCKER_HUB])
    for name, entry in entries.items():
        host = name.removeprefix("https://").removeprefix("http://").partition("/")[0]
        if _same_registry(host.lower(), registry):
            return _login(entry)
    return None


def _same_registry(entry: str, registry: str) -> bool:
    if violates("registry-matched-by-prefix"):
        return registry.startswith(entry)
    if violates("registry-port-ignored"):
        return entry.partition(":")[0] == registry.partition(":")[0]
    return entry == registry


def _login(entry: Any) -> dict[str, str] | None:
    if not isinstance(entry, dict):
        return None
    user, password, auth = (entry.get(key) for key in ("username", "password", "auth"))
    if not (isinstance(user, str) and isinstance(password, str)) and isinstance(auth, str):
        try:
            user, _, password = base64.b64decode(auth).decode().partition(":")
            if violates("password-cut-at-colon"):
                password = password.partition(":")[0]
        except (binascii.Error, ValueError):
            return None
    if not isinstance(user, str) or not isinstance(password, str) or not (user or password):
        return None
    return {"username": user, "password": password}
