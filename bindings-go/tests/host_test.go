package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	berth "berth.dev/go"
)

// fixture is a broker, a host that is served on it, and a caller's connection and client.
type fixture struct {
	*testing.T
	broker *broker
	host   *fakeHost
	stop   func() error
	caller *nats.Conn
	client *berth.Client
}

func newFixture(t *testing.T, change ...func(*server.Options)) *fixture {
	f := &fixture{T: t, broker: newBroker(t, change...), host: newFakeHost("fake")}
	f.caller = f.broker.connect()
	heartbeats, err := f.caller.SubscribeSync("runtime.operator.heartbeat.h1")
	if err != nil {
		t.Fatal(err)
	}
	f.stop = serve(t, f.broker.connect(), f.host, berth.WithHostID("h1"), berth.WithHeartbeatInterval(time.Second))
	if _, err := heartbeats.NextMsg(testTimeout); err != nil {
		t.Fatalf("no heartbeat: %v", err)
	}
	if f.client, err = berth.NewClient(f.caller, "h1"); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) request(command, payload string) *nats.Msg {
	f.Helper()
	msg, err := f.caller.Request("runtime.host.h1."+command, []byte(payload), testTimeout)
	if err != nil {
		f.Fatalf("%s %.80s: %v", command, payload, err)
	}
	return msg
}

func (f *fixture) wantState(id string, want berth.State) {
	f.Helper()
	eventually(f.T, fmt.Sprintf("state %s of %s", want, id), func() bool {
		status, err := f.client.Status(f.Context(), id)
		if err != nil {
			f.Fatal(err)
		}
		return status.State == want
	})
}

func (f *fixture) start(id, name string) (berth.Status, error) {
	return f.client.Start(f.Context(), id, workloadNamed(name))
}

type envelope struct {
	WorkloadStatus struct{ WorkloadID, WorkloadState, Message string }
}

func TestInvalidRequestsAreRefusedWithReason(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct{ command, payload, code, id, message string }{
		{"workload.start", `{`, "400", "", "not one JSON object"},
		{"workload.start", `{"workloadId":"a"}`, "400", "a", "`workload` is missing"},
		{"workload.start", `{"workload":{}}`, "400", "", "`workloadId` is missing or empty"},
		{"workload.start", `{"workloadId":"a","workload":{"service":{"maxRestarts":"18446744073709551615"}}}`, "400", "a", "maxRestarts"},
		{"workload.start", `{"workloadId":"a","workload":{"name":7}}`, "400", "a", "`workload.name`"},
		{"workload.start", `{"workload":{"name":7},"workload_id":"é /"}`, "400", "é /", "`workload.name`"},
		{"workload.start", `{"workloadId":"` + strings.Repeat("x", 257) + `","workload":7}`, "400", "", "`workload`"},
		{"workload.start", `{"workloadId":7,"workload":7}`, "400", "", "workload"},
		{"workload.start", `[{"workloadId":"a"}]`, "400", "", "not one JSON object"},
		{"workload.stop", ``, "400", "", "empty"},
		{"workload.stop", `{"workloadId":""}`, "400", "", "`workloadId`"},
		{"workload.status", `null`, "400", "", "null"},
		{"workload.status", `{"workloadId":"` + strings.Repeat("x", 257) + `"}`, "413", "", "257 bytes"},
		{"workload.status", `{"workloadId":"` + strings.Repeat("x", 256) + `"}`, "", strings.Repeat("x", 256), "no workload"},
		{"workload.start.now", `{"workloadId":"a"}`, "404", "", "workload.start.now"},
		{"unknown", ``, "404", "", "unknown"},
	} {
		msg := f.request(c.command, c.payload)
		var decoded envelope
		if err := json.Unmarshal(msg.Data, &decoded); err != nil {
			t.Fatal(err)
		}
		status := decoded.WorkloadStatus
		wantState := "WORKLOAD_STATE_ERROR"
		if c.code == "" {
			wantState = "WORKLOAD_STATE_NOT_FOUND"
		}
		if msg.Header.Get("Nats-Service-Error-Code") != c.code || status.WorkloadID != c.id ||
			status.WorkloadState != wantState || !strings.Contains(status.Message, c.message) {
			t.Errorf("%s %.80s: reply = %s %v", c.command, c.payload, msg.Data, msg.Header)
		}
		if text := msg.Header.Get("Nats-Service-Error"); (c.code != "") != (text != "") {
			t.Errorf("%s %.80s: header = %q", c.command, c.payload, text)
		}
	}
	if f.host.count(&f.host.started) != 0 {
		t.Errorf("refused requests started %v", f.host.started)
	}
}

func TestCommandWithoutReplySubjectIsExecuted(t *testing.T) {
	f := newFixture(t)
	if err := f.caller.Publish("runtime.host.h1.workload.start", []byte(`{"workloadId":"a","workload":{}}`)); err != nil {
		t.Fatal(err)
	}
	f.wantState("a", berth.StateRunning)
}

func TestReplyIsNeverSentToProtocolSubject(t *testing.T) {
	f := newFixture(t)
	commands, err := f.caller.SubscribeSync("runtime.host.h2.>")
	if err != nil {
		t.Fatal(err)
	}
	err = f.caller.PublishRequest("runtime.host.h1.workload.status", "runtime.host.h2.workload.stop", []byte(`{"workloadId":"a"}`))
	if err != nil {
		t.Fatal(err)
	}
	f.request("workload.status", `{"workloadId":"a"}`) // the host handles it after the forged request
	if msg, err := commands.NextMsg(100 * time.Millisecond); err == nil {
		t.Errorf("the host sends a command: %s", msg.Data)
	}
}

func TestHeartbeatRequestIsAnsweredForAnyPayload(t *testing.T) {
	f := newFixture(t)
	for _, payload := range []string{"", "{", `{"x":1}`} {
		var heartbeat map[string]any
		if err := json.Unmarshal(f.request("heartbeat", payload).Data, &heartbeat); err != nil {
			t.Fatal(err)
		}
		if heartbeat["id"] != "h1" || heartbeat["friendlyName"] != "fake" || heartbeat["httpPort"] != 8000.0 || heartbeat["startedAt"] == nil {
			t.Errorf("heartbeat after payload %q = %v", payload, heartbeat)
		}
	}
}

func TestOneOfManySimultaneousStartsWins(t *testing.T) {
	f := newFixture(t)
	var group sync.WaitGroup
	var mu sync.Mutex
	won, conflicts := 0, 0
	for range 50 {
		group.Go(func() {
			_, err := f.start("a", "one")
			mu.Lock()
			defer mu.Unlock()
			refused := (*berth.RefusedError)(nil)
			switch {
			case err == nil:
				won++
			case errors.As(err, &refused) && refused.Code == berth.CodeConflict:
				conflicts++
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	if won != 1 || conflicts != 49 || f.host.count(&f.host.started) != 1 {
		t.Errorf("%d starts won and %d conflicted, want 1 and 49; started %v", won, conflicts, f.host.started)
	}
}

func TestFailedStartMayBeRepeatedUnlessNonRetryable(t *testing.T) {
	f := newFixture(t)
	for name, code := range map[string]int{"missing": 0, "trapped": berth.CodeConflict, "panic": berth.CodeConflict} {
		_, first := f.start(name, name)
		if !errors.Is(first, berth.ErrRefused) {
			t.Errorf("error of the first start of %s = %v, want ErrRefused", name, first)
		}
		_, again := f.start(name, name)
		refused := (*berth.RefusedError)(nil)
		if !errors.As(again, &refused) || refused.Code != code {
			t.Errorf("error of the second start of %s = %v, want code %d", name, again, code)
		}
		f.wantState(name, berth.StateError)
	}
	status, err := f.client.Status(t.Context(), "missing")
	if err != nil || status.Message != "no such image: registry.example/missing" {
		t.Errorf("status = %v, %v, want the message of the error", status, err)
	}
}

func TestOnlyMessageOfStartErrorIsSent(t *testing.T) {
	var logged lockedBuffer
	b := newBroker(t)
	serve(t, b.connect(), newFakeHost("fake"), berth.WithHostID("h1"), berth.WithLogger(slog.New(slog.NewTextHandler(&logged, nil))))
	client, err := berth.NewClient(b.connect(), "h1")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the start of the host", func() bool { return second(client.Status(t.Context(), "a")) == nil })
	for name, want := range map[string]string{
		"missing": "no such image: registry.example/missing", "trapped": "trapped", "wrapped": "no such image",
		"secret": "the host cannot start the workload; its log has the reason",
		"panic":  "internal error of the host during the start",
	} {
		refused := (*berth.RefusedError)(nil)
		if err := second(client.Start(t.Context(), name, workloadNamed(name))); !errors.As(err, &refused) || refused.Message != want {
			t.Errorf("error of %s = %v, want the message %q", name, err, want)
		}
		status, err := client.Status(t.Context(), name)
		if err != nil || status.Message != want {
			t.Errorf("status of %s = %v, %v, want the message %q", name, status, err, want)
		}
	}
	if text := logged.String(); !strings.Contains(text, "bad password hunter2") || !strings.Contains(text, "workload_id=secret") {
		t.Errorf("the log of the host lacks the hidden error: %s", text)
	}
}

// slowHost is a host whose Describe waits for release after the first call.
type slowHost struct {
	*fakeHost
	calls   atomic.Int64
	release chan struct{}
}

func (h *slowHost) Describe() berth.Description {
	if h.calls.Add(1) > 2 { // the first two are the identity and the first heartbeat
		<-h.release
	}
	return h.fakeHost.Describe()
}

func TestRequestsOfEachKindUseBoundedGoroutines(t *testing.T) {
	const requests = 20_000
	b := newBroker(t)
	host := &slowHost{fakeHost: newFakeHost("fake"), release: make(chan struct{})}
	caller := b.connect()
	heartbeats, err := caller.SubscribeSync("runtime.operator.heartbeat.h1")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, b.connect(), host, berth.WithHostID("h1"), berth.WithHeartbeatInterval(30*time.Second))
	if _, err := heartbeats.NextMsg(testTimeout); err != nil {
		t.Fatal(err)
	}
	replies := make(chan *nats.Msg, 5*requests)
	inbox := caller.NewInbox()
	if _, err := caller.ChanSubscribe(inbox, replies); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for i := range requests {
		for command, payload := range map[string]string{
			"heartbeat": "", "workload.status": `{"workloadId":"a"}`, "workload.stop": `{"workloadId":"a"}`, "x" + fmt.Sprint(i): "",
			"workload.start": `{`,
		} {
			if err := caller.PublishRequest("runtime.host.h1."+command, inbox, []byte(payload)); err != nil {
				t.Fatal(err)
			}
		}
		if i%1000 == 0 {
			if err := caller.Flush(); err != nil {
				t.Fatal(err)
			}
			// All but the heartbeat requests that wait. The host drops requests if too many of them wait.
			eventually(t, "the replies", func() bool { return len(replies) >= 5*i-1100 })
			if count := runtime.NumGoroutine(); count > before+50 {
				t.Fatalf("%d goroutines after %d requests, %d before", count, i, before)
			}
		}
	}
	close(host.release)
	// Each request has exactly one reply: a heartbeat, a status, or a refusal.
	heartbeatCount, refusedCount := 0, 0
	for i := range 5 * requests {
		msg := receive(t, fmt.Sprintf("reply %d", i), replies)
		switch {
		case strings.HasPrefix(string(msg.Data), `{"id":"h1"`):
			heartbeatCount++
		case msg.Header.Get("Nats-Service-Error-Code") == "503":
			refusedCount++
		}
	}
	if heartbeatCount+refusedCount != requests || heartbeatCount < 1024 {
		t.Errorf("%d heartbeats and %d refusals, want %d in total", heartbeatCount, refusedCount, requests)
	}
}

func TestInvalidMessagesFillNoLog(t *testing.T) {
	var logged lockedBuffer
	logger := slog.New(slog.NewTextHandler(&logged, nil))
	b := newBroker(t)
	fleet, err := berth.WatchFleet(t.Context(), b.connect(), berth.WithFleetLogger(logger), berth.WithLiveness(noProbes))
	if err != nil {
		t.Fatal(err)
	}
	stop := serve(t, b.connect(), newFakeHost("fake"), berth.WithHostID("h1"), berth.WithLogger(logger))
	caller := b.connect()
	eventually(t, "the host", func() bool { _, known := fleet.Host("h1"); return known })
	for i := range 5000 {
		for subject, payload := range map[string]string{
			fmt.Sprintf("runtime.operator.heartbeat.x%d", i): `{`, fmt.Sprintf("runtime.operator.heartbeat.y%d", i): `{"id":"other"}`,
			"runtime.operator.heartbeat.same": `{"id":7}`, "runtime.host.h1.workload.start": `{`, fmt.Sprintf("runtime.host.h1.c%d", i): "",
			"runtime.host.h1.workload.stop": "", "runtime.host.h1.workload.status": "[]",
		} {
			if err := caller.PublishRequest(subject, "runtime.host.h1.x", []byte(payload)); err != nil {
				t.Fatal(err)
			}
		}
		if i%500 == 0 {
			if err := caller.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	client, err := fleet.Client("h1")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 { // the error of each start is logged, because the reply hides it
		if _, err := client.Start(t.Context(), fmt.Sprintf("w%d", i), workloadNamed("secret")); err == nil {
			t.Fatal("the start succeeds")
		}
	}
	if _, err := client.Status(t.Context(), "a"); err != nil { // after all requests
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	fleet.Close()
	text := logged.String()
	if lines := strings.Count(text, "\n"); lines > 40 || !strings.Contains(text, "left_out=") {
		t.Errorf("%d lines, want few and the number of the others:\n%.4000s", lines, text)
	}
}

func TestSlowStartDoesNotBlockOthersAndEndsOnStop(t *testing.T) {
	f := newFixture(t)
	started := make(chan error, 1)
	go func() {
		_, err := f.start("slow", "slow")
		started <- err
	}()
	f.wantState("slow", berth.StateStarting)
	if _, err := f.start("quick", "one"); err != nil {
		t.Fatal(err)
	}
	f.host.reporter("slow").Starting("pulling an image")
	if status, _ := f.client.Status(t.Context(), "slow"); status.Message != "pulling an image" {
		t.Errorf("status = %v, want message \"pulling an image\"", status)
	}
	if _, err := f.client.Stop(t.Context(), "slow"); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, "the reply to the start", started); err != nil {
		t.Errorf("error of the stopped start = %v, want none", err)
	}
	f.wantState("slow", berth.StateNotFound)
	close(f.host.release)
	if _, err := f.start("slow", "slow"); err != nil {
		t.Errorf("error of a start after the stop = %v, want none", err)
	}
}

func TestSlowStartIsAnsweredWithStarting(t *testing.T) {
	f := newFixture(t)
	began := time.Now()
	status, err := f.start("slow", "slow")
	if took := time.Since(began); err != nil || status.State != berth.StateStarting || took < 4*time.Second || took > testTimeout/2 {
		t.Errorf("status = %v, %v after %v, want STARTING after 4.5 s", status, err, took)
	}
	close(f.host.release)
	f.wantState("slow", berth.StateRunning)
}

func TestReportsChangeState(t *testing.T) {
	f := newFixture(t)
	for id, end := range map[string]struct {
		report func(*berth.StatusReporter)
		state  berth.State
	}{
		"completed": {func(reporter *berth.StatusReporter) { reporter.Completed("done") }, berth.StateCompleted},
		"failed":    {func(reporter *berth.StatusReporter) { reporter.Failed("no restarts left") }, berth.StateError},
	} {
		if _, err := f.start(id, "one"); err != nil {
			t.Fatal(err)
		}
		f.host.reporter(id).Starting("restart 1 of 2")
		f.wantState(id, berth.StateStarting)
		f.host.reporter(id).Running("")
		f.wantState(id, berth.StateRunning)
		end.report(f.host.reporter(id))
		f.wantState(id, end.state)
		f.host.reporter(id).Running("too late")
		f.wantState(id, end.state)
	}
	eventually(t, "stop of both instances", func() bool { return f.host.count(&f.host.stopped) == 2 })
	if _, err := f.client.Stop(t.Context(), "completed"); err != nil {
		t.Fatal(err)
	}
	f.wantState("completed", berth.StateNotFound)
	if f.host.count(&f.host.stopped) != 2 {
		t.Error("an instance was stopped twice")
	}
}

func TestPanicInStopFreesID(t *testing.T) {
	f := newFixture(t)
	if _, err := f.start("a", "panic-in-stop"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.client.Stop(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	f.wantState("a", berth.StateNotFound)
}

func TestReplyFitsMaximumPayload(t *testing.T) {
	f := newFixture(t, func(o *server.Options) { o.MaxPayload = 1500 })
	if _, err := f.start("a", "one"); err != nil {
		t.Fatal(err)
	}
	f.host.reporter("a").Failed(strings.Repeat("\x01", 4000))
	f.wantState("a", berth.StateError)
	status, err := f.client.Status(t.Context(), "a")
	if err != nil || !strings.HasPrefix(status.Message, "\x01\x01") || !strings.HasSuffix(status.Message, "…") {
		t.Errorf("status = %q, %v, want a shortened message", status, err)
	}
}

func TestHostSurvivesHostilePayloads(t *testing.T) {
	f := newFixture(t)
	for _, payload := range []string{
		strings.Repeat("[", 1<<19), "\xff\xfe", "\x00", `{"workloadId":"` + strings.Repeat("x", 600_000) + `"}`,
		`{"x":[` + strings.Repeat("0,", 300_000) + `0]}`,
	} {
		for _, command := range []string{"workload.start", "workload.stop", "workload.status", "heartbeat", "x"} {
			f.request(command, payload)
		}
	}
	f.wantState("a", berth.StateNotFound)
}

func TestConcurrentRequestsAreAllAnswered(t *testing.T) {
	f := newFixture(t)
	var group sync.WaitGroup
	for i := range 400 {
		group.Go(func() {
			if _, err := f.client.Status(t.Context(), fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
			if _, err := f.client.Heartbeat(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestStartsAboveInFlightLimitAreRefused(t *testing.T) {
	f := newFixture(t)
	inbox := f.caller.NewInbox()
	replies, err := f.caller.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 513 {
		start := fmt.Sprintf(`{"workloadId":"%d","workload":{"name":"slow"}}`, i)
		if err := f.caller.PublishRequest("runtime.host.h1.workload.start", inbox, []byte(start)); err != nil {
			t.Fatal(err)
		}
	}
	msg, err := replies.NextMsg(testTimeout)
	if err != nil || msg.Header.Get("Nats-Service-Error-Code") != "503" {
		t.Errorf("first reply = %v, %v, want code 503", msg, err)
	}
	close(f.host.release)
}

func TestShutdownUnsubscribesFirstAndStopsWorkloads(t *testing.T) {
	f := newFixture(t)
	for _, id := range []string{"a", "b"} {
		if _, err := f.start(id, "one"); err != nil {
			t.Fatal(err)
		}
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := f.start("slow", "slow")
		waiting <- err
	}()
	f.wantState("slow", berth.StateStarting)
	if err := f.stop(); err != nil {
		t.Errorf("Serve returned %v", err)
	}
	if err := receive(t, "the reply to the start", waiting); err != nil {
		t.Errorf("error of the start in flight = %v, want none", err)
	}
	if f.host.count(&f.host.stopped) != 2 {
		t.Errorf("stopped workloads = %v, want a and b", f.host.stopped)
	}
	if _, err := f.client.Status(t.Context(), "a"); !errors.Is(err, berth.ErrNoResponders) {
		t.Errorf("error of a status after shutdown = %v, want ErrNoResponders", err)
	}
}

func TestShutdownAnswersEachRequestOnce(t *testing.T) {
	b := newBroker(t)
	host := &slowHost{fakeHost: newFakeHost("fake"), release: make(chan struct{})}
	stop := serve(t, b.connect(), host, berth.WithHostID("h1"), berth.WithHeartbeatInterval(30*time.Second))
	caller := b.connect()
	client, err := berth.NewClient(caller, "h1")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the host", func() bool { return second(client.Status(t.Context(), "a")) == nil && host.calls.Load() == 2 })
	replies, err := caller.SubscribeSync("replies.*")
	if err != nil {
		t.Fatal(err)
	}
	publish := func(reply, command, payload string) {
		if err := caller.PublishRequest("runtime.host.h1."+command, "replies."+reply, []byte(payload)); err != nil {
			t.Fatal(err)
		}
	}
	publish("start", "workload.start", `{"workloadId":"slow","workload":{"name":"slow"}}`)
	want := map[string]int{"start": 1}
	for i := range 20 {
		status, heartbeat := fmt.Sprint("status", i), fmt.Sprint("heartbeat", i)
		publish(status, "workload.status", `{"workloadId":"a"}`)
		publish(heartbeat, "heartbeat", "")
		want[status], want[heartbeat] = 1, 1
	}
	if err := caller.Flush(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the start", func() bool { return host.count(&host.started) == 1 })
	time.AfterFunc(100*time.Millisecond, func() { close(host.release) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := caller.Flush(); err != nil { // Serve has flushed its replies
		t.Fatal(err)
	}
	got := make(map[string]int)
	for {
		msg, err := replies.NextMsg(200 * time.Millisecond)
		if err != nil {
			break
		}
		got[strings.TrimPrefix(msg.Subject, "replies.")]++
	}
	if !maps.Equal(got, want) {
		t.Errorf("replies = %v, want one each", got)
	}
}

func TestServeReturnsAfterGracePeriod(t *testing.T) {
	b := newBroker(t)
	caller := b.connect()
	release := make(chan struct{})
	host := &unstoppableHost{newFakeHost("unstoppable"), release}
	stop := serve(t, b.connect(), host, berth.WithHostID("h1"), berth.WithShutdownGrace(200*time.Millisecond))
	client, err := berth.NewClient(caller, "h1")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the start of the host", func() bool {
		_, err := client.Start(t.Context(), "a", workloadNamed("one"))
		return err == nil
	})
	if err := stop(); err != nil {
		t.Error(err)
	}
	close(release)
}

// unstoppableHost is a host whose instances do not stop before release is closed.
type unstoppableHost struct {
	*fakeHost
	release chan struct{}
}

func (h *unstoppableHost) Start(context.Context, berth.StartRequest) (berth.Instance, error) {
	return berth.StopFunc(func(context.Context) { <-h.release }), nil
}

func TestServeRejectsInvalidOptions(t *testing.T) {
	conn := newBroker(t).connect()
	for want, serve := range map[error]func() error{
		berth.ErrInvalidHostID:      func() error { return berth.Serve(t.Context(), conn, newFakeHost("fake"), berth.WithHostID("a.b")) },
		berth.ErrInvalidDescription: func() error { return berth.Serve(t.Context(), conn, newFakeHost("Not DNS")) },
		berth.ErrInvalidHeartbeatInterval: func() error {
			return berth.Serve(t.Context(), conn, newFakeHost("fake"), berth.WithHeartbeatInterval(time.Minute))
		},
	} {
		if err := serve(); !errors.Is(err, want) {
			t.Errorf("error = %v, want %v", err, want)
		}
	}
	closeAndWait(conn)
	if err := berth.Serve(t.Context(), conn, newFakeHost("fake")); !errors.Is(err, berth.ErrConnectionClosed) {
		t.Errorf("error on a closed connection = %v, want ErrConnectionClosed", err)
	}
}

func TestInvalidNameIsNamedWithItsLength(t *testing.T) {
	conn := newBroker(t).connect()
	err := berth.Serve(t.Context(), conn, newFakeHost(strings.Repeat("x", 254)))
	if !errors.Is(err, berth.ErrInvalidDescription) || !strings.Contains(err.Error(), "FriendlyName") ||
		!strings.Contains(err.Error(), "254 bytes") || len(err.Error()) > 200 {
		t.Errorf("error = %v, want the field and its length", err)
	}
}

func TestServeReturnsWhenConnectionIsClosed(t *testing.T) {
	b := newBroker(t)
	conn := b.connect()
	served := make(chan error, 1)
	go func() { served <- berth.Serve(context.Background(), conn, newFakeHost("fake"), berth.WithHostID("h1")) }()
	client, err := berth.NewClient(b.connect(), "h1")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the start of the host", func() bool {
		_, err := client.Status(t.Context(), "a")
		return err == nil
	})
	closeAndWait(conn)
	if err := receive(t, "return of Serve", served); !errors.Is(err, berth.ErrConnectionClosed) {
		t.Errorf("Serve returned %v", err)
	}
}
