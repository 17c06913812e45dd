"""The ids of incarnations, and the host ids that workloads name."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any

from fleet import Host
from manifests import Key
from replica import Replica
from replicaset import ReplicaSet
from violation import violates

PROCESS = uuid.uuid4().hex[:12]


def new_id(replica_set: ReplicaSet, replica: Replica, host: Host) -> str:
    """Returns the id of a new incarnation of a replica on a host, which is never used again."""
    replica_set.ids += 1
    number = replica_set.ids
    if violates("id-counter-restarts-with-process"):
        return f"{replica.key.namespace}-{replica.name}-{number}"
    if violates("id-from-manifest-digest"):
        text = json.dumps(replica_set.manifest, sort_keys=True)
        return f"{hashlib.sha256(text.encode()).hexdigest()[:32]}-{number}"
    if violates("id-omits-namespace"):
        return f"{replica.name}-{PROCESS}-{number}"
    if violates("id-longer-than-256-bytes"):
        return f"{replica.key.namespace}-{replica.name}-{uuid.uuid4()}"
    if violates("id-from-set-and-host"):
        return f"{replica.key.name}-{host.id}"
    if replica_set.completed_id and violates("changed-completed-workload-keeps-id"):
        return replica_set.completed_id
    if replica.undelivered_id and violates("no-responders-keeps-id-on-other-host"):
        return replica.undelivered_id
    return str(uuid.uuid4())


def named_hosts(objects: Mapping[Key, dict[str, Any]]) -> set[str]:
    """Returns the host ids in manifests, whether they are valid or not."""
    names = set()
    for manifest in objects.values():
        spec = manifest.get("spec")
        template = spec.get("template") if isinstance(spec, dict) else None
        inner = template.get("spec") if isinstance(template, dict) else None
        for holder in (spec, inner):
            name = holder.get("hostId") if isinstance(holder, dict) else None
            if isinstance(name, str) and name:
                names.add(name)
    return names
