package tests

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	berth "berth.dev/go"
)

// beats records when heartbeats of h1 arrive, on a connection to a broker that stays.
func heartbeats(t *testing.T, conn *nats.Conn) <-chan time.Time {
	arrived := make(chan time.Time, 1000)
	_, err := conn.Subscribe("runtime.operator.heartbeat.h1", func(msg *nats.Msg) {
		var beat struct{ ID string }
		if err := json.Unmarshal(msg.Data, &beat); err != nil || beat.ID != "h1" {
			t.Errorf("a heartbeat: %s", msg.Data)
		}
		arrived <- time.Now()
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	return arrived
}

func TestHeartbeatsComeAtOnceAndThenAtEachInterval(t *testing.T) {
	b := newBroker(t)
	arrived := heartbeats(t, b.connect())
	began := time.Now()
	serve(t, b.connect(), newToy("toy"), berth.WithHostID("h1"), berth.WithHeartbeatInterval(time.Second))
	first := next(t, "a heartbeat", arrived)
	second := next(t, "another", arrived)
	if first.Sub(began) > patience/2 || second.Sub(first) < 900*time.Millisecond {
		t.Errorf("the first after %v, the second after %v", first.Sub(began), second.Sub(first))
	}
}

func TestAHostMayBeStartedBeforeItsBroker(t *testing.T) {
	b := newBroker(t)
	b.stop()
	conn, err := berth.ConnectEventually(berth.ConnectOptions{Servers: []string{b.url()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(conn) })
	host := newToy("toy")
	serve(t, conn, host, berth.WithHostID("h1"))
	b.start()
	client, err := berth.NewClient(b.connect(), "h1")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "an answer", func() bool {
		_, err := client.Status(t.Context(), "a")
		return err == nil
	})
}

func TestAnOutageOfTheBrokerIsSurvivedWithOneHeartbeat(t *testing.T) {
	b := newBroker(t)
	host := newToy("toy")
	stop := serve(t, b.connect(), host, berth.WithHostID("h1"), berth.WithHeartbeatInterval(time.Second))
	asker := b.connect()
	client, err := berth.NewClient(asker, "h1")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a start", func() bool {
		_, err := client.Start(t.Context(), "a", named("one"))
		return err == nil
	})
	b.stop()
	eventually(t, "the loss of the connection", func() bool { return !asker.IsConnected() })
	// Longer than a few intervals: what was missed must not be made up for.
	<-time.After(3 * time.Second)
	b.start()
	arrived := heartbeats(t, b.connect())
	first := next(t, "a heartbeat after the outage", arrived)
	second := next(t, "another", arrived)
	if apart := second.Sub(first); apart < 900*time.Millisecond {
		t.Errorf("two heartbeats are %v apart", apart)
	}
	eventually(t, "the workload in the host of before", func() bool {
		status, err := client.Status(t.Context(), "a")
		return err == nil && status.State == berth.StateRunning
	})
	if host.count(&host.started) != 1 {
		t.Errorf("started %v", host.started)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestShutdownWithoutABrokerEnds(t *testing.T) {
	b := newBroker(t)
	host := newToy("toy")
	conn := b.connect()
	stop := serve(t, conn, host, berth.WithHostID("h1"))
	client, err := berth.NewClient(b.connect(), "h1")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a start", func() bool {
		_, err := client.Start(context.Background(), "a", named("one"))
		return err == nil
	})
	b.stop()
	eventually(t, "the loss of the connection", func() bool { return !conn.IsConnected() })
	if err := stop(); err != nil {
		t.Error(err)
	}
	if host.count(&host.stopped) != 1 {
		t.Error("the workload is not stopped")
	}
}
