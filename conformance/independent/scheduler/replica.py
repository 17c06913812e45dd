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
from violation import violates

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
NEVER = float("inf")


def retry_delay(failures: int) -> float:
    """Returns the delay before the next start after a number of successive failures."""
    if failures <= EARLY_RETRIES:
        delay = min(FIRST_RETRY_S * 2 ** (failures - 1), EARLY_RETRY_S)
    else:
        delay = min(EARLY_RETRY_S * 2 ** min(failures - EARLY_RETRIES, 10), MAX_RETRY_S)
    return float(delay) * random.uniform(0.9, 1.1)


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
    # Whether the replica was ready at any time.
    was_ready: bool = False
    # The store of an earlier process contained the replica.
    adopted: bool = False
    # The following fields only have an effect in a violation.
    overdue: bool = False
    revived: bool = False
    deleted: bool = False
    spared: bool = False
    ends: int = 0
    extra_starts: int = 0
    waiting_since: float | None = None
    waited_at_arrival: int = -1
    undelivered_id: str = ""

    @property
    def hash(self) -> str:
        return self.template.hash

    @property
    def current(self) -> Incarnation | None:
        return next((inc for inc in self.incarnations if inc.wanted), None)

    @property
    def ready(self) -> bool:
        current = self.current
        if self.lost_and_waiting and violates("lost-and-waiting-still-shown-ready"):
            return True
        return current is not None and current.ready and not self.retiring

    @property
    def starting(self) -> bool:
        current = self.current
        return current is not None and current.state == "STARTING"

    @property
    def lost_and_waiting(self) -> bool:
        """Returns whether a replica that was ready has lost its host and fits no other."""
        return self.was_ready and self.current is None and bool(self.waiting)

    @property
    def completed(self) -> bool:
        current = self.current
        return current is not None and current.state == "COMPLETED"

    def may_send_start(self, now: float) -> bool:
        """Returns whether one more start keeps the limit on starts."""
        while self.starts and now - self.starts[0] > STARTS_WINDOW_S:
            self.starts.popleft()
        unlimited = violates("each-heartbeat-resets-backoff")
        if unlimited or violates("running-reply-resets-backoff"):
            return True
        return len(self.starts) < MAX_STARTS

    def may_restart(self, hosts: Mapping[str, Host], fenced: bool, now: float) -> bool:
        """Returns whether no earlier incarnation forbids a new one."""
        return (not self.retiring or self.revived) and all(
            released(inc, hosts, fenced, now) for inc in self.incarnations
        )

    def observe(self, now: float, wall_time: float) -> bool:
        """Reacts to the state of the current incarnation; returns whether its id was given up."""
        current = self.current
        if now >= self.not_before:
            self.release_held()
        self.overdue = wall_time - self.created > 10.0
        if current is None:
            return False
        self.was_ready = self.was_ready or current.ready
        if current.state == "STARTING" and current.running_since is not None:
            restarts = violates("starting-after-running-restarts")
            if restarts:
                current.ended = True
                self._fail(current, now)
                return True
        if current.state == "STOPPING" and violates("stopping-status-starts-replacement"):
            current.ended = True
        if current.state == "RUNNING":
            self.failed_hosts.clear()
            if violates("running-reply-resets-backoff"):
                self.failures = 0
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
        if not (self.failure and violates("first-failure-message-kept")):
            self.failure = f"host {current.host}: {self.template.redact(reason)}"
        self.failed_hosts[current.host] += 1
        if current.undelivered:
            self.undelivered_id = current.id
            self.not_before = now
            return
        ran = current.running_since is not None
        if ran and now - (current.running_since or now) >= RECOVERED_S:
            self.failures = 0
        self.failures += 1
        immediate = (ran and self.failures == 1) or current.retry_at_once
        self.not_before = now if immediate else now + retry_delay(self.failures)
        self._fail_in_violation(current, ran, now)

    def _fail_in_violation(self, current: Incarnation, ran: bool, now: float) -> None:
        if ran:
            self.ends += 1
            if self.ends >= 2 and violates("second-failure-not-restarted"):
                self.not_before = NEVER
        elif current.state == "ERROR":
            if self.failures >= 3 and violates("gives-up-after-three-refusals"):
                self.not_before = NEVER
            if current.refusal_code == "400" and violates("refusal-with-code-400-not-retried"):
                self.not_before = NEVER
            current.held = violates("refused-id-not-stopped-after-move")
        if current.state == "ERROR" and violates("delete-in-error-sends-no-stop"):
            current.held = True
            self.not_before = max(self.not_before, now + 1.0)

    def release_held(self, except_host: str | None = None) -> None:
        """Stops ids whose stop a violation has delayed; forgets those on other hosts."""
        for inc in self.incarnations:
            if not inc.held:
                continue
            if violates("delete-in-error-sends-no-stop"):
                inc.held = False
                inc.gone = self.retiring
            elif except_host is not None:
                inc.held = False
                inc.gone = inc.host != except_host

    def retire(self, now: float, deleted: bool) -> None:
        """Stops all incarnations, and starts no other."""
        self.retiring, self.deleted = True, deleted
        if self.failures and now < self.not_before and self.not_before != NEVER:
            if deleted:
                self.revived = violates("pending-retry-starts-deleted-workload")
            else:
                self.revived = violates("retry-of-bad-template-survives")
        for inc in self.incarnations:
            if inc.held and violates("delete-in-error-sends-no-stop"):
                inc.gone = True
            inc.held = False
            inc.wanted = False

    def lose_host(self, host_id: str, now: float) -> None:
        """Gives up the ids on a lost host, except for completed workloads."""
        for inc in self.incarnations:
            if inc.host != host_id or inc.gone:
                continue
            if inc.state == "COMPLETED" and not violates("completed-restarted-on-host-loss"):
                continue
            if self.deleted and violates("host-loss-starts-deleted-workload"):
                self.revived, self.not_before = True, now
            inc.abandon()
            if inc.wanted:
                inc.wanted = False
                self.failure = f"host {host_id} is lost"
                self.not_before = now


def released(inc: Incarnation, hosts: Mapping[str, Host], fenced: bool, now: float) -> bool:
    """Returns whether the workload of an incarnation may be started under another id."""
    if inc.gone or inc.held:
        return True
    host = hosts.get(inc.host)
    if host is None:
        return True
    if host.lost:
        return not fenced or _fence_has_passed(host, now)
    if inc.given_up:
        return not fenced
    if inc.state == "STOPPING" and inc.stops and violates("change-starts-before-old-id-is-gone"):
        return True
    return inc.ended and inc.stops > 0


def _fence_has_passed(host: Host, now: float) -> bool:
    if not host.was_silent and violates("no-fence-when-process-ends"):
        return True
    if violates("fence-counts-from-last-heartbeat"):
        return now - host.last_heartbeat >= FENCE_S
    return now - host.last_sign >= FENCE_S
