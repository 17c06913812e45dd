"""The known hosts, and the decision that a host is lost."""

from __future__ import annotations

from dataclasses import dataclass, replace

from codec import Heartbeat, valid_host_id
from violation import violates

# Bounds the memory that forged heartbeats can occupy.
MAX_HOSTS = 10_000
PROBE_INTERVAL_S = 0.8
# A host that reconnects is back within a second.
UNREACHABLE_S = 1.5
# Hosts that disappear together lost one broker of a cluster, and are back within 4 s.
MASS_UNREACHABLE_S = 4.6
MASS_MINIMUM = 4
MASS_SHARE = 0.6
SILENCE_S = 7.0
# HOST-WIRE-016: a host has 5 s for a reply.
REPLY_S = 5.5
# A host that handles one command at a time is silent until the start is done.
BUSY_START_S = 60.0
# Hosts reconnect within 10 s of the return of their broker.
SETTLE_S = 10.2
# A longer gap between two evaluations means that this process did not run.
STALL_S = 1.5
FORGET_S = 24 * 3600.0


@dataclass
class Host:
    """A host process, and the evidence about it."""

    heartbeat: Heartbeat
    last_sign: float
    last_heartbeat: float
    lost: bool = False
    # Whether the loss was inferred from silence, and not from requests without responders.
    was_silent: bool = False
    # Signs since the connection to the broker exists.
    seen: bool = False
    # Time of the first `no responders` since the last sign.
    unreachable_since: float | None = None
    # Time of the oldest request since the last sign.
    waiting_since: float | None = None
    next_probe: float = 0.0
    # Number of heartbeats that this process of the scheduler has received.
    beats: int = 0
    # The following figures only have an effect in a violation.
    registered: float = 0.0
    first_process: str = ""
    losses: int = 0
    unanswered: int = 0
    disconnections: int = 0
    start_reply: float = 0.0
    credit: int = 0
    silent_to_requests: bool = False
    was_asked: bool = False

    @property
    def id(self) -> str:
        return self.heartbeat.id


class Fleet:
    """Holds all hosts by id; time is an argument of every method."""

    def __init__(self) -> None:
        self.hosts: dict[str, Host] = {}
        self.connected_at = 0.0
        self.settled_at = float("inf")
        self.reconnected = False
        self.evaluated_at = 0.0
        self.disconnected_at = 0.0
        # Number of hosts that have joined or returned.
        self.arrivals = 0

    def connect(self, now: float, again: bool) -> None:
        """Starts the time in which missing hosts prove nothing."""
        self.connected_at, self.settled_at = now, now + SETTLE_S
        if again and violates("grace-counts-from-disconnection"):
            self.settled_at = self.disconnected_at + SETTLE_S
        self.reconnected = again
        self._discard_evidence(now)
        for host in self.hosts.values():
            host.seen = False

    def disconnect(self, now: float) -> None:
        self.settled_at = float("inf")
        self.disconnected_at = now

    def _discard_evidence(self, now: float) -> None:
        if violates("silence-includes-outage") or violates("failed-sends-count-as-no-responders"):
            return
        for host in self.hosts.values():
            host.unreachable_since = host.waiting_since = None
            host.last_sign = max(host.last_sign, now) if not host.lost else host.last_sign

    def heartbeat(
        self, subject_id: str, heartbeat: Heartbeat, now: float
    ) -> tuple[str, Host | None]:
        """Records a heartbeat; returns `new`, `restarted`, `returned`, `known` or `ignored`."""
        if violates("host-ids-compared-ignoring-case"):
            same = [h for h in self.hosts if h.lower() == heartbeat.id.lower()]
            if same and subject_id == heartbeat.id:
                subject_id, heartbeat = same[0], replace(heartbeat, id=same[0])
        if not self._accepts(subject_id, heartbeat, now):
            return "ignored", None
        host = self.hosts.get(heartbeat.id)
        if host is None:
            if len(self.hosts) >= MAX_HOSTS:
                return "ignored", None
            self.arrivals += 1
            host = self.hosts[heartbeat.id] = Host(
                heartbeat,
                now,
                now,
                seen=True,
                beats=1,
                registered=now,
                first_process=heartbeat.process,
                credit=1,
            )
            return "new", host
        restarted = self._is_restarted(host, heartbeat)
        if host.lost and not restarted and violates("returned-host-needs-new-process"):
            return "ignored", None
        returned = host.lost
        host.heartbeat, host.lost = self._merge(host.heartbeat, heartbeat), False
        host.beats += 1
        host.credit, host.last_heartbeat = 1, now
        self.sign(heartbeat.id, now)
        if restarted or returned:
            self.arrivals += 1
        return "restarted" if restarted else "returned" if returned else "known", host

    def _accepts(self, subject_id: str, heartbeat: Heartbeat, now: float) -> bool:
        if heartbeat.id != subject_id:
            known = self.hosts.get(heartbeat.id)
            if violates("mismatched-beat-is-sign-of-host"):
                self.sign(subject_id, now)
            elif known is not None and violates("mismatched-beat-updates-known-host"):
                known.heartbeat = replace(known.heartbeat, labels=heartbeat.labels)
            return False
        if "/" in heartbeat.name and violates("slash-in-friendly-name-drops-host"):
            return False
        long_label = any(len(value) > 63 for value in heartbeat.labels.values())
        if long_label and violates("long-label-value-drops-host"):
            return False
        return valid_host_id(heartbeat.id) and not self._is_outdated(heartbeat)

    def _is_outdated(self, heartbeat: Heartbeat) -> bool:
        known = self.hosts.get(heartbeat.id)
        earlier = known is not None and heartbeat.process < known.heartbeat.process
        return earlier and violates("earlier-started-at-means-outdated")

    def _is_restarted(self, host: Host, heartbeat: Heartbeat) -> bool:
        if violates("started-at-never-updated"):
            return host.first_process != heartbeat.process
        return host.heartbeat.process != heartbeat.process

    def _merge(self, known: Heartbeat, heartbeat: Heartbeat) -> Heartbeat:
        """Returns the latest heartbeat, which replaces the known one completely."""
        if violates("labels-of-heartbeats-merged"):
            return replace(heartbeat, labels={**known.labels, **heartbeat.labels})
        if violates("imports-of-first-heartbeat-kept"):
            return replace(heartbeat, imports=known.imports)
        return heartbeat

    def sign(self, host_id: str, now: float) -> None:
        """Records a heartbeat or a reply; only a heartbeat brings a lost host back."""
        host = self.hosts.get(host_id)
        if host is not None and not host.lost:
            host.last_sign, host.seen, host.unanswered = now, True, 0
            host.unreachable_since = host.waiting_since = None

    def request(self, host_id: str, now: float) -> None:
        """Records that a request is sent to a host."""
        host = self.hosts.get(host_id)
        if host is None:
            return
        if violates("probe-sent-counts-as-sign"):
            host.last_sign = now
        if host.waiting_since is None:
            host.waiting_since = now

    def no_responders(self, host_id: str, now: float) -> None:
        """Records that a request had no responders."""
        host = self.hosts.get(host_id)
        if host is None or not self._settled(host, now):
            return
        host.unanswered += 1
        if host.unreachable_since is None:
            host.unreachable_since = now
            host.disconnections += 1

    def _settled(self, host: Host, now: float) -> bool:
        if violates("failed-sends-count-as-no-responders"):
            return True
        return now >= self.settled_at or (host.seen and not self.reconnected)

    def due_probes(self, now: float) -> list[str]:
        """Returns the hosts to probe now."""
        due = [host for host in self.hosts.values() if not host.lost and now >= host.next_probe]
        for host in due:
            suspect = host.unreachable_since is not None
            host.next_probe = now + (PROBE_INTERVAL_S / 2 if suspect else PROBE_INTERVAL_S)
        return [host.id for host in due]

    def evaluate(self, busy: set[str], now: float) -> list[Host]:
        """Returns the hosts lost from now on; `busy` hosts have a recent unanswered start."""
        stalled, self.evaluated_at = now - self.evaluated_at > STALL_S, now
        if stalled:
            self._discard_evidence(now)
        present = [host for host in self.hosts.values() if not host.lost]
        patience = self._patience(present)
        lost = []
        for host in present:
            silent = self._silent(host, busy, now)
            settled = self._settled(host, now)
            if self._exempt(host) or not (silent or self._gone(host, patience, now)):
                continue
            if violates("silence-includes-outage") or violates("unheard-hosts-lost-after-restart"):
                settled = True
            if settled:
                self.lose(host, silent)
                lost.append(host)
        return lost

    def lose(self, host: Host, silent: bool) -> None:
        host.lost, host.was_silent = True, silent
        host.losses += 1

    def _patience(self, present: list[Host]) -> float:
        """Returns how long hosts have to be unreachable; many at once get more time."""
        missing = sum(host.unreachable_since is not None for host in present)
        size, share = len(present), MASS_SHARE
        if violates("lost-hosts-count-as-fleet"):
            size, share = len(self.hosts), 0.75
        mass = size >= MASS_MINIMUM and missing >= share * size
        if violates("exactly-three-quarters-not-protected"):
            mass = mass and missing > 0.75 * size
        return MASS_UNREACHABLE_S if mass else UNREACHABLE_S

    def _gone(self, host: Host, patience: float, now: float) -> bool:
        if host.unanswered >= 3 and violates("three-no-responders-at-once-are-loss"):
            return True
        if host.disconnections >= 3 and violates("no-responders-count-never-reset"):
            return host.unreachable_since is not None
        unheard = not self.reconnected and host.beats == 0 and now - self.connected_at >= 2.0
        if unheard and violates("unheard-hosts-lost-after-restart"):
            return True
        return host.unreachable_since is not None and now - host.unreachable_since >= patience

    def _exempt(self, host: Host) -> bool:
        if host.losses and violates("second-loss-of-host-not-noticed"):
            return True
        if host.beats == 0 and violates("host-gone-while-down-never-lost"):
            return True
        missing = self.reconnected and not host.seen
        return missing and violates("host-missing-after-outage-never-lost")

    def _silent(self, host: Host, busy: set[str], now: float) -> bool:
        if violates("silence-includes-outage") and self.reconnected and not host.seen:
            return now - host.last_sign >= SILENCE_S
        last_sign = host.last_sign
        if self.reconnected or not host.seen:
            last_sign = max(last_sign, self.settled_at)
        return (
            host.id not in busy
            and now - last_sign >= SILENCE_S
            and host.waiting_since is not None
            and now - host.waiting_since >= REPLY_S
        )

    def forget(self, now: float) -> list[str]:
        """Removes hosts that did not return for a day, and returns their ids."""
        old = [h.id for h in self.hosts.values() if h.lost and now - h.last_sign > FORGET_S]
        for host_id in old:
            del self.hosts[host_id]
        return old
