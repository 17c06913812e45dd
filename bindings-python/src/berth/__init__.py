"""Write a host or a scheduler for wasmCloud v2: both sides of the host control protocol over NATS.

A host author implements `Host` and calls `serve`. A scheduler commands a host with `HostClient` and tracks all
hosts with `Fleet`; both use a `Bus` created by `connect`. `berth.proto` has the messages, `berth.errors` has
all errors.

Durations are in seconds, and their names end in `_s`. Objects belong to the event loop they were created in.
The package logs to the logger `berth`.
"""

from berth import encoding, proto
from berth.bus import Bus, ConnectionState, connect
from berth.connect_options import (
    Auth,
    ConnectOptions,
    CredentialsFile,
    NkeySeed,
    NkeySeedFile,
    Token,
    UserPassword,
)
from berth.errors import (
    BerthError,
    BusClosedError,
    ClientError,
    ConnectError,
    DisconnectedError,
    EncodeError,
    InvalidHostIdError,
    InvalidResponseError,
    NoRespondersError,
    NotSentError,
    RefusedError,
    RequestTimeoutError,
    RequestTooLargeError,
    ServeError,
    StartError,
)
from berth.host import (
    Description,
    Host,
    ServeOptions,
    StartRequest,
    StatusReport,
    StatusReporter,
    serve,
)
from berth.proto import Component, LocalResources, Service, WitInterface, WitWorld, Workload
from berth.scheduler import (
    EventsMissed,
    Fleet,
    FleetEvent,
    FleetEvents,
    Health,
    HostChanged,
    HostClient,
    HostJoined,
    HostLost,
    HostRecovered,
    HostSuspect,
    HostView,
    LivenessOptions,
    Reason,
    Status,
    Timeouts,
)
from berth.state import WorkloadState

__all__ = [
    "Auth",
    "BerthError",
    "Bus",
    "BusClosedError",
    "ClientError",
    "Component",
    "ConnectError",
    "ConnectOptions",
    "ConnectionState",
    "CredentialsFile",
    "Description",
    "DisconnectedError",
    "EncodeError",
    "EventsMissed",
    "Fleet",
    "FleetEvent",
    "FleetEvents",
    "Health",
    "Host",
    "HostChanged",
    "HostClient",
    "HostJoined",
    "HostLost",
    "HostRecovered",
    "HostSuspect",
    "HostView",
    "InvalidHostIdError",
    "InvalidResponseError",
    "LivenessOptions",
    "LocalResources",
    "NkeySeed",
    "NkeySeedFile",
    "NoRespondersError",
    "NotSentError",
    "Reason",
    "RefusedError",
    "RequestTimeoutError",
    "RequestTooLargeError",
    "ServeError",
    "ServeOptions",
    "Service",
    "StartError",
    "StartRequest",
    "Status",
    "StatusReport",
    "StatusReporter",
    "Timeouts",
    "Token",
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
