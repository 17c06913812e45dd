"""One replica of a set, with its incarnations and the delay before its next start."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet import Host
from incarnation import Incarnation
from manifests import Key
from render import Template

# A workload may be started 10 times in any 30 s; two starts remain as a reserve.
MAX_STARTS = 8
STARTS_WINDOW_S = 30.5
# Retries stay below the declared `retry` at first, and end at two minutes.
FIRST_RETRY_S = 1.0
EARLY_RETRIES = 6
EARLY_RETRY_S = 8.0
MAX_RETRY_S = 120.0
# A workload that ran for this time has recovered from its earlier failures.
RECOVERED_S = 60.0
# A replica of a lost host that must not overlap is replaced after this time.
FENCE_S = 11.2


def retry_delay(failures: int) -> float:
    """Returns the delay before the next start after a number of successive failures."""
    if failures <= EARLY_RETRIES:
        delay = min(FIRST_RETRY_S * 2 ** (failures - 1), EARLY_RETRY_S)
    else:
        delay = min(EARLY_RETRY_S * 2 ** min(failures - EARLY_RETRIES, 10), MAX_RETRY_S)
    return delay * random.uniform(0.9, 1.1)


@dataclass(eq=False)
class Replica:
    """A workload of a set; a single workload is a set with one replica."""

    uid: str
    key: Key
    name: str
    template: Template
    created: float
    starts: deque[float]
    retiring: bool = False
    incarnations: list[Incarnation] = field(default_factory=list)
    failures: int = 0
    not_before: float = 0.0
    # Reason for the last failure, or for the wait for a host.
    failure: str = ""
    waiting: str = ""
    failed_hosts: Counter[str] = field(default_factory=Counter)

    @property
    def hash(self) -> str:
        return self.template.hash

    @property
    def current(self) -> Incarnation | None:
        return next((inc for inc in self.incarnations if inc.wanted), None)

    @property
    def ready(self) -> bool:
        current = self.current
        return current is not None and current.ready and not self.retiring

    @property
    def completed(self) -> bool:
        current = self.current
        return current is not None and current.state == "COMPLETED"

    def may_send_start(self, now: float) -> bool:
        """Returns whether one more start keeps the limit on starts."""
        while self.starts and now - self.starts[0] > STARTS_WINDOW_S:
            self.starts.popleft()
        return len(self.starts) < MAX_STARTS

    def may_restart(self, hosts: Mapping[str, Host], fenced: bool, now: float) -> bool:
        """Returns whether no earlier incarnation forbids a new one."""
        return not self.retiring and all(
            released(inc, hosts, fenced, now) for inc in self.incarnations
        )

    def observe(self, now: float) -> bool:
        """Reacts to the state of the current incarnation; returns whether its id was given up."""
        current = self.current
        if current is None:
            return False
        if current.state == "RUNNING":
            self.failed_hosts.clear()
            if now - (current.running_since or now) >= RECOVERED_S:
                self.failures, self.failure = 0, ""
        if current.abandoned(now):
            current.message = "the workload was starting for too long"
        elif not current.ended or current.state == "COMPLETED":
            return False
        self._fail(current, now)
        return True

    def _fail(self, current: Incarnation, now: float) -> None:
        current.wanted = False
        reason = current.message or f"the workload is {current.state.lower() or 'gone'}"
        self.failure = f"host {current.host}: {self.template.redact(reason)}"
        self.failed_hosts[current.host] += 1
        if current.undelivered:
            self.not_before = now
            return
        ran = current.running_since is not None
        if ran and now - (current.running_since or now) >= RECOVERED_S:
            self.failures = 0
        self.failures += 1
        immediate = ran and self.failures == 1
        self.not_before = now if immediate else now + retry_delay(self.failures)

    def lose_host(self, host_id: str, now: float) -> None:
        """Gives up the ids on a lost host, except for completed workloads."""
        for inc in self.incarnations:
            if inc.host == host_id and not inc.gone and inc.state != "COMPLETED":
                inc.abandon()
                if inc.wanted:
                    inc.wanted = False
                    self.failure = f"host {host_id} is lost"
                    self.not_before = now


def released(inc: Incarnation, hosts: Mapping[str, Host], fenced: bool, now: float) -> bool:
    """Returns whether the workload of an incarnation may be started under another id."""
    if inc.gone:
        return True
    host = hosts.get(inc.host)
    if host is None:
        return True
    if host.lost:
        return not fenced or now - host.last_sign >= FENCE_S
    if inc.given_up:
        return not fenced
    return inc.ended and inc.stops > 0
