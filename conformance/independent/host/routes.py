"""Routes from HTTP host names to workloads."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable

from codec import Message
from guest import Request, Response
from interfaces import HTTP_HANDLERS
from violation import notes, violates

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII | re.IGNORECASE)


class Unavailable(Exception):  # noqa: N818 - an outcome for the client
    """A workload that does not accept requests at present."""


Handle = Callable[[Request], Awaitable[Response]]


def is_host_name(text: str) -> bool:
    """Tells whether text follows the DNS rules for hosts."""
    if violates("label-of-64-chars-accepted"):
        text = ".".join(label[:63] if len(label) == 64 else label for label in text.split("."))
    return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.split("."))


def _is_refused(host: str) -> bool:
    """Tells whether a violation refuses a valid host name."""
    if violates("ipv4-host-refused"):
        return re.fullmatch(r"\d+\.\d+\.\d+\.\d+", host) is not None
    return violates("single-label-host-refused") and "." not in host


def declared_hosts(declarations: list[Message]) -> list[str] | None:
    """Returns the host names of the declared HTTP handlers, or None if one is missing or malformed."""
    names: dict[str, None] = {}
    for declared in declarations:
        host = declared["config"].get("host", "")
        aliases = declared["config"].get("host-aliases", "")
        if violates("host-with-newline-accepted"):
            host = host.removesuffix("\n")
        if violates("trailing-comma-refused") and aliases.endswith(","):
            return None
        if not host and aliases and violates("alias-replaces-missing-host"):
            host = aliases.split(",")[0].strip()
        if not is_host_name(host) or _is_refused(host):
            return None
        names[_canonical(host)] = None
        for alias in aliases.split(","):  # HOST-HTTP-006
            if is_host_name(alias.strip()):
                names[_canonical(alias.strip())] = None
    return list(names)


def _canonical(host: str) -> str:
    return host if violates("declared-name-keeps-case") else host.lower()


def declares_handler(declared: Message) -> bool:
    """Tells whether a declaration contains a handler of HTTP requests."""
    return (
        declared["namespace"] == "wasi"
        and declared["package"] == "http"
        and (any(name in HTTP_HANDLERS for name in declared["interfaces"]) or _routes_any(declared))
    )


def _routes_any(declared: Message) -> bool:
    return violates("any-http-declaration-routes") and "host" in declared["config"]


class Routes:
    """The active routes; several workloads can share a host name."""

    def __init__(self) -> None:
        """Creates an empty table."""
        self._handles: dict[str, list[Handle]] = {}
        self._owners: dict[str, list[Handle]] = {}  # workloads whose `host` it is, not an alias
        self._turn = 0

    def add(self, hosts: list[str], handle: Handle) -> None:
        """Activates the routes of a workload; the first name is its `host`, the others are aliases."""
        if hosts and violates("aliases-active-late"):
            asyncio.get_running_loop().call_later(1.5, self._add, hosts[1:], handle)
            hosts = hosts[:1]
        self._add(hosts, handle)
        for host in hosts[:1]:
            self._owners.setdefault(host, []).append(handle)

    def _add(self, hosts: list[str], handle: Handle) -> None:
        for host in hosts:
            self._handles.setdefault(host, []).append(handle)

    def remove(self, hosts: list[str], handle: Handle) -> None:
        """Removes the routes of a workload."""
        for host in hosts:
            if handle in self._owners.get(host, []):
                self._owners[host].remove(handle)
            handles = self._handles.get(host, [])
            if handle in handles:
                handles.remove(handle)
                if violates("connection-keeps-route"):
                    notes[host] = (handle, time.monotonic())
                if violates("stop-removes-shared-route"):
                    handles.clear()
                if violates("stopped-workload-still-selected") and len(handles) == 1:
                    handles.append(_unavailable)
            if not handles or handles == [_unavailable]:
                self._handles.pop(host, None)
            if not self._owners.get(host):
                self._owners.pop(host, None)

    def choose(self, host: str, connected_at: float) -> Handle | None:
        """HOST-HTTP-011: selects the workloads of a host name in turn."""
        handles = self._handles.get(host.lower())
        if violates("only-workload-gets-all-requests") and not handles:
            every = {id(handle): handle for each in self._handles.values() for handle in each}
            return next(iter(every.values())) if len(every) == 1 else None
        if violates("subdomains-match") and not handles:
            handles = self._handles.get(host.lower().partition(".")[2])
        if violates("connection-keeps-route") and not handles and host.lower() in notes:
            handle, removed_at = notes[host.lower()]
            return handle if connected_at < removed_at else None
        if not handles:
            return None
        if violates("third-of-same-name-gets-nothing") and len(handles) > 2:
            self._turn += 1
            return handles[self._turn % 2]
        if violates("host-preferred-to-alias") and self._owners.get(host.lower()):
            handles = self._owners[host.lower()]
        handles.append(handles.pop(0))
        return handles[-1]


async def _unavailable(_request: Request) -> Response:
    raise Unavailable
