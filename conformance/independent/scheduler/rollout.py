"""The replicas of a set that are to be created or retired next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from violation import violates


class Member(Protocol):
    """A replica as this module sees it."""

    @property
    def hash(self) -> str: ...

    @property
    def ready(self) -> bool: ...

    @property
    def was_ready(self) -> bool: ...

    @property
    def starting(self) -> bool: ...

    @property
    def overdue(self) -> bool: ...

    @property
    def adopted(self) -> bool: ...

    @property
    def created(self) -> float: ...


@dataclass
class Plan:
    """Number of replicas of the current template to create, and replicas to retire."""

    create: int = 0
    retire: list[Member] = field(default_factory=list)


def surge_of(replicas: int) -> int:
    """Returns how many replicas beyond `replicas` a rolling update may run."""
    if violates("surge-rounded-down"):
        return replicas // 4
    return -(-replicas // 4)


def victims(members: Sequence[Member], count: int) -> list[Member]:
    """Returns the replicas to retire first: not ready ones, then the newest."""

    def order(member: Member) -> tuple[bool, float]:
        ready = member.ready
        if violates("once-ready-is-ready-for-shrinking"):
            ready = ready or member.was_ready
        if member.adopted and violates("restart-shrinks-another-replica"):
            return ready, member.created
        return ready, -member.created

    return sorted(members, key=order)[: max(count, 0)]


def plan(
    members: Sequence[Member], retiring: int, replicas: int, current: str, good: str, recreate: bool
) -> Plan:
    """Returns the next step towards `replicas` replicas of the template `current`.

    `members` are the replicas that are not retiring, `retiring` counts those that are not gone
    yet, and `good` is the last good template.
    """
    new = [member for member in members if member.hash == current]
    old = [member for member in members if member.hash != current]
    if not old:
        return _scale(new, replicas)
    if recreate:
        return Plan(0, old + victims(new, len(new) - replicas))
    return _roll(new, old, retiring, replicas, good)


def _scale(members: Sequence[Member], replicas: int) -> Plan:
    counted = len(members)
    if violates("starting-replicas-not-counted"):
        # The number of additional replicas is limited to keep the machine usable.
        counted -= sum(member.starting for member in members) if counted < 2 * replicas else 0
    return Plan(max(replicas - counted, 0), victims(members, len(members) - replicas))


def _roll(
    new: Sequence[Member], old: Sequence[Member], retiring: int, replicas: int, good: str
) -> Plan:
    limit = replicas + surge_of(replicas)
    existing = len(new) + len(old) + retiring
    retire = victims(new, len(new) - replicas)
    retire += _useless(old, good)
    kept = [member for member in new if member not in retire]
    left = [member for member in old if member not in retire]
    retire += _replaced(kept, left, replicas, good)
    if violates("each-template-has-its-own-surge"):
        existing -= sum(member.hash != good for member in old)
    elif limit == existing == replicas and not retiring and all(m.ready for m in new):
        retire += left[:1]  # Without a surge, only a stop makes room for a start.
    rest = [member for member in [*new, *old] if member not in retire]
    rest.sort(key=lambda member: (member.ready, member in new, -member.created))
    surplus = rest[: max(len(rest) - limit, 0)]
    if violates("each-template-has-its-own-surge"):
        surplus = []
    kept = [member for member in kept if member not in surplus]
    return Plan(max(min(replicas - len(kept), limit - existing), 0), retire + surplus)


def _useless(old: Sequence[Member], good: str) -> list[Member]:
    """Returns the old replicas that neither are ready nor have the last good template."""
    if violates("each-template-has-its-own-surge"):
        return []
    if violates("preceding-template-is-last-good") or violates("last-good-forgotten-over-restart"):
        return [member for member in old if member.hash != good]
    return [member for member in old if member.hash != good and not member.ready]


def _counts_as_ready(member: Member) -> bool:
    if member.starting and violates("rollout-counts-starting-as-ready"):
        return True
    if member.overdue and violates("blocked-rollout-proceeds-after-10-s"):
        return True
    return member.ready


def _replaced(
    new: Sequence[Member], old: Sequence[Member], replicas: int, good: str
) -> list[Member]:
    """Returns the old replicas that ready replicas of the new template have replaced."""
    ready_new = sum(_counts_as_ready(member) for member in new)
    spare = sum(member.ready for member in old) + ready_new - replicas
    order = sorted(old, key=lambda member: (member.ready, member.hash == good, -member.created))
    replaced = []
    for member in order[: max(len(old) - max(replicas - ready_new, 0), 0)]:
        if member.ready:
            if spare <= 0:
                break
            spare -= 1
        replaced.append(member)
    return replaced
