"""Routes from HTTP host names to workloads."""

import re
from collections.abc import Awaitable, Callable

from codec import Message
from guest import Request, Response
from interfaces import HTTP_HANDLERS

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII | re.IGNORECASE)


class Unavailable(Exception):  # noqa: N818 - an outcome for the client
    """A workload that does not accept requests at present."""


Handle = Callable[[Request], Awaitable[Response]]


def is_host_name(text: str) -> bool:
    """Tells whether text follows the DNS rules for hosts."""
    return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.split("."))


def declared_hosts(declarations: list[Message]) -> list[str] | None:
    """Returns the host names of the declared HTTP handlers, or None if one is missing or malformed."""
    names: dict[str, None] = {}
    for declared in declarations:
        host = declared["config"].get("host", "")
        if not is_host_name(host):
            return None
        names[host.lower()] = None
        for alias in declared["config"].get("host-aliases", "").split(","):  # HOST-HTTP-006
            if is_host_name(alias.strip()):
                names[alias.strip().lower()] = None
    return list(names)


def declares_handler(declared: Message) -> bool:
    """Tells whether a declaration contains a handler of HTTP requests."""
    return (
        declared["namespace"] == "wasi"
        and declared["package"] == "http"
        and any(name in HTTP_HANDLERS for name in declared["interfaces"])
    )


class Routes:
    """The active routes; several workloads can share a host name."""

    def __init__(self) -> None:
        """Creates an empty table."""
        self._handles: dict[str, list[Handle]] = {}

    def add(self, hosts: list[str], handle: Handle) -> None:
        """Activates the routes of a workload."""
        for host in hosts:
            self._handles.setdefault(host, []).append(handle)

    def remove(self, hosts: list[str], handle: Handle) -> None:
        """Removes the routes of a workload."""
        for host in hosts:
            handles = self._handles.get(host, [])
            if handle in handles:
                handles.remove(handle)
            if not handles:
                self._handles.pop(host, None)

    def choose(self, host: str) -> Handle | None:
        """HOST-HTTP-011: selects the workloads of a host name in turn."""
        handles = self._handles.get(host.lower())
        if not handles:
            return None
        handles.append(handles.pop(0))
        return handles[-1]
