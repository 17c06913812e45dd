package tests

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// TestStartOnceNeverTakesLostStartForSuccess runs start-once on hosts whose reply to the start is lost.
func TestStartOnceNeverTakesLostStartForSuccess(t *testing.T) {
	program := build(t, "start-once")
	status := func(state string) string {
		return `{"workloadStatus":{"workloadId":"job-1","workloadState":"WORKLOAD_STATE_` + state + `","message":"m"}}`
	}
	conflict := &nats.Msg{
		Header: nats.Header{"Nats-Service-Error-Code": {"409"}}, Data: []byte(status("ERROR")),
	}
	for name, c := range map[string]struct {
		start  *nats.Msg // nil: no reply within the timeout
		status string
		want   string // in the output; a program that prints "job-1 is" has succeeded
	}{
		"lost":             {nil, status("NOT_FOUND"), "no reply in time"},
		"executed":         {nil, status("RUNNING"), "job-1 is WORKLOAD_STATE_RUNNING"},
		"still starting":   {nil, status("STARTING"), "job-1 is WORKLOAD_STATE_STARTING"},
		"completed":        {nil, status("COMPLETED"), "job-1 is WORKLOAD_STATE_COMPLETED"},
		"failed":           {nil, status("ERROR"), "WORKLOAD_STATE_ERROR m"},
		"being stopped":    {nil, status("STOPPING"), "WORKLOAD_STATE_STOPPING"},
		"unreadable":       {&nats.Msg{Data: []byte("?")}, status("NOT_FOUND"), "invalid response"},
		"no status":        {nil, "?", "invalid response"},
		"conflict":         {conflict, status("RUNNING"), "job-1 is WORKLOAD_STATE_RUNNING"},
		"conflict, gone":   {conflict, status("NOT_FOUND"), "code 409"},
		"refused":          {&nats.Msg{Data: []byte(status("ERROR"))}, status("RUNNING"), "refused by the host: m"},
		"start succeeds":   {&nats.Msg{Data: []byte(status("RUNNING"))}, "?", "job-1 is WORKLOAD_STATE_RUNNING"},
		"reply without id": {&nats.Msg{Data: []byte(`{"workloadStatus":{"workloadState":2}}`)}, status("NOT_FOUND"), "another workload"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t)
			host := b.connect()
			_, err := host.Subscribe("runtime.host.h1.>", func(msg *nats.Msg) {
				switch {
				case strings.HasSuffix(msg.Subject, ".status"):
					_ = host.Publish(msg.Reply, []byte(c.status))
				case c.start != nil:
					_ = host.PublishMsg(&nats.Msg{Subject: msg.Reply, Header: c.start.Header, Data: c.start.Data})
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := host.Flush(); err != nil {
				t.Fatal(err)
			}
			p := launch(t, program, "--nats-url", b.url(), "--timeout", "1s", "h1", "job-1", "r.example/job:1")
			code, succeeded := p.wait(), strings.Contains(p.output(), "job-1 is")
			if !strings.Contains(p.output(), c.want) || (code == 0) != succeeded || succeeded != strings.HasPrefix(c.want, "job-1 is") {
				t.Errorf("exit code %d, want %q in %s", code, c.want, p.output())
			}
		})
	}
}
