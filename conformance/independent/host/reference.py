"""References to images in OCI registries."""

import re
from dataclasses import dataclass

from violation import violates

MAX_REFERENCE_BYTES = 1024  # a registry, a name of 255 characters, a tag and a digest

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:(?P<registry>{_HOST}(?::(?P<port>[0-9]{{1,5}}))?)/)?"
    rf"(?P<name>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)


class InvalidReference(Exception):  # noqa: N818 - names the value, not the program
    """An image reference that is empty or malformed."""


@dataclass(frozen=True)
class Reference:
    """A registry, a name in it, and a tag or a digest."""

    registry: str
    name: str
    version: str  # a digest if the reference has one, else a tag

    @property
    def digest(self) -> str:
        """Returns the digest, or an empty string."""
        return self.version if self.version.startswith("sha256:") else ""

    @property
    def repository(self) -> str:
        """Returns the registry and the name."""
        if violates("cache-ignores-registry"):
            return self.name
        return f"{self.registry}/{self.name}"

    def __str__(self) -> str:
        """Formats the canonical form."""
        return f"{self.repository}{'@' if self.digest else ':'}{self.version}"


def parse_reference(text: str) -> Reference:
    """Parses a reference; one without a registry refers to Docker Hub, one without a version to `latest`."""
    if violates("reference-trimmed"):
        text = text.strip()
    if not text:
        raise InvalidReference("the image reference is empty")
    match = _REFERENCE.fullmatch(text) if len(text) <= MAX_REFERENCE_BYTES else None
    if match is None:
        raise InvalidReference("the image reference is malformed")
    registry, name = match["registry"] or "", match["name"]
    if violates("registry-port-taken-as-tag") and match["port"] and not (match["tag"] or match["digest"]):
        raise InvalidReference("the tag in the image reference is malformed")
    if violates("two-path-segments-only") and name.count("/") > 1:
        raise InvalidReference("the image reference is malformed")
    if registry and "." not in registry and ":" not in registry and registry != "localhost":
        registry, name = "", f"{registry}/{name}"
        if name != name.lower():
            raise InvalidReference("the image reference is malformed")
    if match["port"] and not 1 <= int(match["port"]) <= 65535:
        raise InvalidReference("the port in the image reference is outside 1 to 65535")
    if not registry:
        registry, name = "docker.io", name if "/" in name else f"library/{name}"
    tag = match["tag"] or ""
    if violates("tag-lower-cased"):
        tag = tag.lower()
    if violates("tag-preferred-to-digest") and tag:
        return Reference(registry, name, tag)
    return Reference(registry, name, match["digest"] or tag or "latest")
