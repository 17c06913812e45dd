package main

import (
	"testing"
	"time"
)

func TestDelayDoublesWithinTheBudget(t *testing.T) {
	b := restartBudget{maxRestarts: 12}
	want := 100 * time.Millisecond
	for range 12 {
		delay, restart := b.next(time.Second, 0.5)
		if !restart || delay != want {
			t.Errorf("delay = %v, want %v", delay, want)
		}
		want = min(2*want, 30*time.Second)
	}
	if delay, restart := b.next(time.Second, 0.5); restart {
		t.Errorf("one restart too many, after %v", delay)
	}
}

func TestHealthyRunRestoresTheBudget(t *testing.T) {
	b := restartBudget{maxRestarts: 1}
	const noRunTime, minRandom, maxRandom = 0 * time.Second, 0, 1
	b.next(noRunTime, minRandom)
	if delay, restart := b.next(time.Minute, maxRandom); !restart || delay != 150*time.Millisecond {
		t.Errorf("delay = %v, restart = %v, want 150ms, true", delay, restart)
	}
	if _, restart := b.next(59*time.Second, maxRandom); restart {
		t.Error("the budget is restored too early")
	}
}
