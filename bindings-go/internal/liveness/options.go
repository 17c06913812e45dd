package liveness

import "time"

// Options are the options of the fleet. The root package documents them and sets the defaults.
type Options struct {
	ProbeInterval             time.Duration
	ProbesPerSecond           int
	NoRespondersProbeInterval time.Duration
	NoRespondersFor           time.Duration
	NoRespondersCount         int
	SilentProbeInterval       time.Duration
	SuspectAfter              time.Duration
	LostAfter                 time.Duration
	SettlingPeriod            time.Duration
	MassLossThreshold         int
	MassLossPercent           int
	ForgetAfter               time.Duration
}
