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

// kindOf returns the only kind of an error, or nil if the error has none or several kinds.
func kindOf(err error) (kind error) {
	for _, each := range []error{berth.ErrNotSent, berth.ErrUnknownOutcome, berth.ErrRefused} {
		if errors.Is(err, each) {
			if kind != nil {
				return nil
			}
			kind = each
		}
	}
	return kind
}

func wantOneKind(t *testing.T, err error) {
	t.Helper()
	if err != nil && kindOf(err) == nil {
		t.Errorf("error %v has no kind, or several", err)
	}
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
			_, start := client.Start(t.Context(), "a", workloadNamed("one"))
			_, stop := client.Stop(t.Context(), "a")
			_, status := client.Status(t.Context(), "a")
			if !errors.Is(start, c.start) || !errors.Is(stop, c.start) || !errors.Is(status, c.status) {
				t.Errorf("start: %v; stop: %v; want %v for both; status: %v, want %v", start, stop, c.start, status, c.status)
			}
			for _, err := range []error{start, stop, status} {
				wantOneKind(t, err)
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
	_, err := client.Start(t.Context(), "a", workloadNamed("one"))
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
	for _, c := range []struct {
		id       string
		workload *runtimev2.Workload
		want     error
	}{
		{"a", &runtimev2.Workload{Name: strings.Repeat("x", 5000)}, berth.ErrRequestTooLarge},
		{"a", &runtimev2.Workload{Service: &runtimev2.Service{ImagePullPolicy: 99}}, berth.ErrEncode},
		{"a\xff", workloadNamed("one"), berth.ErrEncode},
		{"a", nil, berth.ErrInvalidRequest},
		{"a", &runtimev2.Workload{}, berth.ErrInvalidRequest},
		{"a", &runtimev2.Workload{WitWorld: &runtimev2.WitWorld{}, Service: &runtimev2.Service{}}, berth.ErrInvalidRequest},
		{"", workloadNamed("one"), berth.ErrInvalidRequest},
	} {
		if _, err := client.Start(t.Context(), c.id, c.workload); !errors.Is(err, c.want) || kindOf(err) != berth.ErrNotSent {
			t.Errorf("error = %v, want %v", err, c.want)
		}
	}
	for _, err := range []error{
		second(client.Stop(t.Context(), "")), second(client.Status(t.Context(), "")), second(client.Stop(t.Context(), "\xff")),
	} {
		if kindOf(err) != berth.ErrNotSent {
			t.Errorf("error = %v, want ErrNotSent", err)
		}
	}
	for _, bad := range []string{"", "a.b", "*", ">", "a b", "a\n", strings.Repeat("x", 300)} {
		if _, err := berth.NewClient(nil, bad); !errors.Is(err, berth.ErrInvalidHostID) || kindOf(err) != berth.ErrNotSent {
			t.Errorf("error for id %q = %v, want ErrInvalidHostID", bad, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestContextEndsCommand(t *testing.T) {
	client := newScriptedHost(t, nil)
	cause := errors.New("cause")
	canceled, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	expired, end := context.WithTimeoutCause(t.Context(), time.Nanosecond, cause)
	defer end()
	<-expired.Done()
	for ended, want := range map[context.Context]error{canceled: context.Canceled, expired: context.DeadlineExceeded} {
		for _, err := range []error{
			second(client.Start(ended, "a", workloadNamed("one"))), second(client.Stop(ended, "a")),
			second(client.Status(ended, "a")), second(client.Heartbeat(ended)),
		} {
			if kindOf(err) != berth.ErrNotSent || !errors.Is(err, want) || !errors.Is(err, cause) {
				t.Errorf("error with an ended context = %v, want ErrNotSent with %v and its cause", err, want)
			}
		}
	}
	expiring, end := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, cause)
	defer end()
	err := second(client.Start(expiring, "a", workloadNamed("one")))
	if kindOf(err) != berth.ErrUnknownOutcome || !errors.Is(err, berth.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) ||
		!errors.Is(err, cause) {
		t.Errorf("error after the deadline = %v", err)
	}
	canceling, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	err = second(client.Start(canceling, "a", workloadNamed("one")))
	if kindOf(err) != berth.ErrUnknownOutcome || errors.Is(err, berth.ErrTimeout) || !errors.Is(err, context.Canceled) ||
		!errors.Is(err, cause) {
		t.Errorf("error after cancellation = %v", err)
	}
}

func TestConnectionThatClosesDuringCommandLeavesOutcomeUnknown(t *testing.T) {
	for name, end := range map[string]func(*nats.Conn){
		"close": func(conn *nats.Conn) { conn.Close() },
		"drain": func(conn *nats.Conn) { _ = conn.Drain() },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t)
			host, conn := b.connect(), b.connect()
			received := make(chan struct{}, 1)
			if _, err := host.Subscribe("runtime.host.h1.>", func(*nats.Msg) { received <- struct{}{} }); err != nil {
				t.Fatal(err)
			}
			if err := host.Flush(); err != nil {
				t.Fatal(err)
			}
			client, err := berth.NewClient(conn, "h1", berth.WithTimeouts(berth.Timeouts{Start: 3 * time.Second}))
			if err != nil {
				t.Fatal(err)
			}
			failed := make(chan error, 1)
			go func() { failed <- second(client.Start(t.Context(), "a", workloadNamed("one"))) }()
			receive(t, "the start", received)
			end(conn)
			if err := receive(t, "the error", failed); kindOf(err) != berth.ErrUnknownOutcome || errors.Is(err, berth.ErrDisconnected) {
				t.Errorf("error of the start in flight = %v, want ErrUnknownOutcome", err)
			}
			eventually(t, "close", conn.IsClosed)
			if err := second(client.Status(t.Context(), "a")); kindOf(err) != berth.ErrNotSent || !errors.Is(err, berth.ErrDisconnected) ||
				!errors.Is(err, berth.ErrConnectionClosed) {
				t.Errorf("error on the closed connection = %v, want ErrDisconnected", err)
			}
		})
	}
}

func TestDrainingConnectionSendsNothing(t *testing.T) {
	b := newBroker(t)
	conn := b.connect()
	release := make(chan struct{})
	subscription, err := conn.Subscribe("x", func(*nats.Msg) { <-release })
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Publish("x", nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the message", func() bool { n, _ := subscription.Delivered(); return n == 1 })
	if err := conn.Drain(); err != nil {
		t.Fatal(err)
	}
	client, err := berth.NewClient(conn, "h1")
	if err != nil {
		t.Fatal(err)
	}
	if err := second(client.Status(t.Context(), "a")); kindOf(err) != berth.ErrNotSent || !errors.Is(err, berth.ErrDisconnected) {
		t.Errorf("error = %v, want ErrDisconnected", err)
	}
	close(release)
}

func TestDeniedCommandIsNotSent(t *testing.T) {
	b := newBroker(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "ann", Password: "x", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Deny: []string{"runtime.host.*.workload.start"}},
			}},
			{Username: "no-reply", Password: "x", Permissions: &server.Permissions{
				Subscribe: &server.SubjectPermission{Deny: []string{"_INBOX.>"}},
			}},
		}
	})
	connect := func(user string) *berth.Client {
		conn, err := berth.Connect(t.Context(), berth.ConnectOptions{Servers: []string{b.url()}, User: user, Password: "x"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closeAndWait(conn) })
		client, err := berth.NewClient(conn, "h1", berth.WithTimeouts(berth.Timeouts{Start: time.Minute, Status: 2 * time.Second}))
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	began := time.Now()
	for range 2 { // the first denial must not be mistaken for the second
		err := second(connect("ann").Start(t.Context(), "a", workloadNamed("one")))
		if kindOf(err) != berth.ErrNotSent || !errors.Is(err, berth.ErrNotPermitted) {
			t.Errorf("error = %v, want ErrNotPermitted", err)
		}
	}
	if took := time.Since(began); took > testTimeout {
		t.Errorf("the denials took %v", took)
	}
	if err := second(connect("ann").Status(t.Context(), "a")); !errors.Is(err, berth.ErrNoResponders) {
		t.Errorf("error of a permitted command = %v, want ErrNoResponders", err)
	}
	// The command is sent, but its reply cannot arrive.
	err := second(connect("no-reply").Status(t.Context(), "a"))
	if kindOf(err) != berth.ErrUnknownOutcome || !errors.Is(err, berth.ErrTimeout) || !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("error without permission for replies = %v, want ErrTimeout with the reason", err)
	}
}

func TestHeartbeatRequestCanBeRefused(t *testing.T) {
	client := newScriptedHost(t, newReply(`{"workloadStatus":{"workloadState":5,"message":"m"}}`, "503"))
	refused := (*berth.RefusedError)(nil)
	if err := second(client.Heartbeat(t.Context())); !errors.As(err, &refused) || refused.Code != berth.CodeUnavailable {
		t.Errorf("error = %v, want code 503", err)
	}
}

func TestNilOptionsAreDefaults(t *testing.T) {
	b := newBroker(t)
	conn, err := berth.Connect(t.Context(), berth.ConnectOptions{Servers: []string{b.url()}, Logger: nil, NATS: []nats.Option{nil}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAndWait(conn) })
	fleet, err := berth.WatchFleet(t.Context(), conn, berth.WithFleetLogger(nil), nil, berth.WithLiveness(noProbes))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fleet.Close)
	serve(t, b.connect(), newFakeHost("fake"), berth.WithHostID("h1"), berth.WithLogger(nil), nil)
	caller := b.connect()
	for _, payload := range []string{`{`, `{"id":"other"}`} {
		if err := caller.Publish("runtime.operator.heartbeat.h1", []byte(payload)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the host", func() bool { _, known := fleet.Host("h1"); return known })
	client, err := fleet.Client("h1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Status(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if _, err := berth.NewClient(nil, "h1"); err != nil {
		t.Error(err)
	}
	if client, _ = berth.NewClient(nil, "h1"); kindOf(second(client.Status(t.Context(), "a"))) != berth.ErrNotSent {
		t.Error("a client without a connection does not return ErrNotSent")
	}
	if berth.NonRetryable(nil) != nil {
		t.Error("NonRetryable of no error is an error")
	}
	berth.StopFunc(nil).Stop(t.Context())
	berth.NewStatusReporter(nil).Running("")
}

func TestClientReportsMissingHostOrBroker(t *testing.T) {
	b := newBroker(t)
	conn := b.connect()
	client, err := berth.NewClient(conn, "h1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Status(t.Context(), "a"); !errors.Is(err, berth.ErrNoResponders) || kindOf(err) != berth.ErrNotSent {
		t.Errorf("error without a host = %v, want ErrNoResponders", err)
	}
	b.stop()
	eventually(t, "disconnect", func() bool { return !conn.IsConnected() })
	if _, err := client.Status(t.Context(), "a"); !errors.Is(err, berth.ErrDisconnected) || kindOf(err) != berth.ErrNotSent {
		t.Errorf("error without a broker = %v, want ErrDisconnected", err)
	}
}
