package main

import (
	"testing"
	"time"
)

func TestDelayDoublesWithinTheBudget(t *testing.T) {
	b := restartBudget{maxRestarts: 12}
	want := 100 * time.Millisecond
	for range 12 {
		delay, restart := b.spend(time.Second, 0.5)
		if !restart || delay != want {
			t.Errorf("delay = %v, want %v", delay, want)
		}
		want = min(2*want, 30*time.Second)
	}
	if delay, restart := b.spend(time.Second, 0.5); restart {
		t.Errorf("one restart too many, after %v", delay)
	}
}

func TestHealthyRunRestoresTheBudget(t *testing.T) {
	b := restartBudget{maxRestarts: 1}
	b.spend(0, 0)
	if delay, restart := b.spend(time.Minute, 1); !restart || delay != 150*time.Millisecond {
		t.Errorf("%v, %v", delay, restart)
	}
	if _, restart := b.spend(59*time.Second, 1); restart {
		t.Error("the budget is restored too early")
	}
}
