"""The replicas of one submitted object, and the state that is shown for it."""

from __future__ import annotations

import secrets
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import rollout
from fleet import Host
from manifests import Desired, Key
from render import Template
from replica import Replica, released


@dataclass
class Changes:
    """Replicas that one reconciliation has created, retired and removed."""

    created: list[Replica] = field(default_factory=list)
    retired: list[Replica] = field(default_factory=list)
    removed: list[Replica] = field(default_factory=list)


class ReplicaSet:
    """A workload, a set or a deployment with its replicas."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.desired: Desired | None = None
        self.manifest: dict[str, Any] = {}
        self.template: Template | None = None
        # Hash of the last good template.
        self.good = ""
        self.replicas: list[Replica] = []
        self.refusal = ""
        self.missing = ""
        self._starts: dict[str, deque[float]] = {}

    @property
    def members(self) -> list[Replica]:
        return [replica for replica in self.replicas if not replica.retiring]

    @property
    def recreate(self) -> bool:
        return self.desired is not None and (
            self.desired.is_workload or self.desired.policy == "Recreate"
        )

    @property
    def fenced(self) -> bool:
        """Returns whether replicas of lost hosts have to wait for the fence."""
        return self.recreate and self.desired is not None and not self.desired.is_workload

    def starts_of(self, name: str) -> deque[float]:
        """Returns the times of recent starts, which outlive a replica of the same name."""
        return self._starts.setdefault(name, deque(maxlen=64))

    def reconcile(self, hosts: Mapping[str, Host], now: float, created_at: float) -> Changes:
        """Removes replicas that are gone, and takes the next step towards the desired state."""
        changes = Changes(removed=[r for r in self.replicas if r.retiring and vanished(r, hosts)])
        self.replicas = [replica for replica in self.replicas if replica not in changes.removed]
        for replica in changes.removed:
            if self.desired is None or not self.desired.is_workload:
                self._starts.pop(replica.name, None)
        if self.desired is None:
            self._retire(self.members, changes)
            return changes
        if self.template is None:
            members = self.members
            excess = len(members) - self.desired.replicas
            self._retire(rollout.victims(members, excess), changes)
            return changes
        self._roll(self.desired, self.template, hosts, now, created_at, changes)
        return changes

    def _roll(
        self,
        desired: Desired,
        template: Template,
        hosts: Mapping[str, Host],
        now: float,
        created_at: float,
        changes: Changes,
    ) -> None:
        retiring = [replica for replica in self.replicas if replica.retiring]
        plan = rollout.plan(
            self.members, len(retiring), desired.replicas, template.hash, self.good, self.recreate
        )
        self._retire(plan.retire, changes)
        blocked = self.recreate and not all(
            released(inc, hosts, self.fenced, now)
            for replica in retiring
            if replica.hash != template.hash or desired.is_workload
            for inc in replica.incarnations
        )
        unstopped = sum(not inc.stops and not inc.gone for r in retiring for inc in r.incarnations)
        if blocked or (unstopped and not changes.retired):
            return
        for _ in range(plan.create):
            replica = self._create(template, created_at)
            changes.created.append(replica)
        ready = sum(member.ready for member in self.members if member.hash == template.hash)
        if ready >= desired.replicas:
            self.good = template.hash

    def _create(self, template: Template, created_at: float) -> Replica:
        name = self.key.name
        if self.key.kind != "Workload":
            name = f"{name}-{secrets.token_hex(4)}"
        replica = Replica(
            str(uuid.uuid4()), self.key, name, template, created_at, self.starts_of(name)
        )
        self.replicas.append(replica)
        return replica

    def _retire(self, replicas: list[Any], changes: Changes) -> None:
        for replica in replicas:
            replica.retiring = True
            for inc in replica.incarnations:
                inc.wanted = False
            changes.retired.append(replica)

    @property
    def deleted(self) -> bool:
        return self.desired is None and not self.replicas and not self.refusal


def vanished(replica: Replica, hosts: Mapping[str, Host]) -> bool:
    """Returns whether nothing of a replica remains on a host that is not lost."""
    return all(
        inc.gone or inc.host not in hosts or hosts[inc.host].lost for inc in replica.incarnations
    )
