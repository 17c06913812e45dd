"""WIT interfaces: the ungated baseline, declarations, offers, and the versions that are compatible."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from codec import Message
from violation import violates

# Packages whose interfaces need no declaration; None stands for all interfaces of the package.
BASELINE: dict[str, frozenset[str] | None] = {
    "wasi:cli": None,
    "wasi:clocks": None,
    "wasi:random": None,
    "wasi:io": None,
    "wasi:filesystem": None,
    "wasi:sockets": None,
    "wasi:http": frozenset({"types", "outgoing-handler", "client"}),
}

# HOST-BEAT-010: the gated packages of this host, in any version.
OFFERS: list[Message] = [
    {"namespace": "wasi", "package": "config", "interfaces": ["store"]},
    {"namespace": "wasi", "package": "keyvalue", "interfaces": ["store"]},
    {"namespace": "wasi", "package": "logging", "interfaces": ["logging"]},
]

HTTP_HANDLERS = ("incoming-handler", "handler")
RUN = ("wasi:cli", "run")

_INTERFACE = re.compile(r"([a-z][a-z0-9-]*):([a-z][a-z0-9-]*)/([a-z][a-z0-9-]*)(?:@(\S+))?", re.ASCII)
_RELEASE = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?:\+[0-9A-Za-z.-]+)?", re.ASCII)


@dataclass(frozen=True)
class Interface:
    """One interface that an image imports or exports."""

    namespace: str
    package: str
    name: str
    version: str

    def __str__(self) -> str:
        """Formats the interface as WIT does."""
        return f"{self.namespace}:{self.package}/{self.name}{'@' if self.version else ''}{self.version}"

    @property
    def package_name(self) -> str:
        """Returns namespace and package."""
        return f"{self.namespace}:{self.package}"


def parse_interface(text: str) -> Interface | None:
    """Parses `namespace:package/name@version`, or returns None."""
    match = _INTERFACE.fullmatch(text)
    return Interface(match[1], match[2], match[3], match[4] or "") if match else None


def in_baseline(interface: Interface) -> bool:
    """Tells whether every guest can import the interface."""
    names = BASELINE.get(interface.package_name, frozenset())
    return names is None or interface.name in names


def covers(declarations: Iterable[Message], interface: Interface) -> bool:
    """Tells whether one of the declarations contains the interface."""
    return any(
        (declared["namespace"] == interface.namespace or violates("namespace-not-compared"))
        and declared["package"] == interface.package
        and (interface.name in declared["interfaces"] or _covers_all(declared))
        and compatible(declared.get("version", ""), interface.version)
        for declared in declarations
    )


def _covers_all(declared: Message) -> bool:
    return violates("empty-declaration-covers-all") and not declared["interfaces"]


def compatible(left: str, right: str) -> bool:
    """Tells whether two versions are compatible; an empty version is compatible with each."""
    if not left or not right or left == right:
        return True
    releases = _RELEASE.fullmatch(left), _RELEASE.fullmatch(right)
    if releases[0] is None or releases[1] is None:
        return False
    one, two = (tuple(int(number) for number in release.groups()) for release in releases if release)
    significant = 1 if one[0] else 2 if one[1] else 3
    return one[:significant] == two[:significant]
