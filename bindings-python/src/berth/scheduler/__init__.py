"""The scheduler side: `HostClient` sends commands to one host, `Fleet` tracks all hosts."""

from berth.scheduler._liveness import Health, Reason
from berth.scheduler.client import HostClient, Status, Timeouts
from berth.scheduler.fleet import Fleet, FleetEvents
from berth.scheduler.liveness_options import LivenessOptions
from berth.scheduler.view import (
    EventsMissed,
    FleetEvent,
    HostChanged,
    HostJoined,
    HostLost,
    HostRecovered,
    HostSuspect,
    HostView,
)

__all__ = [
    "EventsMissed",
    "Fleet",
    "FleetEvent",
    "FleetEvents",
    "Health",
    "HostChanged",
    "HostClient",
    "HostJoined",
    "HostLost",
    "HostRecovered",
    "HostSuspect",
    "HostView",
    "LivenessOptions",
    "Reason",
    "Status",
    "Timeouts",
]
