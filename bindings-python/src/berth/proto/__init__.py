"""Messages of the protocol, package `wasmcloud.runtime.v2`, generated from the schema.

All fields are keyword arguments, including those of nested messages::

    Workload(wit_world=WitWorld(components=[Component(name="web", image="ghcr.io/me/web:1")]))

The fields are documented in their docstrings and in the specification. `repr` and `str` of a message hide pull
credentials and the values of configuration and environment; `berth.encoding` writes them.
"""

from berth.proto import _redacted
from berth.proto._gen.host_heartbeat_pb2 import HostHeartbeat
from berth.proto._gen.host_service_pb2 import HostHeartbeatRequest
from berth.proto._gen.wit_interface_pb2 import WitInterface
from berth.proto._gen.workload_pb2 import (
    IMAGE_PULL_POLICY_ALWAYS,
    IMAGE_PULL_POLICY_IF_NOT_PRESENT,
    IMAGE_PULL_POLICY_NEVER,
    IMAGE_PULL_POLICY_UNSPECIFIED,
    WORKLOAD_STATE_COMPLETED,
    WORKLOAD_STATE_ERROR,
    WORKLOAD_STATE_NOT_FOUND,
    WORKLOAD_STATE_RUNNING,
    WORKLOAD_STATE_STARTING,
    WORKLOAD_STATE_STOPPING,
    WORKLOAD_STATE_UNSPECIFIED,
    Component,
    EmptyDirVolume,
    HostPathVolume,
    ImagePullPolicy,
    ImagePullSecret,
    LocalResources,
    Service,
    Volume,
    VolumeMount,
    WitWorld,
    Workload,
    WorkloadState,
)
from berth.proto._gen.workload_service_pb2 import (
    WorkloadStartRequest,
    WorkloadStartResponse,
    WorkloadStatus,
    WorkloadStatusRequest,
    WorkloadStatusResponse,
    WorkloadStopRequest,
    WorkloadStopResponse,
)

__all__ = [
    "IMAGE_PULL_POLICY_ALWAYS",
    "IMAGE_PULL_POLICY_IF_NOT_PRESENT",
    "IMAGE_PULL_POLICY_NEVER",
    "IMAGE_PULL_POLICY_UNSPECIFIED",
    "MESSAGES",
    "WORKLOAD_STATE_COMPLETED",
    "WORKLOAD_STATE_ERROR",
    "WORKLOAD_STATE_NOT_FOUND",
    "WORKLOAD_STATE_RUNNING",
    "WORKLOAD_STATE_STARTING",
    "WORKLOAD_STATE_STOPPING",
    "WORKLOAD_STATE_UNSPECIFIED",
    "Component",
    "EmptyDirVolume",
    "HostHeartbeat",
    "HostHeartbeatRequest",
    "HostPathVolume",
    "ImagePullPolicy",
    "ImagePullSecret",
    "LocalResources",
    "Service",
    "Volume",
    "VolumeMount",
    "WitInterface",
    "WitWorld",
    "Workload",
    "WorkloadStartRequest",
    "WorkloadStartResponse",
    "WorkloadState",
    "WorkloadStatus",
    "WorkloadStatusRequest",
    "WorkloadStatusResponse",
    "WorkloadStopRequest",
    "WorkloadStopResponse",
]

MESSAGES = (
    Component,
    EmptyDirVolume,
    HostHeartbeat,
    HostHeartbeatRequest,
    HostPathVolume,
    ImagePullSecret,
    LocalResources,
    Service,
    Volume,
    VolumeMount,
    WitInterface,
    WitWorld,
    Workload,
    WorkloadStartRequest,
    WorkloadStartResponse,
    WorkloadStatus,
    WorkloadStatusRequest,
    WorkloadStatusResponse,
    WorkloadStopRequest,
    WorkloadStopResponse,
)
"""All message types of the schema."""

_redacted.install_redacted_repr(MESSAGES)
