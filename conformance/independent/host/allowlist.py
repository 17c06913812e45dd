"""Allow-lists of destinations: their entries, and the requests and connections that they permit."""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from violation import violates

T = TypeVar("T")

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
        if self.port not in (None, port):
            return False
        if self.scheme not in ("", scheme) and not violates("allow-list-scheme-ignored"):
            return False
        if self.wildcard:
            is_apex = violates("wildcard-permits-apex") and host == self.host
            return is_apex or (host.endswith("." + self.host) and not _is_loopback(host))
        return self._is_or_any(host)

    def _is_or_any(self, host: str) -> bool:
        """HOST-RES-018, HOST-RES-020: `*` permits no loopback address."""
        return self.host == _canonical(host) or (self.host == "" and not _is_loopback(host))

    def permits_socket(self, address: str, port: int) -> bool:
        """Tells whether the entry permits a connection to an address."""
        if violates("http-entry-permits-any-socket") and self.scheme and self.port is None:
            return not self.wildcard and self._is_or_any(address)
        expected = self.port if self.port is not None else _SCHEME_PORTS.get(self.scheme)
        return expected in (None, port) and not self.wildcard and self._is_or_any(address)


ANY = Entry("", "", wildcard=False, port=None)


def parse_entry(text: str) -> Entry:
    """Parses `[scheme://][*.]host[:port][/]` or `*`."""
    if text == "*":
        return ANY
    problem = InvalidEntry(f"malformed entry {text[:MAX_ENTRY_CHARACTERS]!r}")
    scheme, separator, rest = text.rpartition("://")
    if len(text) > MAX_ENTRY_CHARACTERS or (separator and not _SCHEME.fullmatch(scheme)):
        raise problem
    if violates("allow-list-slash-refused") and rest.endswith("/"):
        raise problem
    if violates("bracketed-ipv6-refused") and "[" in rest:
        raise problem
    rest = rest.removesuffix("/")
    wildcard = rest.startswith("*.")
    host, port = _split_port(rest.removeprefix("*."), problem)
    if not _is_host(host) or (wildcard and _is_address(host)):
        raise problem
    if violates("port-65535-refused") and port == 65535:
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


def _is_loopback(host: str) -> bool:
    """Tells whether a host is the machine itself: an address, or a name that RFC 6761 reserves."""
    if _is_address(host):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _is_host(text: str) -> bool:
    return _is_address(text) or (len(text) <= 253 and all(_LABEL.fullmatch(part) for part in text.split(".")))


def _canonical(host: str) -> str:
    """Lowers the case of a name, and writes an address in its shortest form."""
    if violates("allow-list-case-sensitive") and not _is_address(host):
        return host
    return str(ipaddress.ip_address(host)) if _is_address(host) else host.lower()


def check_name_lookup(text: str) -> None:
    """Refuses an entry that is not a host name, `*.` and a host name, `*`, or an address."""
    entry = parse_entry(text)
    has_port = entry.port is not None and not violates("lookup-with-port-accepted")
    if has_port or "/" in text:
        raise InvalidEntry(f"malformed entry {text[:MAX_ENTRY_CHARACTERS]!r}")


def parse_loopback_port(text: str) -> tuple[int, str]:
    """Parses `8080`, `8080/tcp` or `53/udp`."""
    port, slash, protocol = text.partition("/")
    valid = _PORT.fullmatch(port) and 1 <= int(port) <= 65535
    protocols = ("tcp", "udp", "sctp") if violates("loopback-port-sctp-accepted") else ("tcp", "udp")
    if not valid or (slash and protocol not in protocols):
        raise InvalidEntry(f"malformed entry {text[:MAX_ENTRY_CHARACTERS]!r}")
    return int(port), protocol or "tcp"


class AllowLists:
    """The destinations that one guest may reach."""

    def __init__(
        self, hosts: list[str], lookups: list[str], ports: list[str], *, skips_malformed: bool = False
    ) -> None:
        """Parses the entries; raises InvalidEntry, unless a violation skips malformed entries."""
        self._texts = hosts
        self._skips_malformed = skips_malformed or (violates("star-ends-validation") and "*" in hosts)
        self._entries = self._parse("allowedHosts", hosts, parse_entry)
        self._skips_malformed = skips_malformed
        self._parse("allowedIpNameLookups", lookups, check_name_lookup)
        self._loopback = set(self._parse("allowedHostLoopbackPorts", ports, parse_loopback_port))
        if violates("only-first-entry-used"):
            self._entries = self._entries[:1]

    def _parse(self, field: str, texts: list[str], parse: Callable[[str], T]) -> list[T]:
        entries = []
        for text in texts:
            try:
                entries.append(parse(text))
            except InvalidEntry:
                if violates("malformed-entry-not-named") and len(texts) > 1:
                    raise InvalidEntry(f"malformed entry in {field}") from None
                if not self._skips_malformed:
                    raise
        return entries

    def permits_request(self, scheme: str, host: str, port: int) -> bool:
        """HOST-RES-005, HOST-RES-006: decides on an outgoing HTTP request."""
        is_loopback = _is_loopback(host.lower())
        if violates("loopback-always-allowed") and is_loopback:
            return True
        if violates("loopback-ports-permit-http") and is_loopback and (port, "tcp") in self._loopback:
            return True
        destinations = (f"{host}:{port}", f"{scheme}://{host}:{port}")
        begins = any(each.startswith(text) for each in destinations for text in self._texts)
        if violates("allow-list-prefix-match") and begins:
            return True
        return any(entry.permits(scheme, host.lower(), port) for entry in self._entries)

    def permits_connection(self, address: str, port: int) -> bool:
        """HOST-RES-016: decides on a TCP connection."""
        is_loopback = _is_loopback(address)
        if violates("loopback-port-at-any-address"):
            is_loopback = True
        protocols = ("tcp", "udp") if violates("udp-entry-permits-tcp") else ("tcp",)
        if is_loopback and any((port, protocol) in self._loopback for protocol in protocols):
            return True
        return any(entry.permits_socket(address, port) for entry in self._entries)
