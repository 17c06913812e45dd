"""Allow-lists of destinations: their entries, and the requests and connections that they permit."""

import ipaddress
import re
from dataclasses import dataclass

MAX_ENTRY_CHARACTERS = 512  # a name has at most 253; a scheme and a port are short

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_SCHEME_PORTS = {"http": 80, "https": 443}


class InvalidEntry(Exception):  # noqa: N818 - names the value, not the program
    """A malformed entry; the text quotes it."""


@dataclass(frozen=True)
class Entry:
    """One entry; empty parts permit every value."""

    scheme: str
    host: str
    wildcard: bool
    port: int | None

    def permits(self, scheme: str, host: str, port: int) -> bool:
        """Tells whether the entry permits a request."""
        return (
            self.scheme in ("", scheme)
            and self.port in (None, port)
            and (host.endswith("." + self.host) if self.wildcard else self.host in ("", _canonical(host)))
        )

    def permits_socket(self, address: str, port: int) -> bool:
        """Tells whether the entry permits a connection to an address."""
        expected = self.port if self.port is not None else _SCHEME_PORTS.get(self.scheme)
        return expected in (None, port) and not self.wildcard and self.host in ("", _canonical(address))


ANY = Entry("", "", wildcard=False, port=None)


def parse_entry(text: str) -> Entry:
    """Parses `[scheme://][*.]host[:port][/]` or `*`."""
    if text == "*":
        return ANY
    problem = InvalidEntry(f"malformed entry {text[:MAX_ENTRY_CHARACTERS]!r}")
    scheme, separator, rest = text.rpartition("://")
    if len(text) > MAX_ENTRY_CHARACTERS or (separator and not _SCHEME.fullmatch(scheme)):
        raise problem
    rest = rest.removesuffix("/")
    wildcard = rest.startswith("*.")
    host, port = _split_port(rest.removeprefix("*."), problem)
    if not _is_host(host) or (wildcard and _is_address(host)):
        raise problem
    return Entry(scheme.lower(), _canonical(host), wildcard, port)


def _split_port(text: str, problem: InvalidEntry) -> tuple[str, int | None]:
    """Separates a host or an IPv6 address from its port."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not _is_address(host) or ":" not in host:
            raise problem
        if not rest:
            return host, None
        colon, port = rest[0], rest[1:]
    elif text.count(":") >= 2:
        if not _is_address(text):
            raise problem
        return text, None
    else:
        host, colon, port = text.partition(":")
        if not colon:
            return host, None
    if colon != ":" or not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise problem
    return host, int(port)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _is_host(text: str) -> bool:
    return _is_address(text) or (len(text) <= 253 and all(_LABEL.fullmatch(part) for part in text.split(".")))


def _canonical(host: str) -> str:
    """Lowers the case of a name, and writes an address in its shortest form."""
    return str(ipaddress.ip_address(host)) if _is_address(host) else host.lower()


def check_name_lookup(text: str) -> None:
    """Refuses an entry that is not a host name, `*.` and a host name, `*`, or an address."""
    entry = parse_entry(text)
    if entry.port is not None or "/" in text:
        raise InvalidEntry(f"malformed entry {text[:MAX_ENTRY_CHARACTERS]!r}")


def parse_loopback_port(text: str) -> tuple[int, str]:
    """Parses `8080`, `8080/tcp` or `53/udp`."""
    port, slash, protocol = text.partition("/")
    valid = _PORT.fullmatch(port) and 1 <= int(port) <= 65535
    if not valid or (slash and protocol not in ("tcp", "udp")):
        raise InvalidEntry(f"malformed entry {text[:MAX_ENTRY_CHARACTERS]!r}")
    return int(port), protocol or "tcp"


class AllowLists:
    """The destinations that one guest may reach."""

    def __init__(self, hosts: list[str], lookups: list[str], loopback_ports: list[str]) -> None:
        """Parses the entries; raises InvalidEntry."""
        self._entries = [parse_entry(text) for text in hosts]
        for text in lookups:
            check_name_lookup(text)
        self._loopback = {parse_loopback_port(text) for text in loopback_ports}

    def permits_request(self, scheme: str, host: str, port: int) -> bool:
        """HOST-RES-005, HOST-RES-006: decides on an outgoing HTTP request."""
        return any(entry.permits(scheme, host.lower(), port) for entry in self._entries)

    def permits_connection(self, address: str, port: int) -> bool:
        """HOST-RES-016: decides on a TCP connection."""
        loopback = ipaddress.ip_address(address).is_loopback and (port, "tcp") in self._loopback
        return loopback or any(entry.permits_socket(address, port) for entry in self._entries)
