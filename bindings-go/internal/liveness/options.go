package liveness

import "time"

// Options are the intervals and thresholds of liveness detection. A field of 0 has its default; the
// defaults suit the heartbeat interval of a wash host, 15 s.
type Options struct {
	// ProbeInterval is the time between two probes of a host, if the budget allows it [default: 500 ms].
	ProbeInterval time.Duration
	// ProbesPerSecond is the probe budget of the whole fleet [default: 400].
	ProbesPerSecond int
	// NoRespondersProbeInterval is the time until the next probe after a no-responders reply
	// [default: 300 ms].
	NoRespondersProbeInterval time.Duration
	// NoRespondersFor is how long a host must have no responders before it is lost [default: 1 s]. A
	// shorter time would mistake a reconnect for the end of the host.
	NoRespondersFor time.Duration
	// NoRespondersCount is how many consecutive no-responders replies a host must cause before it is lost
	// [default: 3].
	NoRespondersCount int
	// SilentProbeInterval is the time until the next probe after a probe without a reply [default: 5 s].
	// It is long, because probes queue up on a busy host, which must process them all later.
	SilentProbeInterval time.Duration
	// SuspectAfter is the silence after which a host is suspect [default: 20 s, one heartbeat interval plus
	// latency, but at most 4/7 of LostAfter]. A time above LostAfter has the effect of LostAfter.
	SuspectAfter time.Duration
	// LostAfter is the silence after which a host is lost [default: 35 s, so that its workloads run
	// elsewhere within 40 s]. A host is not lost for silence while a start is in flight that was announced
	// with Fleet.ExpectBusy.
	LostAfter time.Duration
	// SettlingPeriod is how long hosts may take to reconnect, after the fleet itself has connected and after
	// a mass loss, before they are lost [default: 12 s]. They have 10 s to reconnect (SCHED-CONT-003).
	SettlingPeriod time.Duration
	// MassLossThreshold is the number of hosts that must have no responders at the same time before the
	// broker is suspected instead [default: 3].
	MassLossThreshold int
	// MassLossPercent is the minimum percentage of the fleet that these hosts must make up [default: 25]. It
	// is below the share of hosts that one broker in a cluster of three serves.
	MassLossPercent int
	// ForgetAfter is how long a lost host remains in the view [default: 10 minutes].
	ForgetAfter time.Duration
}

// WithDefaults returns the options with the default for each field of 0.
func (o Options) WithDefaults() Options {
	for _, each := range []struct {
		duration     *time.Duration
		defaultValue time.Duration
	}{
		{&o.ProbeInterval, 500 * time.Millisecond},
		{&o.NoRespondersProbeInterval, 300 * time.Millisecond},
		{&o.NoRespondersFor, time.Second},
		{&o.SilentProbeInterval, 5 * time.Second},
		{&o.LostAfter, 35 * time.Second},
		{&o.SettlingPeriod, 12 * time.Second},
		{&o.ForgetAfter, 10 * time.Minute},
	} {
		if *each.duration == 0 {
			*each.duration = each.defaultValue
		}
	}
	if o.SuspectAfter == 0 {
		o.SuspectAfter = min(20*time.Second, o.LostAfter/7*4)
	}
	o.SuspectAfter = min(o.SuspectAfter, o.LostAfter)
	for _, each := range []struct {
		number       *int
		defaultValue int
	}{
		{&o.ProbesPerSecond, 400},
		{&o.NoRespondersCount, 3},
		{&o.MassLossThreshold, 3},
		{&o.MassLossPercent, 25},
	} {
		if *each.number == 0 {
			*each.number = each.defaultValue
		}
	}
	return o
}
