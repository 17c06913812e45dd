package tests

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	berth "berth.dev/go"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// scripted is a host that gives one answer to everything; nil is silence.
func scripted(t *testing.T, answer *nats.Msg) *berth.Client {
	b := newBroker(t, func(o *server.Options) { o.MaxPayload = 4096 })
	host := b.connect()
	_, err := host.Subscribe("runtime.host.h1.>", func(msg *nats.Msg) {
		if answer != nil {
			reply := &nats.Msg{Subject: msg.Reply, Data: answer.Data, Header: answer.Header}
			if err := host.PublishMsg(reply); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Flush(); err != nil {
		t.Fatal(err)
	}
	client, err := berth.NewClient(b.connect(), "h1", berth.WithTimeouts(berth.Timeouts{
		Start: 300 * time.Millisecond, Stop: 300 * time.Millisecond, Status: 300 * time.Millisecond,
	}))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func said(body, code string) *nats.Msg {
	msg := &nats.Msg{Data: []byte(body)}
	if code != "" {
		msg.Header = nats.Header{"Nats-Service-Error-Code": {code}}
	}
	return msg
}

func TestErrorsAreToldApart(t *testing.T) {
	status := func(state string) string {
		return `{"workloadStatus":{"workloadId":"a","workloadState":"WORKLOAD_STATE_` + state + `","message":"m"}}`
	}
	for name, c := range map[string]struct {
		answer        *nats.Msg
		start, status error
	}{
		"well":                     {said(status("RUNNING"), ""), nil, nil},
		"proto names and numbers":  {said(`{"workload_status":{"workload_id":"a","workload_state":2,"later":1}}`, ""), nil, nil},
		"silence":                  {nil, berth.ErrTimeout, berth.ErrTimeout},
		"error without a code":     {said(status("ERROR"), ""), berth.ErrRefused, nil},
		"error with a code":        {said(status("ERROR"), " 409 "), berth.ErrRefused, berth.ErrRefused},
		"code and nothing else":    {said(`{"workloadStatus":{}}`, "404"), berth.ErrRefused, berth.ErrRefused},
		"no JSON":                  {said("hello", ""), berth.ErrMalformed, berth.ErrMalformed},
		"empty":                    {said("", ""), berth.ErrMalformed, berth.ErrMalformed},
		"no status":                {said("{}", ""), berth.ErrMalformed, berth.ErrMalformed},
		"no state":                 {said(`{"workloadStatus":{"workloadId":"a"}}`, ""), berth.ErrMalformed, berth.ErrMalformed},
		"a state that there isn't": {said(`{"workloadStatus":{"workloadId":"a","workloadState":99}}`, ""), berth.ErrMalformed, berth.ErrMalformed},
		"another id":               {said(`{"workloadStatus":{"workloadId":"b","workloadState":2}}`, ""), berth.ErrMalformed, berth.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			client := scripted(t, c.answer)
			_, start := client.Start(t.Context(), "a", &runtimev2.Workload{})
			_, stop := client.Stop(t.Context(), "a")
			_, status := client.Status(t.Context(), "a")
			if !errors.Is(start, c.start) || !errors.Is(stop, c.start) || !errors.Is(status, c.status) {
				t.Errorf("start %v, stop %v, status %v", start, stop, status)
			}
			if command := (*berth.CommandError)(nil); start != nil &&
				(!errors.As(start, &command) || command.HostID != "h1" || command.Command != "workload.start") {
				t.Errorf("%v does not say which command to which host", start)
			}
		})
	}
}

func TestARefusalHasItsCodeAndMessage(t *testing.T) {
	client := scripted(t, said(`{"workloadStatus":{"workloadId":"a","workloadState":"WORKLOAD_STATE_ERROR","message":"taken"}}`, "409"))
	_, err := client.Start(t.Context(), "a", nil)
	refused := (*berth.RefusedError)(nil)
	if !errors.As(err, &refused) || refused.Code != berth.CodeConflict || refused.Message != "taken" || refused.State != berth.StateError {
		t.Errorf("%#v", refused)
	}
}

func TestAHeartbeatOfAnotherHostIsNone(t *testing.T) {
	client := scripted(t, said(`{"id":"h2"}`, ""))
	if _, err := client.Heartbeat(t.Context()); !errors.Is(err, berth.ErrMalformed) {
		t.Errorf("%v", err)
	}
}

func TestWhatIsNotSentSaysSo(t *testing.T) {
	client := scripted(t, nil)
	for want, workload := range map[error]*runtimev2.Workload{
		berth.ErrTooLarge: {Name: strings.Repeat("x", 5000)},
		berth.ErrRequest:  {Service: &runtimev2.Service{ImagePullPolicy: 99}},
	} {
		if _, err := client.Start(t.Context(), "a", workload); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	for _, bad := range []string{"", "a.b", "*", ">", "a b", "a\n", strings.Repeat("x", 300)} {
		if _, err := berth.NewClient(nil, bad); !errors.Is(err, berth.ErrHostID) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestContextsEndCommands(t *testing.T) {
	client := scripted(t, nil)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Start(cancelled, "a", nil); !errors.Is(err, context.Canceled) || errors.Is(err, berth.ErrTimeout) {
		t.Errorf("cancelled: %v", err)
	}
	late, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := client.Start(late, "a", nil); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, berth.ErrTimeout) {
		t.Errorf("too late: %v", err)
	}
}

func TestNobodyAndNoBroker(t *testing.T) {
	b := newBroker(t)
	conn := b.connect()
	client, err := berth.NewClient(conn, "nobody")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Status(t.Context(), "a"); !errors.Is(err, berth.ErrNoResponders) {
		t.Errorf("nobody: %v", err)
	}
	b.stop()
	eventually(t, "the loss of the connection", func() bool { return !conn.IsConnected() })
	if _, err := client.Status(t.Context(), "a"); !errors.Is(err, berth.ErrDisconnected) {
		t.Errorf("no broker: %v", err)
	}
}
