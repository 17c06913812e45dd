"""The known hosts, and the decision that a host is lost."""

from __future__ import annotations

from dataclasses import dataclass

from codec import HOST_ID, Heartbeat

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
    lost: bool = False
    # Signs since the connection to the broker exists.
    seen: bool = False
    # Time of the first `no responders` since the last sign.
    unreachable_since: float | None = None
    # Time of the oldest request since the last sign.
    waiting_since: float | None = None
    next_probe: float = 0.0

    @property
    def id(self) -> str:
        return self.heartbeat.id


class Fleet:
    """Holds all hosts by id; time is an argument of every method."""

    def __init__(self) -> None:
        self.hosts: dict[str, Host] = {}
        self.settled_at = float("inf")
        self.reconnected = False
        self.evaluated_at = 0.0

    def connect(self, now: float, again: bool) -> None:
        """Starts the time in which missing hosts prove nothing."""
        self.settled_at = now + SETTLE_S
        self.reconnected = again
        self._discard_evidence(now)
        for host in self.hosts.values():
            host.seen = False

    def disconnect(self) -> None:
        self.settled_at = float("inf")

    def _discard_evidence(self, now: float) -> None:
        for host in self.hosts.values():
            host.unreachable_since = host.waiting_since = None
            host.last_sign = max(host.last_sign, now) if not host.lost else host.last_sign

    def heartbeat(self, subject_id: str, heartbeat: Heartbeat, now: float) -> str:
        """Records a heartbeat and returns `ignored`, `new`, `restarted`, `returned` or `known`."""
        if heartbeat.id != subject_id or not HOST_ID.fullmatch(heartbeat.id):
            return "ignored"
        host = self.hosts.get(heartbeat.id)
        if host is None:
            if len(self.hosts) >= MAX_HOSTS:
                return "ignored"
            self.hosts[heartbeat.id] = Host(heartbeat, now, seen=True)
            return "new"
        restarted = host.heartbeat.process != heartbeat.process
        returned = host.lost
        host.heartbeat, host.lost = heartbeat, False
        self.sign(heartbeat.id, now)
        return "restarted" if restarted else "returned" if returned else "known"

    def sign(self, host_id: str, now: float) -> None:
        """Records a heartbeat or a reply; only a heartbeat brings a lost host back."""
        host = self.hosts.get(host_id)
        if host is not None and not host.lost:
            host.last_sign, host.seen = now, True
            host.unreachable_since = host.waiting_since = None

    def request(self, host_id: str, now: float) -> None:
        host = self.hosts.get(host_id)
        if host is not None and host.waiting_since is None:
            host.waiting_since = now

    def no_responders(self, host_id: str, now: float) -> None:
        host = self.hosts.get(host_id)
        if host is not None and self._settled(host, now) and host.unreachable_since is None:
            host.unreachable_since = now

    def _settled(self, host: Host, now: float) -> bool:
        return now >= self.settled_at or (host.seen and not self.reconnected)

    def due_probes(self, now: float) -> list[str]:
        """Returns the hosts to probe now."""
        due = [host for host in self.hosts.values() if not host.lost and now >= host.next_probe]
        for host in due:
            suspect = host.unreachable_since is not None
            host.next_probe = now + (PROBE_INTERVAL_S / 2 if suspect else PROBE_INTERVAL_S)
        return [host.id for host in due]

    def evaluate(self, busy: set[str], now: float) -> list[Host]:
        """Returns the hosts that are lost from now on; `busy` hosts have a recent unanswered start."""
        stalled, self.evaluated_at = now - self.evaluated_at > STALL_S, now
        if stalled:
            self._discard_evidence(now)
        present = [host for host in self.hosts.values() if not host.lost]
        missing = sum(host.unreachable_since is not None for host in present)
        mass = len(present) >= MASS_MINIMUM and missing >= MASS_SHARE * len(present)
        patience = MASS_UNREACHABLE_S if mass else UNREACHABLE_S
        lost = []
        for host in present:
            since = host.unreachable_since
            gone = since is not None and now - since >= patience
            if (gone or self._silent(host, busy, now)) and self._settled(host, now):
                host.lost = True
                lost.append(host)
        return lost

    def _silent(self, host: Host, busy: set[str], now: float) -> bool:
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
