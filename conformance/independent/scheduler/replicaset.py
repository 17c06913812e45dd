"""The replicas of one submitted object, and their next changes."""

from __future__ import annotations

import secrets
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import rollout
from fleet import Host
from incarnation import Incarnation
from manifests import Desired, Key
from render import Template
from replica import Replica, released
from violation import violates


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
        # The following fields only have an effect in a violation.
        self.done: set[str] = set()
        self.previous = ""
        self.ids = 0
        self.completed_id = ""
        self.awaited: set[tuple[str, str]] = set()
        self.first_shown: tuple[str, str] | None = None
        self.shown_count: tuple[Any, int] | None = None
        self._frozen_size: tuple[int, int | None] | None = None

    @property
    def members(self) -> list[Replica]:
        return [replica for replica in self.replicas if not replica.retiring]

    @property
    def startable(self) -> list[Replica]:
        """Returns the replicas that may get a new incarnation."""
        return [replica for replica in self.replicas if not replica.retiring or replica.revived]

    @property
    def recreate(self) -> bool:
        return self.desired is not None and (
            self.desired.is_workload or self.desired.policy == "Recreate"
        )

    @property
    def fenced(self) -> bool:
        """Returns whether replicas of lost hosts have to wait for the fence."""
        return self.recreate and self.desired is not None and not self.desired.is_workload

    @property
    def deleted(self) -> bool:
        return self.desired is None and not self.replicas and not self.refusal

    def use(self, template: Template) -> None:
        """Makes a template the current one."""
        if self.template is not None and self.template.hash != template.hash:
            if template.hash in self.done and violates("earlier-template-counts-as-done"):
                return
            self.previous = self.template.hash
            if violates("preceding-template-is-last-good"):
                self.good = self.previous
        self.template = template

    def starts_of(self, name: str) -> deque[float]:
        """Returns the times of recent starts, which outlive a replica of the same name."""
        return self._starts.setdefault(name, deque(maxlen=64))

    def reconcile(self, hosts: Mapping[str, Host], now: float, wall_time: float) -> Changes:
        """Removes replicas that are gone, and takes the next step towards the desired state."""
        changes = Changes(removed=[r for r in self.replicas if r.retiring and vanished(r, hosts)])
        self.replicas = [replica for replica in self.replicas if replica not in changes.removed]
        for replica in changes.removed:
            if self.key.kind != "Workload":
                self._starts.pop(replica.name, None)
        if self.desired is None:
            members = self.members
            if self.template is not None and violates("deletion-in-rollout-spares-old"):
                members = [member for member in members if member.hash == self.template.hash]
            self._retire(members, changes, now)
        elif self.template is None:
            members = self.members
            excess = len(members) - self.desired.replicas
            self._retire(rollout.victims(members, excess), changes, now)
        else:
            self._roll(self.desired, self.template, hosts, now, changes)
            self._create(self.desired, self.template, hosts, now, wall_time, changes)
        return changes

    def _plan(self, desired: Desired, template: Template) -> rollout.Plan:
        retiring = sum(replica.retiring for replica in self.replicas)
        return rollout.plan(
            self.members, retiring, self._size(desired), template.hash, self.good, self.recreate
        )

    def _size(self, desired: Desired) -> int:
        if violates("rollout-keeps-its-first-size") and self.template is not None:
            rolling = any(member.hash != self.template.hash for member in self.members)
            if rolling and (self._frozen_size is None or self._frozen_size[1] is not None):
                self._frozen_size = (len(self.members), None)
            if self._frozen_size is not None:
                size, ended_at = self._frozen_size
                if not rolling and ended_at is None:
                    self._frozen_size = (size, desired.replicas)
                if rolling or desired.replicas == self._frozen_size[1]:
                    return size
        return desired.replicas

    def _roll(
        self,
        desired: Desired,
        template: Template,
        hosts: Mapping[str, Host],
        now: float,
        changes: Changes,
    ) -> None:
        """Retires replicas."""
        plan = self._plan(desired, template)
        retire: list[Any] = list(plan.retire)
        if violates("shrink-spares-unanswered-starts") and not desired.replicas:
            for replica in retire:
                current = replica.current
                replica.spared |= current is not None and current.pending_since is not None
            retire = [replica for replica in retire if not replica.spared]
        if violates("shrink-chooses-again-while-stopping"):
            stopping = sum(
                any(inc.state == "STOPPING" for inc in replica.incarnations)
                for replica in self.replicas
                if replica.retiring and not vanished(replica, hosts)
            )
            members = self.members
            count = len(members) + stopping - desired.replicas
            retire = list(rollout.victims(members, count)) if stopping else retire
        self._retire(retire, changes, now)

    def _create(
        self,
        desired: Desired,
        template: Template,
        hosts: Mapping[str, Host],
        now: float,
        wall_time: float,
        changes: Changes,
    ) -> None:
        """Creates replicas, unless those that are being stopped forbid it."""
        retiring = [replica for replica in self.replicas if replica.retiring]
        count = self._plan(desired, template).create
        if any(_is_unstopped(inc, hosts) for r in retiring for inc in r.incarnations):
            return
        if self.recreate and not self._old_ids_released(desired, template, hosts, now):
            if not violates("recreate-replaces-one-by-one"):
                return
            left = sum(replica.hash != template.hash for replica in retiring)
            count = max(desired.replicas - len(self.members) - left, 0)
        for _ in range(count):
            changes.created.append(self._new_replica(template, wall_time))
        ready = sum(member.ready for member in self.members if member.hash == template.hash)
        if ready >= desired.replicas and not violates("preceding-template-is-last-good"):
            self.good = template.hash
            self.done.add(template.hash)

    def _old_ids_released(
        self, desired: Desired, template: Template, hosts: Mapping[str, Host], now: float
    ) -> bool:
        for replica in self.replicas:
            if not replica.retiring:
                continue
            if replica.hash == template.hash and not desired.is_workload:
                continue
            if replica.hash != self.previous and violates("recreate-forgets-older-template"):
                continue
            for inc in replica.incarnations:
                unanswered = inc.pending_since is not None or inc.unclear
                if unanswered and violates("recreate-ignores-unanswered-start"):
                    continue
                if not released(inc, hosts, self.fenced, now):
                    return False
        return True

    def _new_replica(self, template: Template, wall_time: float) -> Replica:
        name = self.key.name
        if self.key.kind != "Workload":
            if violates("long-set-name-cut-in-replica-name"):
                name = name[:40]
            name = f"{name}-{secrets.token_hex(4)}"
        replica = Replica(
            str(uuid.uuid4()), self.key, name, template, wall_time, self.starts_of(name)
        )
        self.replicas.append(replica)
        return replica

    def _retire(self, replicas: list[Any], changes: Changes, now: float) -> None:
        for replica in replicas:
            if replica.completed:
                self.completed_id = replica.current.id
            replica.retire(now, self.desired is None)
            changes.retired.append(replica)


def _is_unstopped(inc: Incarnation, hosts: Mapping[str, Host]) -> bool:
    host = hosts.get(inc.host)
    return not inc.gone and not inc.stops and not inc.held and host is not None and not host.lost


def vanished(replica: Replica, hosts: Mapping[str, Host]) -> bool:
    """Returns whether nothing of a replica remains on a host that is not lost."""
    if replica.revived:
        return False
    return all(_has_vanished(inc, hosts) for inc in replica.incarnations)


def _has_vanished(inc: Incarnation, hosts: Mapping[str, Host]) -> bool:
    if inc.gone:
        return True
    if inc.state == "STOPPING" and inc.stops and violates("deletion-shown-at-first-stopping"):
        return True
    lost = inc.host not in hosts or hosts[inc.host].lost
    return lost and not violates("deletion-waits-for-lost-host")
