"""The times by which hosts are judged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class LivenessOptions:
    """The times by which hosts are judged, in seconds. The defaults fit hosts that beat every 15 s."""

    probe_interval_s: float = 0.5
    """How often a host is probed when the budget allows it."""
    probes_per_second: int = 400
    """The budget for the whole fleet."""
    deaf_probe_interval_s: float = 0.3
    """How soon a probe that found nobody is repeated."""
    deaf_for_s: float = 1.0
    """How long nobody must listen before a host is lost. Less would take a reconnect for a death."""
    deaf_times: int = 3
    """How often nobody must have listened in that time."""
    silent_probe_interval_s: float = 5.0
    """How soon a probe that was not answered at all is repeated. A busy host has to work off each of them."""
    suspect_after_s: float = 20.0
    """Silence after which a host is suspect: one heartbeat and its way."""
    lost_after_s: float = 35.0
    """Silence after which a host is lost, so that its workloads run elsewhere within 40 s. Not before the end
    of a start that it may be busy with."""
    settle_s: float = 12.0
    """How long after a connection was made, and after a crowd of hosts vanished at once, nothing is concluded.
    Hosts need to come back, too, and have 10 s (SCHED-CONT-003)."""
    mass_vanish_from: int = 3
    """How many hosts must seem gone at once before the broker can be suspected instead."""
    mass_vanish_share_percent: int = 25
    """And how large a part of the fleet they must be: safely less than what one broker of a cluster of three
    takes with it."""
    forget_after_s: float = 600.0
    """How long a lost host is remembered."""
