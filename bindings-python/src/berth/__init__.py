"""Write a host or a scheduler for wasmCloud v2: the host control protocol over NATS, both sides.

A host author implements `Host` and calls `serve`. A scheduler commands one host with `HostClient` and sees all
of them with `Fleet`, both on a `Bus` that `connect` makes. `berth.proto` has the messages, `berth.errors` all
that can go wrong.

Times are in seconds, and say so in their names (`_s`). Everything belongs to the event loop it was made in.
Messages of the package itself go to the logger `berth`.
"""

from berth import encoding, proto
from berth.bus import Bus, Link, connect
from berth.connect import (
    Auth,
    ConnectOptions,
    CredentialsFile,
    NkeySeed,
    NkeySeedFile,
    Token,
    UserPassword,
)
from berth.errors import (
    BadHostId,
    BerthError,
    BusClosed,
    ClientError,
    ConnectError,
    Disconnected,
    Malformed,
    NoResponders,
    NotSent,
    Refusal,
    Refused,
    ServeError,
    Timeout,
    TooLarge,
)
from berth.host import Description, Host, Report, Reporter, ServeOptions, Start, serve
from berth.proto import Component, LocalResources, Service, WitInterface, WitWorld, Workload
from berth.scheduler import (
    Changed,
    Fleet,
    FleetEvent,
    FleetEvents,
    Health,
    HostClient,
    HostView,
    Joined,
    LivenessOptions,
    Lost,
    Missed,
    Reason,
    Returned,
    Status,
    Suspect,
    Timeouts,
)
from berth.state import WorkloadState

__all__ = [
    "Auth",
    "BadHostId",
    "BerthError",
    "Bus",
    "BusClosed",
    "Changed",
    "ClientError",
    "Component",
    "ConnectError",
    "ConnectOptions",
    "CredentialsFile",
    "Description",
    "Disconnected",
    "Fleet",
    "FleetEvent",
    "FleetEvents",
    "Health",
    "Host",
    "HostClient",
    "HostView",
    "Joined",
    "Link",
    "LivenessOptions",
    "LocalResources",
    "Lost",
    "Malformed",
    "Missed",
    "NkeySeed",
    "NkeySeedFile",
    "NoResponders",
    "NotSent",
    "Reason",
    "Refusal",
    "Refused",
    "Report",
    "Reporter",
    "Returned",
    "ServeError",
    "ServeOptions",
    "Service",
    "Start",
    "Status",
    "Suspect",
    "Timeout",
    "Timeouts",
    "Token",
    "TooLarge",
    "UserPassword",
    "WitInterface",
    "WitWorld",
    "Workload",
    "WorkloadState",
    "connect",
    "encoding",
    "proto",
    "serve",
]
