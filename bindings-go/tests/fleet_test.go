package tests

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	berth "berth.dev/go"
)

// quick judges soon, for hosts that beat each second.
var quick = berth.LivenessOptions{Settle: time.Millisecond, SuspectAfter: 3 * time.Second, LostAfter: 5 * time.Second}

// unprobed is for hosts that only beat: a probe would find nobody.
var unprobed = berth.LivenessOptions{ProbeInterval: time.Hour}

func watch(t *testing.T, conn *nats.Conn, options berth.LivenessOptions) (*berth.Fleet, <-chan berth.FleetEvent) {
	fleet, err := berth.WatchFleet(t.Context(), conn, berth.WithLiveness(options))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fleet.Close)
	if err := conn.Flush(); err != nil { // the subscription is in effect
		t.Fatal(err)
	}
	return fleet, fleet.Events(t.Context())
}

// want gives the next event, which must be of this kind.
func want[E berth.FleetEvent](t *testing.T, events <-chan berth.FleetEvent) E {
	t.Helper()
	var wanted E
	event := next(t, "an event", events)
	got, ok := event.(E)
	if !ok {
		t.Fatalf("%T %+v comes, and no %T", event, event, wanted)
	}
	return got
}

func TestAHostJoinsLeavesAndIsLostSoon(t *testing.T) {
	b := newBroker(t)
	fleet, events := watch(t, b.connect(), quick)
	stop := serve(t, b.connect(), newToy("toy"), berth.WithHostID("h1"))
	joined := want[berth.HostJoined](t, events)
	if joined.Host.ID() != "h1" || joined.Host.Health != berth.HealthAlive || joined.Host.Heartbeat.FriendlyName != "toy" {
		t.Errorf("%+v", joined)
	}
	client, err := fleet.Client("h1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Start(t.Context(), "a", named("one")); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	died := time.Now()
	if suspect := want[berth.HostSuspect](t, events); suspect != (berth.HostSuspect{HostID: "h1", Reason: berth.ReasonNoResponders}) {
		t.Errorf("%+v", suspect)
	}
	if lost := want[berth.HostLost](t, events); lost != (berth.HostLost{HostID: "h1", Reason: berth.ReasonNoResponders}) {
		t.Errorf("%+v", lost)
	}
	if took := time.Since(died); took > patience/2 {
		t.Errorf("lost after %v", took)
	}
	if host, known := fleet.Host("h1"); !known || host.Health != berth.HealthLost || len(fleet.Hosts()) != 1 || len(fleet.ByLoad()) != 0 {
		t.Errorf("%+v", host)
	}
	// The same id in another process: what ran in the first is gone.
	serve(t, b.connect(), newToy("toy"), berth.WithHostID("h1"))
	if lost := want[berth.HostLost](t, events); lost.Reason != berth.ReasonRestarted {
		t.Errorf("%+v", lost)
	}
	want[berth.HostJoined](t, events)
	// A later reader begins with what is there.
	if again := want[berth.HostJoined](t, fleet.Events(t.Context())); again.Host.ID() != "h1" || again.Host.Health != berth.HealthAlive {
		t.Errorf("%+v", again)
	}
}

func TestASilentHostIsSuspectLostAndReturns(t *testing.T) {
	b := newBroker(t)
	host := b.connect()
	if _, err := host.SubscribeSync("runtime.host.h1.>"); err != nil { // listens and says nothing
		t.Fatal(err)
	}
	beat := func() {
		if err := host.Publish("runtime.operator.heartbeat.h1", []byte(`{"id":"h1","startedAt":"2027-03-01T09:30:00Z"}`)); err != nil {
			t.Error(err)
		}
	}
	options := berth.LivenessOptions{Settle: time.Millisecond, SuspectAfter: 300 * time.Millisecond, LostAfter: time.Second}
	fleet, events := watch(t, b.connect(), options)
	beat()
	want[berth.HostJoined](t, events)
	busy := time.Now().Add(2 * time.Second)
	fleet.ExpectBusy("h1", busy)
	if suspect := want[berth.HostSuspect](t, events); suspect.Reason != berth.ReasonSilent {
		t.Errorf("%+v", suspect)
	}
	if lost := want[berth.HostLost](t, events); lost.Reason != berth.ReasonSilent || time.Now().Before(busy) {
		t.Errorf("%+v while it was busy", lost)
	}
	beat()
	if returned := want[berth.HostReturned](t, events); returned.Was != berth.HealthLost || returned.Host.ID() != "h1" {
		t.Errorf("%+v", returned)
	}
	// A start that was answered is no excuse.
	answered, second := fleet.ExpectBusy("h1", time.Now().Add(time.Hour)), fleet.ExpectBusy("h1", time.Now().Add(time.Hour))
	answered()
	second()
	want[berth.HostSuspect](t, events)
	want[berth.HostLost](t, events)
}

func TestChangesThatMatterAreTold(t *testing.T) {
	b := newBroker(t)
	host := b.connect()
	_, events := watch(t, b.connect(), unprobed)
	beat := func(payload string) {
		if err := host.Publish("runtime.operator.heartbeat.h1", []byte(payload)); err != nil {
			t.Error(err)
		}
	}
	beat(`{"id":"other"}`)
	beat(`{`)
	beat(`{"id":"h1","imports":[{"namespace":"a","package":"b"},{"namespace":"c","package":"d"}]}`)
	want[berth.HostJoined](t, events)
	beat(`{"id":"h1","imports":[{"namespace":"c","package":"d"},{"namespace":"a","package":"b"}],"workloadCount":"7"}`)
	beat(`{"id":"h1","labels":{"zone":"a"}}`)
	if changed := want[berth.HostChanged](t, events); changed.Host.Heartbeat.Labels["zone"] != "a" {
		t.Errorf("%+v", changed)
	}
}

func TestASlowReaderIsToldWhatItMissed(t *testing.T) {
	b := newBroker(t)
	host := b.connect()
	fleet, events := watch(t, b.connect(), unprobed)
	beat := func(label string) {
		if err := host.Publish("runtime.operator.heartbeat.h1", []byte(`{"id":"h1","labels":{"l":"`+label+`"}}`)); err != nil {
			t.Error(err)
		}
	}
	for i := range 3000 {
		beat(time.Duration(i).String())
	}
	beat("last")
	eventually(t, "the last heartbeat", func() bool {
		view, _ := fleet.Host("h1")
		return view.Heartbeat.GetLabels()["l"] == "last"
	})
	told, missed := 0, uint64(0)
	for {
		switch event := next(t, "an event", events).(type) {
		case berth.EventsMissed:
			missed += event.Events
			continue
		case berth.HostChanged:
			told++
			if event.Host.Heartbeat.Labels["l"] != "last" {
				continue
			}
		default:
			told++
			continue
		}
		break
	}
	if missed == 0 || uint64(told)+missed != 3001 {
		t.Errorf("%d told and %d missed", told, missed)
	}
}

func TestNothingIsLostWhileTheBrokerIsAway(t *testing.T) {
	b := newBroker(t)
	fleet, events := watch(t, b.connect(), berth.LivenessOptions{})
	serve(t, b.connect(), newToy("toy"), berth.WithHostID("h1"), berth.WithHeartbeatInterval(time.Second))
	want[berth.HostJoined](t, events)
	b.stop()
	<-time.After(2 * time.Second) // longer than it takes to lose a host that is dead
	b.start()
	eventually(t, "a heartbeat after the outage", func() bool {
		host, _ := fleet.Host("h1")
		return time.Since(host.BeatAt) < time.Second
	})
	select {
	case event := <-events:
		t.Errorf("%T %+v", event, event)
	case <-time.After(time.Second):
	}
}

func TestEventsEndWithTheirContextAndWithTheFleet(t *testing.T) {
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
	closed(conn)
	if _, err := berth.WatchFleet(t.Context(), conn); err == nil {
		t.Error("a closed connection is watched")
	}
}
