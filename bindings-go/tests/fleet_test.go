package tests

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	berth "berth.dev/go"
)

// fastLiveness detects losses early, for hosts with a heartbeat interval of a second.
var fastLiveness = berth.LivenessOptions{SettlingPeriod: time.Millisecond, SuspectAfter: 3 * time.Second, LostAfter: 5 * time.Second}

// noProbes disables probes, for hosts that only send heartbeats.
var noProbes = berth.LivenessOptions{ProbeInterval: time.Hour}

func watch(t *testing.T, conn *nats.Conn, options berth.LivenessOptions) (*berth.Fleet, <-chan berth.FleetEvent) {
	fleet, err := berth.WatchFleet(t.Context(), conn, berth.WithLiveness(options))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fleet.Close)
	if err := conn.Flush(); err != nil { // until the broker has processed the subscription
		t.Fatal(err)
	}
	return fleet, fleet.Events(t.Context())
}

// want returns the next event, which must have this type.
func want[E berth.FleetEvent](t *testing.T, events <-chan berth.FleetEvent) E {
	t.Helper()
	var wanted E
	event := receive(t, "an event", events)
	got, ok := event.(E)
	if !ok {
		t.Fatalf("event = %T %+v, want %T", event, event, wanted)
	}
	return got
}

func TestHostJoinsThenIsLostThenRestarts(t *testing.T) {
	b := newBroker(t)
	fleet, events := watch(t, b.connect(), fastLiveness)
	stop := serve(t, b.connect(), newFakeHost("fake"), berth.WithHostID("h1"))
	joined := want[berth.HostJoined](t, events)
	if joined.Host.ID() != "h1" || joined.Host.Health != berth.HealthAlive || joined.Host.Heartbeat.FriendlyName != "fake" {
		t.Errorf("event = %+v, want alive host h1 with the name fake", joined)
	}
	client, err := fleet.Client("h1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Start(t.Context(), "a", workloadNamed("one")); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	stoppedAt := time.Now()
	if suspect := want[berth.HostSuspect](t, events); suspect != (berth.HostSuspect{HostID: "h1", Reason: berth.ReasonNoResponders}) {
		t.Errorf("event = %+v, want reason no responders", suspect)
	}
	if lost := want[berth.HostLost](t, events); lost != (berth.HostLost{HostID: "h1", Reason: berth.ReasonNoResponders}) {
		t.Errorf("event = %+v, want reason no responders", lost)
	}
	if took := time.Since(stoppedAt); took > testTimeout/2 {
		t.Errorf("the host is lost only after %v", took)
	}
	if host, known := fleet.Host("h1"); !known || host.Health != berth.HealthLost || len(fleet.Hosts()) != 1 || len(fleet.ByLoad()) != 0 {
		t.Errorf("host = %+v, want lost and not in ByLoad", host)
	}
	// Another process has the same id: the workloads of the first process are gone.
	serve(t, b.connect(), newFakeHost("fake"), berth.WithHostID("h1"))
	if lost := want[berth.HostLost](t, events); lost.Reason != berth.ReasonRestarted {
		t.Errorf("event = %+v, want reason restarted", lost)
	}
	want[berth.HostJoined](t, events)
	// A later reader begins with the current hosts.
	if again := want[berth.HostJoined](t, fleet.Events(t.Context())); again.Host.ID() != "h1" || again.Host.Health != berth.HealthAlive {
		t.Errorf("event = %+v, want alive host h1", again)
	}
}

func TestSilentHostIsSuspectThenLostAndRecovers(t *testing.T) {
	b := newBroker(t)
	host := b.connect()
	if _, err := host.SubscribeSync("runtime.host.h1.>"); err != nil { // listens, but never replies
		t.Fatal(err)
	}
	sendHeartbeat := func() {
		if err := host.Publish("runtime.operator.heartbeat.h1", []byte(`{"id":"h1","startedAt":"2027-03-01T09:30:00Z"}`)); err != nil {
			t.Error(err)
		}
	}
	options := berth.LivenessOptions{SettlingPeriod: time.Millisecond, SuspectAfter: 300 * time.Millisecond, LostAfter: time.Second}
	fleet, events := watch(t, b.connect(), options)
	sendHeartbeat()
	want[berth.HostJoined](t, events)
	busyUntil := time.Now().Add(2 * time.Second)
	fleet.ExpectBusy("h1", busyUntil)
	if suspect := want[berth.HostSuspect](t, events); suspect.Reason != berth.ReasonSilent {
		t.Errorf("event = %+v, want reason silent", suspect)
	}
	if lost := want[berth.HostLost](t, events); lost.Reason != berth.ReasonSilent || time.Now().Before(busyUntil) {
		t.Errorf("event = %+v, want reason silent, and not before %v", lost, busyUntil)
	}
	sendHeartbeat()
	if recovered := want[berth.HostRecovered](t, events); recovered.PreviousHealth != berth.HealthLost || recovered.Host.ID() != "h1" {
		t.Errorf("event = %+v, want recovery of h1 from lost", recovered)
	}
	// A start that has been answered does not keep the host busy.
	first, second := fleet.ExpectBusy("h1", time.Now().Add(time.Hour)), fleet.ExpectBusy("h1", time.Now().Add(time.Hour))
	first()
	second()
	want[berth.HostSuspect](t, events)
	want[berth.HostLost](t, events)
}

func TestFleetReportsChangesOfStableFieldsOnly(t *testing.T) {
	b := newBroker(t)
	host := b.connect()
	_, events := watch(t, b.connect(), noProbes)
	sendHeartbeat := func(payload string) {
		if err := host.Publish("runtime.operator.heartbeat.h1", []byte(payload)); err != nil {
			t.Error(err)
		}
	}
	sendHeartbeat(`{"id":"other"}`)
	sendHeartbeat(`{`)
	sendHeartbeat(`{"id":"h1","imports":[{"namespace":"a","package":"b"},{"namespace":"c","package":"d"}]}`)
	want[berth.HostJoined](t, events)
	sendHeartbeat(`{"id":"h1","imports":[{"namespace":"c","package":"d"},{"namespace":"a","package":"b"}],"workloadCount":"7"}`)
	sendHeartbeat(`{"id":"h1","labels":{"zone":"a"}}`)
	if changed := want[berth.HostChanged](t, events); changed.Host.Heartbeat.Labels["zone"] != "a" {
		t.Errorf("event = %+v, want label zone=a", changed)
	}
}

func TestSlowReaderReceivesEventsMissed(t *testing.T) {
	b := newBroker(t)
	host := b.connect()
	fleet, events := watch(t, b.connect(), noProbes)
	sendHeartbeat := func(label string) {
		if err := host.Publish("runtime.operator.heartbeat.h1", []byte(`{"id":"h1","labels":{"l":"`+label+`"}}`)); err != nil {
			t.Error(err)
		}
	}
	for i := range 3000 {
		sendHeartbeat(time.Duration(i).String())
	}
	sendHeartbeat("last")
	eventually(t, "the last heartbeat", func() bool {
		view, _ := fleet.Host("h1")
		return view.Heartbeat.GetLabels()["l"] == "last"
	})
	received, missed := 0, uint64(0)
	for {
		switch event := receive(t, "an event", events).(type) {
		case berth.EventsMissed:
			missed += event.Count
			continue
		case berth.HostChanged:
			received++
			if event.Host.Heartbeat.Labels["l"] != "last" {
				continue
			}
		default:
			received++
			continue
		}
		break
	}
	if missed == 0 || uint64(received)+missed != 3001 {
		t.Errorf("%d received and %d missed, want 3001 in total", received, missed)
	}
}

func TestNoHostIsLostWhileDisconnected(t *testing.T) {
	b := newBroker(t)
	fleet, events := watch(t, b.connect(), berth.LivenessOptions{})
	serve(t, b.connect(), newFakeHost("fake"), berth.WithHostID("h1"), berth.WithHeartbeatInterval(time.Second))
	want[berth.HostJoined](t, events)
	b.stop()
	<-time.After(2 * time.Second) // longer than a dead host needs to be lost
	b.start()
	eventually(t, "a heartbeat after the outage", func() bool {
		host, _ := fleet.Host("h1")
		return time.Since(host.LastHeartbeatAt) < time.Second
	})
	select {
	case event := <-events:
		t.Errorf("event after the outage = %T %+v, want none", event, event)
	case <-time.After(time.Second):
	}
}

func TestEventChannelsCloseWithContextOrFleet(t *testing.T) {
	b := newBroker(t)
	ctx, cancel := context.WithCancel(t.Context())
	fleet, err := berth.WatchFleet(ctx, b.connect())
	if err != nil {
		t.Fatal(err)
	}
	short, end := context.WithCancel(t.Context())
	first, second := fleet.Events(short), fleet.Events(t.Context())
	end()
	if _, open := <-first; open {
		t.Error("an event after the context ended")
	}
	cancel()
	if _, open := <-second; open {
		t.Error("an event after the fleet ended")
	}
	fleet.Close()
	if _, open := <-fleet.Events(t.Context()); open {
		t.Error("an event of a closed fleet")
	}
	conn := b.connect()
	closeAndWait(conn)
	if _, err := berth.WatchFleet(t.Context(), conn); err == nil {
		t.Error("a fleet watches a closed connection")
	}
}
