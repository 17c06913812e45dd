package subject

import (
	"strings"
	"testing"
)

func TestCommandsAreReadAsTheyAreWritten(t *testing.T) {
	for _, command := range []Command{Heartbeat, Start, Stop, Status} {
		if got := ParseCommand("h-1", Of("h-1", command)); got != command {
			t.Errorf("%s is read as %s", command, got)
		}
	}
	if got := ParseCommand("h", "runtime.host.h.workload.start.x"); got != "workload.start.x" {
		t.Errorf("read as %s", got)
	}
}

func TestIDs(t *testing.T) {
	for _, bad := range []string{"", "a.b", "a b", "*", ">", "a\n", "a\x00", strings.Repeat("a", 257)} {
		if IsToken(bad) || IsHostID(bad) {
			t.Errorf("%q is taken", bad)
		}
	}
	if !IsToken("0b5f-ü") || IsHostID("0b5f-ü") || !IsHostID("0b5f-A_9") {
		t.Error("hosts use less than what can stand in a subject")
	}
	if id, ok := ParseHeartbeat(HeartbeatOf("h")); !ok || id != "h" {
		t.Errorf("%q, %v", id, ok)
	}
	for _, bad := range []string{HeartbeatOf("a.b"), HeartbeatOf("ü"), "runtime.operator.other.h"} {
		if _, ok := ParseHeartbeat(bad); ok {
			t.Errorf("%q is taken", bad)
		}
	}
}
