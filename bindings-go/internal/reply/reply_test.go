package reply

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

const stateError = runtimev2.WorkloadState_WORKLOAD_STATE_ERROR

func FuzzBody(f *testing.F) {
	f.Add("a", "message", 1000, true)
	f.Add("id\n\"\xc3\xbc", strings.Repeat("\x00\u2028\"", 300), 700, false)
	f.Add("a", "\xff\xfe broken", 900, true)
	f.Fuzz(func(t *testing.T, id, message string, maxPayload int, isRefused bool) {
		if !utf8.ValidString(id) || len(id) > 64 || maxPayload < 900 || maxPayload > 5000 {
			t.Skip()
		}
		status := Status{ID: id, State: stateError, Message: message}
		if isRefused {
			status.Code = BadRequest
		}
		body, fits := status.Body(maxPayload)
		if !fits || len(body) > maxPayload {
			t.Fatalf("body has %d bytes and fits = %v, want at most %d bytes", len(body), fits, maxPayload)
		}
		var decoded struct{ WorkloadStatus struct{ WorkloadID string } }
		if err := json.Unmarshal(body, &decoded); err != nil || decoded.WorkloadStatus.WorkloadID != id {
			t.Fatalf("body = %s (%v), want id %q", body, err, id)
		}
		if line := status.HeaderLine(); len(line) > 200 || strings.ContainsAny(line, "\r\n") {
			t.Fatalf("header = %q, want one line of at most 200 bytes", line)
		}
	})
}

func TestBodyShortensMessageOnlyIfNeeded(t *testing.T) {
	status := Status{ID: "a", State: stateError, Message: strings.Repeat("x", 500)}
	if body, _ := status.Body(1000); !strings.Contains(string(body), status.Message) {
		t.Errorf("body = %s, want the whole message", body)
	}
	if body, _ := status.Body(300); len(body) < 200 || !strings.Contains(string(body), "x…") {
		t.Errorf("body = %s, want a shortened message", body)
	}
	if _, fits := (Status{ID: strings.Repeat("x", 256), State: stateError}).Body(200); fits {
		t.Error("a body exceeds its limit, or its id is shortened")
	}
}

func TestShortenReturnsPrefix(t *testing.T) {
	for limit := range 12 {
		short := Shorten("aüü€b", limit)
		if len(short) > limit || !strings.HasPrefix("aüü€b", strings.TrimSuffix(short, "…")) {
			t.Errorf("Shorten to %d bytes = %q, want a prefix of that length", limit, short)
		}
	}
}
