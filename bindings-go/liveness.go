package berth

import "berth.dev/go/internal/liveness"

// LivenessOptions are the intervals and thresholds of liveness detection. A field of 0 has its default; the
// defaults suit the heartbeat interval of a wash host, 15 s. Most users set none, or only LostAfter, the silence after
// which a host is lost [default: 35 s]. The others are SuspectAfter, ForgetAfter, SettlingPeriod, ProbeInterval,
// ProbesPerSecond, SilentProbeInterval, NoRespondersProbeInterval, NoRespondersFor, NoRespondersCount,
// MassLossThreshold and MassLossPercent; internal/liveness/options.go documents them.
type LivenessOptions = liveness.Options

// Health is the health of a host, as far as the fleet can observe it.
type Health = liveness.Health

const (
	// HealthAlive: a heartbeat or a reply arrived recently.
	HealthAlive = liveness.Alive
	// HealthSuspect: the host may be lost. Do not replace its workloads yet.
	HealthSuspect = liveness.Suspect
	// HealthLost: the host is considered gone. Its workloads may be placed elsewhere, within the rules of
	// fencing.
	HealthLost = liveness.Lost
)

// Reason is why a host is suspect or lost.
type Reason = liveness.Reason

const (
	// ReasonNone: the host is alive.
	ReasonNone = liveness.None
	// ReasonNoResponders: nobody listens under the host id. The process has ended or is disconnected.
	ReasonNoResponders = liveness.NoResponders
	// ReasonSilent: the host listens but sends nothing. It is frozen or busy.
	ReasonSilent = liveness.Silent
	// ReasonRestarted: another process has the host id. All workloads of the earlier process are gone.
	ReasonRestarted = liveness.Restarted
)
