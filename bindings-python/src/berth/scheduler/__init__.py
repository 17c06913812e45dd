"""The scheduler's side: command one host with `HostClient`, see them all with `Fleet`."""

from berth.scheduler._liveness import Health, Reason
from berth.scheduler.client import HostClient, Status, Timeouts
from berth.scheduler.fleet import Fleet, FleetEvents
from berth.scheduler.liveness_options import LivenessOptions
from berth.scheduler.view import Changed, FleetEvent, HostView, Joined, Lost, Missed, Returned, Suspect

__all__ = [
    "Changed",
    "Fleet",
    "FleetEvent",
    "FleetEvents",
    "Health",
    "HostClient",
    "HostView",
    "Joined",
    "LivenessOptions",
    "Lost",
    "Missed",
    "Reason",
    "Returned",
    "Status",
    "Suspect",
    "Timeouts",
]
