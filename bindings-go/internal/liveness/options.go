package liveness

import "time"

// Options are the times by which hosts are judged. The root package describes and fills them.
type Options struct {
	ProbeInterval          time.Duration
	ProbesPerSecond        int
	DeafProbeInterval      time.Duration
	DeafFor                time.Duration
	DeafTimes              int
	SilentProbeInterval    time.Duration
	SuspectAfter           time.Duration
	LostAfter              time.Duration
	Settle                 time.Duration
	MassVanishFrom         int
	MassVanishSharePercent int
	ForgetAfter            time.Duration
}
