package subject

import (
	"strings"
	"testing"
)

func TestParseCommandInvertsForCommand(t *testing.T) {
	for _, command := range []Command{Heartbeat, Start, Stop, Status} {
		if got := ParseCommand("h-1", ForCommand("h-1", command)); got != command {
			t.Errorf("ParseCommand = %s, want %s", got, command)
		}
	}
	// ParseCommand returns unknown commands unchanged.
	if got := ParseCommand("h", "runtime.host.h.workload.start.x"); got != "workload.start.x" {
		t.Errorf("ParseCommand = %s, want workload.start.x", got)
	}
}

func TestIDValidation(t *testing.T) {
	for _, bad := range []string{"", "a.b", "a b", "*", ">", "a\n", "a\x00", strings.Repeat("a", 257)} {
		if IsToken(bad) || IsHostID(bad) {
			t.Errorf("%q is accepted", bad)
		}
	}
	if !IsToken("0b5f-ü") || IsHostID("0b5f-ü") || !IsHostID("0b5f-A_9") {
		t.Error("a valid id is rejected, or an invalid one accepted")
	}
	if id, ok := ParseHeartbeat(ForHeartbeats("h")); !ok || id != "h" {
		t.Errorf("ParseHeartbeat = %q, %v, want h, true", id, ok)
	}
	for _, bad := range []string{ForHeartbeats("a.b"), ForHeartbeats("ü"), "runtime.operator.other.h"} {
		if _, ok := ParseHeartbeat(bad); ok {
			t.Errorf("%q is accepted", bad)
		}
	}
}
