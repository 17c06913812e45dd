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

// newScriptedHost serves a host that sends the given reply to every request, or no replies if reply is nil. It
// returns a client of the host.
func newScriptedHost(t *testing.T, reply *nats.Msg) *berth.Client {
	b := newBroker(t, func(o *server.Options) { o.MaxPayload = 4096 })
	host := b.connect()
	_, err := host.Subscribe("runtime.host.h1.>", func(msg *nats.Msg) {
		if reply != nil {
			err := host.PublishMsg(&nats.Msg{Subject: msg.Reply, Data: reply.Data, Header: reply.Header})
			if err != nil {
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

func newReply(body, code string) *nats.Msg {
	msg := &nats.Msg{Data: []byte(body)}
	if code != "" {
		msg.Header = nats.Header{"Nats-Service-Error-Code": {code}}
	}
	return msg
}

func TestClientErrorsDependOnReply(t *testing.T) {
	status := func(state string) string {
		return `{"workloadStatus":{"workloadId":"a","workloadState":"WORKLOAD_STATE_` + state + `","message":"m"}}`
	}
	for name, c := range map[string]struct {
		reply         *nats.Msg
		start, status error
	}{
		"running":               {newReply(status("RUNNING"), ""), nil, nil},
		"proto names, numbers":  {newReply(`{"workload_status":{"workload_id":"a","workload_state":2,"later":1}}`, ""), nil, nil},
		"silence":               {nil, berth.ErrTimeout, berth.ErrTimeout},
		"error without code":    {newReply(status("ERROR"), ""), berth.ErrRefused, nil},
		"error with code":       {newReply(status("ERROR"), " 409 "), berth.ErrRefused, berth.ErrRefused},
		"code only":             {newReply(`{"workloadStatus":{}}`, "404"), berth.ErrRefused, berth.ErrRefused},
		"invalid JSON":          {newReply("hello", ""), berth.ErrInvalidResponse, berth.ErrInvalidResponse},
		"empty":                 {newReply("", ""), berth.ErrInvalidResponse, berth.ErrInvalidResponse},
		"no status":             {newReply("{}", ""), berth.ErrInvalidResponse, berth.ErrInvalidResponse},
		"no state":              {newReply(`{"workloadStatus":{"workloadId":"a"}}`, ""), berth.ErrInvalidResponse, berth.ErrInvalidResponse},
		"unknown state":         {newReply(`{"workloadStatus":{"workloadId":"a","workloadState":99}}`, ""), berth.ErrInvalidResponse, berth.ErrInvalidResponse},
		"id of another request": {newReply(`{"workloadStatus":{"workloadId":"b","workloadState":2}}`, ""), berth.ErrInvalidResponse, berth.ErrInvalidResponse},
	} {
		t.Run(name, func(t *testing.T) {
			client := newScriptedHost(t, c.reply)
			_, start := client.Start(t.Context(), "a", &runtimev2.Workload{})
			_, stop := client.Stop(t.Context(), "a")
			_, status := client.Status(t.Context(), "a")
			if !errors.Is(start, c.start) || !errors.Is(stop, c.start) || !errors.Is(status, c.status) {
				t.Errorf("start: %v; stop: %v; want %v for both; status: %v, want %v", start, stop, c.start, status, c.status)
			}
			if command := (*berth.CommandError)(nil); start != nil &&
				(!errors.As(start, &command) || command.HostID != "h1" || command.Command != "workload.start") {
				t.Errorf("%v does not name the command and the host", start)
			}
		})
	}
}

func TestRefusedErrorHasCodeAndMessage(t *testing.T) {
	client := newScriptedHost(t, newReply(`{"workloadStatus":{"workloadId":"a","workloadState":"WORKLOAD_STATE_ERROR","message":"in use"}}`, "409"))
	_, err := client.Start(t.Context(), "a", nil)
	refused := (*berth.RefusedError)(nil)
	if !errors.As(err, &refused) || refused.Code != berth.CodeConflict || refused.Message != "in use" || refused.State != berth.StateError {
		t.Errorf("error = %#v, want code 409, state ERROR and message \"in use\"", refused)
	}
}

func TestHeartbeatOfAnotherHostIsInvalid(t *testing.T) {
	client := newScriptedHost(t, newReply(`{"id":"h2"}`, ""))
	if _, err := client.Heartbeat(t.Context()); !errors.Is(err, berth.ErrInvalidResponse) {
		t.Errorf("error = %v, want ErrInvalidResponse", err)
	}
}

func TestUnsendableRequestsFailWithReason(t *testing.T) {
	client := newScriptedHost(t, nil)
	for want, workload := range map[error]*runtimev2.Workload{
		berth.ErrRequestTooLarge: {Name: strings.Repeat("x", 5000)},
		berth.ErrEncode:          {Service: &runtimev2.Service{ImagePullPolicy: 99}},
	} {
		if _, err := client.Start(t.Context(), "a", workload); !errors.Is(err, want) {
			t.Errorf("error = %v, want %v", err, want)
		}
	}
	for _, bad := range []string{"", "a.b", "*", ">", "a b", "a\n", strings.Repeat("x", 300)} {
		if _, err := berth.NewClient(nil, bad); !errors.Is(err, berth.ErrInvalidHostID) {
			t.Errorf("error for id %q = %v, want ErrInvalidHostID", bad, err)
		}
	}
}

func TestContextEndsCommand(t *testing.T) {
	client := newScriptedHost(t, nil)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Start(canceled, "a", nil); !errors.Is(err, context.Canceled) || errors.Is(err, berth.ErrTimeout) {
		t.Errorf("error after cancellation = %v", err)
	}
	expiring, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := client.Start(expiring, "a", nil); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, berth.ErrTimeout) {
		t.Errorf("error after the deadline = %v", err)
	}
}

func TestClientReportsMissingHostOrBroker(t *testing.T) {
	b := newBroker(t)
	conn := b.connect()
	client, err := berth.NewClient(conn, "h1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Status(t.Context(), "a"); !errors.Is(err, berth.ErrNoResponders) {
		t.Errorf("error without a host = %v, want ErrNoResponders", err)
	}
	b.stop()
	eventually(t, "disconnect", func() bool { return !conn.IsConnected() })
	if _, err := client.Status(t.Context(), "a"); !errors.Is(err, berth.ErrDisconnected) {
		t.Errorf("error without a broker = %v, want ErrDisconnected", err)
	}
}
