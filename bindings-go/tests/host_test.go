package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	berth "berth.dev/go"
)

// rig is a broker, a host on it, and someone who asks.
type rig struct {
	*testing.T
	broker *broker
	host   *toy
	stop   func() error
	asker  *nats.Conn
	client *berth.Client
}

func newRig(t *testing.T, change ...func(*server.Options)) *rig {
	r := &rig{T: t, broker: newBroker(t, change...), host: newToy("toy")}
	r.asker = r.broker.connect()
	beats, err := r.asker.SubscribeSync("runtime.operator.heartbeat.h1")
	if err != nil {
		t.Fatal(err)
	}
	r.stop = serve(t, r.broker.connect(), r.host, berth.WithHostID("h1"), berth.WithHeartbeatInterval(time.Second))
	if _, err := beats.NextMsg(patience); err != nil {
		t.Fatalf("the first heartbeat: %v", err)
	}
	if r.client, err = berth.NewClient(r.asker, "h1"); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) ask(command, payload string) *nats.Msg {
	r.Helper()
	answer, err := r.asker.Request("runtime.host.h1."+command, []byte(payload), patience)
	if err != nil {
		r.Fatalf("%s %.80s: %v", command, payload, err)
	}
	return answer
}

func (r *rig) wantState(id string, want berth.State) {
	r.Helper()
	eventually(r.T, fmt.Sprintf("%s of %s", want, id), func() bool {
		status, err := r.client.Status(r.Context(), id)
		if err != nil {
			r.Fatal(err)
		}
		return status.State == want
	})
}

func (r *rig) start(id, name string) (berth.Status, error) {
	return r.client.Start(r.Context(), id, named(name))
}

type envelope struct {
	WorkloadStatus struct{ WorkloadID, WorkloadState, Message string }
}

func TestEachRequestGetsOneReplyThatSaysWhatIsWrong(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct{ command, payload, code, id, message string }{
		{"workload.start", `{`, "400", "", "not one JSON object"},
		{"workload.start", `{"workloadId":"a"}`, "400", "a", "`workload` is missing"},
		{"workload.start", `{"workload":{}}`, "400", "", "`workloadId` is missing or empty"},
		{"workload.start", `{"workloadId":"a","workload":{"service":{"maxRestarts":"18446744073709551615"}}}`, "400", "a", "maxRestarts"},
		{"workload.start", `{"workloadId":"a","workload":{"name":7}}`, "400", "", "`workload.name`"},
		{"workload.stop", ``, "400", "", "empty"},
		{"workload.stop", `{"workloadId":""}`, "400", "", "`workloadId`"},
		{"workload.status", `null`, "400", "", "null"},
		{"workload.status", `{"workloadId":"` + strings.Repeat("x", 257) + `"}`, "413", "", "257 bytes"},
		{"workload.status", `{"workloadId":"` + strings.Repeat("x", 256) + `"}`, "", strings.Repeat("x", 256), "no workload"},
		{"workload.start.now", `{"workloadId":"a"}`, "404", "", "workload.start.now"},
		{"dance", ``, "404", "", "dance"},
	} {
		answer := r.ask(c.command, c.payload)
		var read envelope
		if err := json.Unmarshal(answer.Data, &read); err != nil {
			t.Fatal(err)
		}
		status := read.WorkloadStatus
		wantState := "WORKLOAD_STATE_ERROR"
		if c.code == "" {
			wantState = "WORKLOAD_STATE_NOT_FOUND"
		}
		if answer.Header.Get("Nats-Service-Error-Code") != c.code || status.WorkloadID != c.id ||
			status.WorkloadState != wantState || !strings.Contains(status.Message, c.message) {
			t.Errorf("%s %.80s is answered with %s %v", c.command, c.payload, answer.Data, answer.Header)
		}
		if text := answer.Header.Get("Nats-Service-Error"); (c.code != "") != (text != "") {
			t.Errorf("%s %.80s: the header is %q", c.command, c.payload, text)
		}
	}
	if r.host.count(&r.host.started) != 0 {
		t.Errorf("started %v", r.host.started)
	}
}

func TestACommandWithoutAReplySubjectIsCarriedOut(t *testing.T) {
	r := newRig(t)
	if err := r.asker.Publish("runtime.host.h1.workload.start", []byte(`{"workloadId":"a","workload":{}}`)); err != nil {
		t.Fatal(err)
	}
	r.wantState("a", berth.StateRunning)
}

func TestAReplyIsNeverSentToTheProtocolItself(t *testing.T) {
	r := newRig(t)
	spied, err := r.asker.SubscribeSync("runtime.host.h2.>")
	if err != nil {
		t.Fatal(err)
	}
	err = r.asker.PublishRequest("runtime.host.h1.workload.status", "runtime.host.h2.workload.stop", []byte(`{"workloadId":"a"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.ask("workload.status", `{"workloadId":"a"}`) // answered after the other
	if msg, err := spied.NextMsg(100 * time.Millisecond); err == nil {
		t.Errorf("a command of its own: %s", msg.Data)
	}
}

func TestAHeartbeatRequestIsAnsweredWhateverItHolds(t *testing.T) {
	r := newRig(t)
	for _, payload := range []string{"", "{", `{"x":1}`} {
		var beat map[string]any
		if err := json.Unmarshal(r.ask("heartbeat", payload).Data, &beat); err != nil {
			t.Fatal(err)
		}
		if beat["id"] != "h1" || beat["friendlyName"] != "toy" || beat["httpPort"] != 8000.0 || beat["startedAt"] == nil {
			t.Errorf("%v", beat)
		}
	}
}

func TestOneOfManySimultaneousStartsWins(t *testing.T) {
	r := newRig(t)
	var group sync.WaitGroup
	var mu sync.Mutex
	won, conflicts := 0, 0
	for range 50 {
		group.Go(func() {
			_, err := r.start("a", "one")
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
	if won != 1 || conflicts != 49 || r.host.count(&r.host.started) != 1 {
		t.Errorf("%d won, %d conflicts, started %v", won, conflicts, r.host.started)
	}
}

func TestAStartThatFailsMayBeRepeatedUnlessAGuestRan(t *testing.T) {
	r := newRig(t)
	for name, code := range map[string]int{"missing": 0, "trapped": berth.CodeConflict, "panic": berth.CodeConflict} {
		_, first := r.start(name, name)
		if !errors.Is(first, berth.ErrRefused) {
			t.Errorf("%s: %v", name, first)
		}
		_, again := r.start(name, name)
		refused := (*berth.RefusedError)(nil)
		if !errors.As(again, &refused) || refused.Code != code {
			t.Errorf("%s again: %v", name, again)
		}
		r.wantState(name, berth.StateError)
	}
	status, err := r.client.Status(t.Context(), "missing")
	if err != nil || status.Message != "no such image: registry.example/missing" {
		t.Errorf("%v, %v", status, err)
	}
}

func TestASlowStartHoldsUpNobodyAndAStopEndsIt(t *testing.T) {
	r := newRig(t)
	started := make(chan error, 1)
	go func() {
		_, err := r.start("slow", "slow")
		started <- err
	}()
	r.wantState("slow", berth.StateStarting)
	if _, err := r.start("quick", "one"); err != nil {
		t.Fatal(err)
	}
	r.host.reporter("slow").Starting("pulling an image")
	if status, _ := r.client.Status(t.Context(), "slow"); status.Message != "pulling an image" {
		t.Errorf("%v", status)
	}
	if _, err := r.client.Stop(t.Context(), "slow"); err != nil {
		t.Fatal(err)
	}
	if err := next(t, "the reply to the start", started); err != nil {
		t.Errorf("the start that was stopped: %v", err)
	}
	r.wantState("slow", berth.StateNotFound)
	close(r.host.gate)
	if _, err := r.start("slow", "slow"); err != nil {
		t.Errorf("the id is not free: %v", err)
	}
}

func TestASlowStartIsAnsweredWithStarting(t *testing.T) {
	r := newRig(t)
	began := time.Now()
	status, err := r.start("slow", "slow")
	if took := time.Since(began); err != nil || status.State != berth.StateStarting || took < 4*time.Second || took > patience/2 {
		t.Errorf("%v, %v after %v", status, err, took)
	}
	close(r.host.gate)
	r.wantState("slow", berth.StateRunning)
}

func TestReportsChangeTheState(t *testing.T) {
	r := newRig(t)
	for id, end := range map[string]struct {
		report func(*berth.Reporter)
		state  berth.State
	}{
		"well":  {func(r *berth.Reporter) { r.Completed("done") }, berth.StateCompleted},
		"badly": {func(r *berth.Reporter) { r.Failed("no restarts left") }, berth.StateError},
	} {
		if _, err := r.start(id, "one"); err != nil {
			t.Fatal(err)
		}
		r.host.reporter(id).Starting("restart 1 of 2")
		r.wantState(id, berth.StateStarting)
		r.host.reporter(id).Running("")
		r.wantState(id, berth.StateRunning)
		end.report(r.host.reporter(id))
		r.wantState(id, end.state)
		r.host.reporter(id).Running("too late")
		r.wantState(id, end.state)
	}
	eventually(t, "the end of both instances", func() bool { return r.host.count(&r.host.stopped) == 2 })
	if _, err := r.client.Stop(t.Context(), "well"); err != nil {
		t.Fatal(err)
	}
	r.wantState("well", berth.StateNotFound)
	if r.host.count(&r.host.stopped) != 2 {
		t.Error("an instance was stopped twice")
	}
}

func TestAPanicAtTheEndFreesTheID(t *testing.T) {
	r := newRig(t)
	if _, err := r.start("a", "panics-at-the-end"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Stop(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	r.wantState("a", berth.StateNotFound)
}

func TestAReplyFitsIntoTheMaximumPayload(t *testing.T) {
	r := newRig(t, func(o *server.Options) { o.MaxPayload = 1500 })
	if _, err := r.start("a", "one"); err != nil {
		t.Fatal(err)
	}
	r.host.reporter("a").Failed(strings.Repeat("\x01", 4000))
	r.wantState("a", berth.StateError)
	status, err := r.client.Status(t.Context(), "a")
	if err != nil || !strings.HasPrefix(status.Message, "\x01\x01") || !strings.HasSuffix(status.Message, "…") {
		t.Errorf("%q, %v", status, err)
	}
}

func TestWhateverArrivesTheHostGoesOn(t *testing.T) {
	r := newRig(t)
	for _, payload := range []string{
		strings.Repeat("[", 1<<19), "\xff\xfe", "\x00", `{"workloadId":"` + strings.Repeat("x", 600_000) + `"}`,
		`{"x":[` + strings.Repeat("0,", 300_000) + `0]}`,
	} {
		for _, command := range []string{"workload.start", "workload.stop", "workload.status", "heartbeat", "x"} {
			r.ask(command, payload)
		}
	}
	r.wantState("a", berth.StateNotFound)
}

func TestManyRequestsAtOnceAreAllAnswered(t *testing.T) {
	r := newRig(t)
	var group sync.WaitGroup
	for i := range 400 {
		group.Go(func() {
			if _, err := r.client.Status(t.Context(), fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
			if _, err := r.client.Heartbeat(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestTooManyWaitingStartsAreRefused(t *testing.T) {
	r := newRig(t)
	inbox := r.asker.NewInbox()
	answers, err := r.asker.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 513 {
		start := fmt.Sprintf(`{"workloadId":"%d","workload":{"name":"slow"}}`, i)
		if err := r.asker.PublishRequest("runtime.host.h1.workload.start", inbox, []byte(start)); err != nil {
			t.Fatal(err)
		}
	}
	answer, err := answers.NextMsg(patience)
	if err != nil || answer.Header.Get("Nats-Service-Error-Code") != "503" {
		t.Errorf("%v, %v", answer, err)
	}
	close(r.host.gate)
}

func TestShutdownUnsubscribesFirstAndStopsEverything(t *testing.T) {
	r := newRig(t)
	for _, id := range []string{"a", "b"} {
		if _, err := r.start(id, "one"); err != nil {
			t.Fatal(err)
		}
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := r.start("slow", "slow")
		waiting <- err
	}()
	r.wantState("slow", berth.StateStarting)
	if err := r.stop(); err != nil {
		t.Errorf("Serve returned %v", err)
	}
	if err := next(t, "the reply to the start", waiting); err != nil {
		t.Errorf("the start that was waiting: %v", err)
	}
	if r.host.count(&r.host.stopped) != 2 {
		t.Errorf("stopped %v", r.host.stopped)
	}
	if _, err := r.client.Status(t.Context(), "a"); !errors.Is(err, berth.ErrNoResponders) {
		t.Errorf("a status afterwards: %v", err)
	}
}

func TestAHostThatDoesNotStopIsLeftAfterTheGracePeriod(t *testing.T) {
	b := newBroker(t)
	asker := b.connect()
	release := make(chan struct{})
	stubborn := &stubborn{newToy("stubborn"), release}
	stop := serve(t, b.connect(), stubborn, berth.WithHostID("h1"), berth.WithShutdownGrace(200*time.Millisecond))
	client, err := berth.NewClient(asker, "h1")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the host", func() bool {
		_, err := client.Start(t.Context(), "a", named("one"))
		return err == nil
	})
	if err := stop(); err != nil {
		t.Error(err)
	}
	close(release)
}

// stubborn is a host whose instances do not stop before they are allowed to.
type stubborn struct {
	*toy
	release chan struct{}
}

func (s *stubborn) Start(context.Context, berth.Start) (berth.Instance, error) {
	return berth.StopFunc(func(context.Context) { <-s.release }), nil
}

func TestAHostThatMakesNoSenseIsNotServed(t *testing.T) {
	conn := newBroker(t).connect()
	for want, serve := range map[error]func() error{
		berth.ErrHostID:      func() error { return berth.Serve(t.Context(), conn, newToy("toy"), berth.WithHostID("a.b")) },
		berth.ErrDescription: func() error { return berth.Serve(t.Context(), conn, newToy("Not DNS")) },
		berth.ErrHeartbeatInterval: func() error {
			return berth.Serve(t.Context(), conn, newToy("toy"), berth.WithHeartbeatInterval(time.Minute))
		},
	} {
		if err := serve(); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	closed(conn)
	if err := berth.Serve(t.Context(), conn, newToy("toy")); !errors.Is(err, berth.ErrConnectionClosed) {
		t.Errorf("on a closed connection: %v", err)
	}
}

func TestServeEndsWhenTheConnectionIsClosed(t *testing.T) {
	b := newBroker(t)
	conn := b.connect()
	served := make(chan error, 1)
	go func() { served <- berth.Serve(context.Background(), conn, newToy("toy"), berth.WithHostID("h1")) }()
	client, err := berth.NewClient(b.connect(), "h1")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the host", func() bool {
		_, err := client.Status(t.Context(), "a")
		return err == nil
	})
	closed(conn)
	if err := next(t, "the end of the host", served); !errors.Is(err, berth.ErrConnectionClosed) {
		t.Errorf("Serve returned %v", err)
	}
}
