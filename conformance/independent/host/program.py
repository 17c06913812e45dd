"""The content of an image: the name of a stand-in guest, its imports and its exports."""

import json
from dataclasses import dataclass

from interfaces import HTTP_HANDLERS, RUN, Interface, parse_interface
from roles import HANDLERS, RUNS, Handler, Run


class NotRunnable(Exception):  # noqa: N818 - an outcome of a valid request
    """Content that is not the program of a stand-in guest."""


@dataclass(frozen=True)
class Program:
    """The code of an image."""

    imports: tuple[Interface, ...]
    exports: tuple[Interface, ...]
    handler: Handler | None
    run: Run | None

    def handler_interface(self) -> Interface | None:
        """Returns the HTTP handler that the program exports."""
        return next((item for item in self.exports if is_http_handler(item)), None)


def is_http_handler(interface: Interface) -> bool:
    """Tells whether an interface is a handler of incoming HTTP requests."""
    return interface.package_name == "wasi:http" and interface.name in HTTP_HANDLERS


def parse_program(content: bytes) -> Program:
    """Parses `{"program": NAME, "imports": […], "exports": […]}`."""
    try:
        value = json.loads(content)
        name, imports, exports = value["program"], value["imports"], value["exports"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise NotRunnable("the image does not contain a stand-in guest") from None
    if not isinstance(name, str) or name not in {"idle", *HANDLERS, *RUNS}:
        raise NotRunnable("the image names no known stand-in guest")
    program = Program(_interfaces(imports), _interfaces(exports), HANDLERS.get(name), RUNS.get(name))
    exports_run = any((item.package_name, item.name) == RUN for item in program.exports)
    if (program.handler_interface() is None) != (program.handler is None) or exports_run != bool(program.run):
        raise NotRunnable("the exports of the image do not match its program")
    return program


def _interfaces(texts: object) -> tuple[Interface, ...]:
    items = texts if isinstance(texts, list) else [None]
    parsed = [parse_interface(text) if isinstance(text, str) else None for text in items]
    if None in parsed:
        raise NotRunnable("the image has a malformed interface")
    return tuple(item for item in parsed if item)
