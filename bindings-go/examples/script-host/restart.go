package main

import "time"

const (
	// healthyAfter is how long a run must last to restore the whole restart budget.
	healthyAfter = 60 * time.Second

	minDelay = 100 * time.Millisecond
	maxDelay = 30 * time.Second
)

// restartBudget decides whether and when a failed service restarts. It has no clock, no randomness and no I/O.
type restartBudget struct {
	maxRestarts uint64
	used        uint64 // since the last healthy run
}

// spend decides about a restart after a failed run. The delay doubles from 100 ms up to 30 s; random is between 0
// and 1 and spreads it from half to one and a half of that.
func (b *restartBudget) spend(ranFor time.Duration, random float64) (delay time.Duration, restart bool) {
	if ranFor >= healthyAfter {
		b.used = 0
	}
	if b.used >= b.maxRestarts {
		return 0, false
	}
	delay = maxDelay
	if doublings := b.used; doublings < 9 {
		delay = min(delay, minDelay<<doublings)
	}
	b.used++
	return time.Duration(float64(delay) * (0.5 + random)), true
}
