package main

import "time"

const (
	// healthyAfter is how long a run must last for the whole restart budget to be given back.
	healthyAfter = 60 * time.Second

	firstWait = 100 * time.Millisecond
	maxWait   = 30 * time.Second
)

// budget decides whether and when a service that failed runs again: no clock, no chance, no I/O.
type budget struct {
	restarts uint64 // how many there are
	used     uint64 // without 60 s of health between them
}

// failed takes in that a run failed after so long. Chance is between 0 and 1, and spreads the waits from
// half to one and a half of 100 ms, 200 ms, 400 ms and so on up to 30 s.
func (b *budget) failed(after time.Duration, chance float64) (wait time.Duration, again bool) {
	if after >= healthyAfter {
		b.used = 0
	}
	if b.used >= b.restarts {
		return 0, false
	}
	wait = maxWait
	if doublings := b.used; doublings < 9 {
		wait = min(wait, firstWait<<doublings)
	}
	b.used++
	return time.Duration(float64(wait) * (0.5 + chance)), true
}
