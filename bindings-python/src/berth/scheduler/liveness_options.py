"""Options for detecting lost hosts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class LivenessOptions:
    """Options for detecting lost hosts, in seconds. The defaults suit a heartbeat interval of 15 s."""

    probe_interval_s: float = 0.5
    """Interval between probes of one host, if the probe budget allows it."""
    probes_per_second: int = 400
    """Probe budget of the whole fleet."""
    no_responders_probe_interval_s: float = 0.3
    """Delay before the next probe after a probe with no responders."""
    no_responders_for_s: float = 1.0
    """Minimum time that probes find no responders before a host is lost. A shorter time would mistake a
    reconnect for a lost host."""
    no_responders_count: int = 3
    """Minimum number of consecutive probes with no responders before a host is lost."""
    silent_probe_interval_s: float = 5.0
    """Delay before the next probe after an unanswered probe. It is long, because probes queue up on a busy
    host, which must process them all later."""
    suspect_after_s: float = 20.0
    """Silence after which a host is suspect: one heartbeat interval plus transport."""
    lost_after_s: float = 35.0
    """Silence after which a host is lost, so that its workloads run elsewhere within 40 s. A host is
    not lost for silence while a start that was announced with `Fleet.expect_busy` is in flight."""
    settling_period_s: float = 12.0
    """Period after a (re)connect, and after a mass loss, in which missing hosts are not declared lost. Hosts
    have 10 s to reconnect (SCHED-CONT-003)."""
    mass_loss_threshold: int = 3
    """Minimum number of hosts that must have no responders at the same time before the broker is suspected
    instead."""
    mass_loss_percent: int = 25
    """Minimum share of the fleet that these hosts must make up, in percent. It is below the share of hosts
    that one broker in a cluster of three serves."""
    forget_after_s: float = 600.0
    """Silence after which a lost host is forgotten."""
