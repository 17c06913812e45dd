package main

import "time"

const (
	// healthyAfter is how long the script must run to restore the whole restart budget.
	healthyAfter = 60 * time.Second

	minDelay = 100 * time.Millisecond
	maxDelay = 30 * time.Second
)

// restartBudget decides whether and when a failed service restarts. It uses no clock, randomness or I/O.
type restartBudget struct {
	maxRestarts uint64
	used        uint64 // restarts since the script last ran for healthyAfter
}

// next decides whether and after which delay a script that ran for ranFor and failed is restarted. The delay
// doubles from 100 ms up to 30 s; random, between 0 and 1, scales it by a factor from 0.5 to 1.5.
func (b *restartBudget) next(ranFor time.Duration, random float64) (delay time.Duration, restart bool) {
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
