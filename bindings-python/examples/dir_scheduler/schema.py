"""Checks manifests, which people write by hand: rejects wrong types, and reports unknown fields."""

import difflib
from collections.abc import Iterator
from typing import Any

REFERENCE = {"name": str}
"""Name of a ConfigMap or a Secret."""

TEXTS = {"*": str}
"""Map of strings; `*` stands for any key."""

RESOURCES = {
    "memoryLimitMb": int,
    "cpuLimit": int,
    "config": TEXTS,
    "environment": {"config": TEXTS, "configFrom": [REFERENCE], "secretFrom": [REFERENCE]},
    "volumeMounts": [{"name": str, "mountPath": str, "readOnly": bool}],
    "allowedHosts": [str],
    "allowedIpNameLookups": [str],
    "allowedHostLoopbackPorts": [str],
}

PART = {
    "name": str,
    "image": str,
    "imagePullPolicy": str,
    "imagePullSecret": REFERENCE,
    "localResources": RESOURCES,
    "poolSize": int,
    "maxInvocations": int,
    "maxConcurrency": int,
}

INTERFACE = {
    **dict.fromkeys(("namespace", "package", "version", "name"), str),
    "interfaces": [str],
    "config": TEXTS,
    "configFrom": [REFERENCE],
    "secretFrom": [REFERENCE],
}

WORKLOAD = {
    "environment": str,
    "hostId": str,
    "hostSelector": TEXTS,
    "hostInterfaces": [INTERFACE],
    "components": [PART],
    "service": {**PART, "maxRestarts": int},
    "volumes": [{"name": str, "ephemeral": object, "hostPath": {"path": str, "type": str}}],
    "kubernetes": object,
}

TEMPLATE = {"labels": TEXTS, "annotations": TEXTS, "metadata": object, "spec": WORKLOAD}

DEPLOYMENT = {
    "replicas": int,
    "deployPolicy": str,
    "artifacts": object,
    "kubernetes": object,
    "template": TEMPLATE,
}

METADATA = {
    **dict.fromkeys(("name", "namespace"), str),
    **dict.fromkeys(("labels", "annotations"), TEXTS),
    # Fields that an API server sets.
    **dict.fromkeys(("uid", "resourceVersion", "generation", "creationTimestamp"), object),
    **dict.fromkeys(("managedFields", "finalizers", "ownerReferences"), object),
}

TYPE_NAMES = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    list: "a list",
    dict: "an object",
}


def unknown_fields(raw: object) -> list[str]:
    """Returns a warning for each unknown field of an object, which may be a misspelled one.

    Raises `ValueError` for a value of the wrong type. No text contains a value, because a value may be secret.
    """
    kind = raw.get("kind") if isinstance(raw, dict) else None
    spec = {"Workload": WORKLOAD, "WorkloadDeployment": DEPLOYMENT}.get(str(kind), object)
    shape = {"apiVersion": str, "kind": str, "metadata": METADATA, "spec": spec, "status": object}
    return list(check(raw, shape, ""))


def check(value: Any, shape: Any, path: str) -> Iterator[str]:
    """Yields a warning for each unknown field below `path`. Raises `ValueError` for a wrong type."""
    if value is None or shape is object:
        return
    expected = type(shape) if isinstance(shape, dict | list) else shape
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        where = f"field {path}" if path else "the manifest"
        raise ValueError(f"{where} is {TYPE_NAMES[type(value)]}, expected {TYPE_NAMES[expected]}")
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from check(item, shape[0], f"{path}[{index}]")
    elif isinstance(value, dict):
        for name, member in value.items():
            member_path = f"{path}.{name}" if path else name
            if name in shape or "*" in shape:
                yield from check(member, shape.get(name, shape.get("*")), member_path)
            else:
                near = difflib.get_close_matches(name, shape, n=1)
                yield f"unknown field {member_path}" + (f", did you mean {near[0]}?" if near else "")
