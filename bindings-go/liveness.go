package berth

import (
	"time"

	"berth.dev/go/internal/liveness"
)

// LivenessOptions are the times by which hosts are judged. A field of 0 means its default; the defaults fit
// hosts that beat every 15 s, as deployed ones do.
type LivenessOptions struct {
	// ProbeInterval is how often a host is probed when the budget allows it: 500 ms.
	ProbeInterval time.Duration
	// ProbesPerSecond is the budget for the whole fleet: 400.
	ProbesPerSecond int
	// DeafProbeInterval is how soon a probe that found nobody is repeated: 300 ms.
	DeafProbeInterval time.Duration
	// DeafFor is how long nobody must listen before a host is lost: 1 s. Less would take a reconnect for a
	// death.
	DeafFor time.Duration
	// DeafTimes is how often nobody must have listened in that time: 3.
	DeafTimes int
	// SilentProbeInterval is how soon a probe that was not answered at all is repeated: 5 s. A busy host has
	// to work off each of them later.
	SilentProbeInterval time.Duration
	// SuspectAfter is the silence after which a host is suspect: 20 s, one heartbeat and its way, but half of
	// LostAfter at most.
	SuspectAfter time.Duration
	// LostAfter is the silence after which a host is lost: 35 s, so that its workloads run elsewhere within
	// 40 s. Not before the end of a start that it may be busy with.
	LostAfter time.Duration
	// Settle is how long after a connection was made, and after a crowd of hosts vanished at once, nothing is
	// concluded: 12 s. Hosts need to come back, too, and have 10 s (SCHED-CONT-003).
	Settle time.Duration
	// MassVanishFrom is how many hosts must seem gone at once before the broker can be suspected instead: 3.
	MassVanishFrom int
	// MassVanishSharePercent is how large a part of the fleet they must be: 25 percent, safely less than
	// what one broker of a cluster of three takes with it.
	MassVanishSharePercent int
	// ForgetAfter is how long a lost host is remembered: 10 minutes.
	ForgetAfter time.Duration
}

func (o LivenessOptions) withDefaults() LivenessOptions {
	for _, each := range []struct {
		time         *time.Duration
		defaultValue time.Duration
	}{
		{&o.ProbeInterval, 500 * time.Millisecond},
		{&o.DeafProbeInterval, 300 * time.Millisecond},
		{&o.DeafFor, time.Second},
		{&o.SilentProbeInterval, 5 * time.Second},
		{&o.LostAfter, 35 * time.Second},
		{&o.Settle, 12 * time.Second},
		{&o.ForgetAfter, 10 * time.Minute},
	} {
		if *each.time == 0 {
			*each.time = each.defaultValue
		}
	}
	if o.SuspectAfter == 0 {
		o.SuspectAfter = min(20*time.Second, o.LostAfter/2)
	}
	for _, each := range []struct {
		number       *int
		defaultValue int
	}{
		{&o.ProbesPerSecond, 400},
		{&o.DeafTimes, 3},
		{&o.MassVanishFrom, 3},
		{&o.MassVanishSharePercent, 25},
	} {
		if *each.number == 0 {
			*each.number = each.defaultValue
		}
	}
	return o
}

// Health is how a host does, as far as can be known from here.
type Health int

const (
	// HealthAlive: heard of lately.
	HealthAlive = Health(liveness.Alive)
	// HealthSuspect: something is wrong; nothing is to be concluded yet.
	HealthSuspect = Health(liveness.Suspect)
	// HealthLost: taken for gone. Its workloads may be placed elsewhere, within the rules of fencing.
	HealthLost = Health(liveness.Lost)
)

func (h Health) String() string {
	switch h {
	case HealthSuspect:
		return "suspect"
	case HealthLost:
		return "lost"
	default:
		return "alive"
	}
}

// Reason says why a host is suspect or lost.
type Reason int

const (
	// ReasonNone: it is alive.
	ReasonNone = Reason(liveness.None)
	// ReasonNoResponders: the broker says that nobody listens under its id. The process is gone or cut off.
	ReasonNoResponders = Reason(liveness.NoResponders)
	// ReasonSilent: it listens but says nothing. It is frozen, or busy.
	ReasonSilent = Reason(liveness.Silent)
	// ReasonRestarted: another process has taken its id. Everything that ran in the earlier one is gone.
	ReasonRestarted = Reason(liveness.Restarted)
)

func (r Reason) String() string {
	switch r {
	case ReasonNoResponders:
		return "no responders"
	case ReasonSilent:
		return "silent"
	case ReasonRestarted:
		return "restarted"
	default:
		return "none"
	}
}
