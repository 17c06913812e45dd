package main

import (
	"testing"
	"time"
)

func TestWaitsDoubleUpToTheirEndAndTheBudgetIsKept(t *testing.T) {
	b := budget{restarts: 12}
	want := 100 * time.Millisecond
	for range 12 {
		wait, again := b.failed(time.Second, 0.5)
		if !again || wait != want {
			t.Errorf("waits %v, want %v", wait, want)
		}
		want = min(2*want, 30*time.Second)
	}
	if wait, again := b.failed(time.Second, 0.5); again {
		t.Errorf("one more after %v", wait)
	}
}

func TestHealthGivesTheWholeBudgetBack(t *testing.T) {
	b := budget{restarts: 1}
	b.failed(0, 0)
	if wait, again := b.failed(time.Minute, 1); !again || wait != 150*time.Millisecond {
		t.Errorf("%v, %v", wait, again)
	}
	if _, again := b.failed(59*time.Second, 1); again {
		t.Error("the budget is given back too early")
	}
}
