package reply

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzBody(f *testing.F) {
	f.Add("a", "message", 1000, true)
	f.Add("id\n\"\xc3\xbc", strings.Repeat("\x00\u2028\"", 300), 700, false)
	f.Add("a", "\xff\xfe broken", 900, true)
	f.Fuzz(func(t *testing.T, id, message string, maxPayload int, isRefused bool) {
		if !utf8.ValidString(id) || len(id) > 64 || maxPayload < 900 || maxPayload > 5000 {
			t.Skip()
		}
		status := Status{ID: id, State: 5, Message: message}
		if isRefused {
			status.Code = BadRequest
		}
		body, fits := status.Body(maxPayload)
		if !fits || len(body) > maxPayload {
			t.Fatalf("%d bytes, %v", len(body), fits)
		}
		var decoded struct{ WorkloadStatus struct{ WorkloadID string } }
		if err := json.Unmarshal(body, &decoded); err != nil || decoded.WorkloadStatus.WorkloadID != id {
			t.Fatalf("%s, %v", body, err)
		}
		if line := status.HeaderLine(); len(line) > 200 || strings.ContainsAny(line, "\r\n") {
			t.Fatalf("%q", line)
		}
	})
}

func TestBodyShortensMessageOnlyIfNeeded(t *testing.T) {
	status := Status{ID: "a", State: 5, Message: strings.Repeat("x", 500)}
	if body, _ := status.Body(1000); !strings.Contains(string(body), status.Message) {
		t.Errorf("%s", body)
	}
	if body, _ := status.Body(300); len(body) < 200 || !strings.Contains(string(body), "x…") {
		t.Errorf("%s", body)
	}
	if _, fits := (Status{ID: strings.Repeat("x", 256), State: 5}).Body(200); fits {
		t.Error("a body exceeds its limit, or its id is shortened")
	}
}

func TestShortenReturnsPrefix(t *testing.T) {
	for limit := range 12 {
		short := Shorten("aüü€b", limit)
		if len(short) > limit || !strings.HasPrefix("aüü€b", strings.TrimSuffix(short, "…")) {
			t.Errorf("%d: %q", limit, short)
		}
	}
}
