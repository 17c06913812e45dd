"""Messages and enums of the package wasmcloud.runtime.v2 as tables of JSON field names and types."""

ENUMS: dict[str, tuple[str, ...]] = {
    "WorkloadState": (
        "WORKLOAD_STATE_UNSPECIFIED",
        "WORKLOAD_STATE_STARTING",
        "WORKLOAD_STATE_RUNNING",
        "WORKLOAD_STATE_COMPLETED",
        "WORKLOAD_STATE_STOPPING",
        "WORKLOAD_STATE_ERROR",
        "WORKLOAD_STATE_NOT_FOUND",
    ),
    "ImagePullPolicy": (
        "IMAGE_PULL_POLICY_UNSPECIFIED",
        "IMAGE_PULL_POLICY_ALWAYS",
        "IMAGE_PULL_POLICY_IF_NOT_PRESENT",
        "IMAGE_PULL_POLICY_NEVER",
    ),
}

# A type is a scalar, "map" (of strings to strings), an enum, a message, or "repeated" and one of them.
MESSAGES: dict[str, dict[str, str]] = {
    "WorkloadStartRequest": {"workload": "Workload", "workloadId": "string"},
    "WorkloadStatusRequest": {"workloadId": "string"},
    "WorkloadStopRequest": {"workloadId": "string"},
    "Reply": {"workloadStatus": "WorkloadStatus"},
    "WorkloadStatus": {"workloadId": "string", "workloadState": "WorkloadState", "message": "string"},
    "Workload": {
        "namespace": "string",
        "name": "string",
        "annotations": "map",
        "service": "Service",
        "witWorld": "WitWorld",
        "volumes": "repeated Volume",
    },
    "Service": {
        "image": "string",
        "localResources": "LocalResources",
        "maxRestarts": "uint64",
        "imagePullSecret": "ImagePullSecret",
        "imagePullPolicy": "ImagePullPolicy",
    },
    "WitWorld": {"components": "repeated Component", "hostInterfaces": "repeated WitInterface"},
    "Component": {
        "image": "string",
        "localResources": "LocalResources",
        "poolSize": "sint32",
        "maxInvocations": "sint32",
        "imagePullSecret": "ImagePullSecret",
        "name": "string",
        "imagePullPolicy": "ImagePullPolicy",
        "maxConcurrency": "sint32",
    },
    "LocalResources": {
        "memoryLimitMb": "int32",
        "cpuLimit": "int32",
        "config": "map",
        "environment": "map",
        "volumeMounts": "repeated VolumeMount",
        "allowedHosts": "repeated string",
        "allowedIpNameLookups": "repeated string",
        "allowedHostLoopbackPorts": "repeated string",
    },
    "Volume": {"name": "string", "hostPath": "HostPathVolume", "emptyDir": "EmptyDirVolume"},
    "VolumeMount": {"name": "string", "mountPath": "string", "readOnly": "bool"},
    "EmptyDirVolume": {},
    "HostPathVolume": {"localPath": "string"},
    "ImagePullSecret": {"username": "string", "password": "string"},
    "WitInterface": {
        "namespace": "string",
        "package": "string",
        "version": "string",
        "interfaces": "repeated string",
        "config": "map",
        "name": "string",
    },
    "HostHeartbeat": {
        "id": "string",
        "hostname": "string",
        "friendlyName": "string",
        "version": "string",
        "labels": "map",
        "startedAt": "timestamp",
        "osArch": "string",
        "osName": "string",
        "osKernel": "string",
        "systemCpuUsage": "float",
        "systemMemoryTotal": "uint64",
        "systemMemoryFree": "uint64",
        "componentCount": "uint64",
        "workloadCount": "uint64",
        "imports": "repeated WitInterface",
        "exports": "repeated WitInterface",
        "httpPort": "uint32",
        "environment": "string",
    },
}

# Pairs of fields of which a message sets at most one.
ONEOFS: dict[str, tuple[str, ...]] = {"Volume": ("hostPath", "emptyDir")}

INTEGER_RANGES: dict[str, tuple[int, int]] = {
    "int32": (-(2**31), 2**31 - 1),
    "sint32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
