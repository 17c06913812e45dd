"""The host side: implement `Host` and call `serve`, which handles the protocol."""

from berth.errors import ServeError, StartError
from berth.host.description import Description
from berth.host.host import Host, StartRequest
from berth.host.options import ServeOptions
from berth.host.serve import serve
from berth.host.status_reporter import StatusReport, StatusReporter

__all__ = [
    "Description",
    "Host",
    "ServeError",
    "ServeOptions",
    "StartError",
    "StartRequest",
    "StatusReport",
    "StatusReporter",
    "serve",
]
