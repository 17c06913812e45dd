"""The host's side: implement `Host`, call `serve`, and the protocol is taken care of."""

from berth.errors import Refusal, ServeError
from berth.host.description import Description
from berth.host.host import Host, Start
from berth.host.reporter import Report, Reporter
from berth.host.serve import ServeOptions, serve

__all__ = [
    "Description",
    "Host",
    "Refusal",
    "Report",
    "Reporter",
    "ServeError",
    "ServeOptions",
    "Start",
    "serve",
]
