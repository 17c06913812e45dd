"""Options for detecting lost hosts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from berth.errors import InvalidOptionError

DEFAULT_SUSPECT_AFTER_S = 20.0
"""Default of `suspect_after_s` with the default of `lost_after_s`: one heartbeat interval plus transport."""

DEFAULT_LOST_AFTER_S = 35.0
"""Default of `lost_after_s`: workloads run elsewhere within 40 s."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LivenessOptions:
    """Options for detecting lost hosts, in seconds. The defaults suit a heartbeat interval of 15 s.

    Raises `InvalidOptionError` for a value outside its range. Intervals must be longer than 0 s; only
    `lost_after_s` and `forget_after_s` may be infinite.
    """

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
    suspect_after_s: float | None = None
    """Silence after which a host is suspect. `None` stands for 20 s, one heartbeat interval plus transport, and
    for 4/7 of a `lost_after_s` below 35 s. A time above `lost_after_s` has the effect of `lost_after_s`."""
    lost_after_s: float = DEFAULT_LOST_AFTER_S
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
    """Silence after which a lost host is forgotten; at least `lost_after_s`."""

    def __post_init__(self) -> None:
        for name in ("probe_interval_s", "no_responders_probe_interval_s", "silent_probe_interval_s"):
            self._require(
                name, "must be a finite number of seconds above 0", 0 < getattr(self, name) < math.inf
            )
        for name in ("no_responders_for_s", "settling_period_s"):
            self._require(
                name, "must be a finite number of seconds, 0 or more", 0 <= getattr(self, name) < math.inf
            )
        for name in ("lost_after_s", "forget_after_s"):
            self._require(name, "must be a number of seconds above 0", getattr(self, name) > 0)
        if self.suspect_after_s is not None:
            self._require("suspect_after_s", "must be a number of seconds above 0", self.suspect_after_s > 0)
        for name in ("probes_per_second", "no_responders_count", "mass_loss_threshold"):
            self._require(name, "must be at least 1", getattr(self, name) >= 1)
        self._require("mass_loss_percent", "must be between 0 and 100", 0 <= self.mass_loss_percent <= 100)

    @staticmethod
    def _require(name: str, requirement: str, is_met: bool) -> None:
        if not is_met:
            raise InvalidOptionError(f"LivenessOptions.{name}", requirement)

    def effective_suspect_after_s(self) -> float:
        """Returns `suspect_after_s`, with its default and its upper limit applied."""
        if self.suspect_after_s is None:
            share = DEFAULT_SUSPECT_AFTER_S / DEFAULT_LOST_AFTER_S
            return min(DEFAULT_SUSPECT_AFTER_S, self.lost_after_s * share)
        return min(self.suspect_after_s, self.lost_after_s)
