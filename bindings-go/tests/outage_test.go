package tests

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	berth "berth.dev/go"
)

// heartbeats returns the arrival times of the heartbeats of h1.
func heartbeats(t *testing.T, conn *nats.Conn) <-chan time.Time {
	arrived := make(chan time.Time, 1000)
	_, err := conn.Subscribe("runtime.operator.heartbeat.h1", func(msg *nats.Msg) {
		var heartbeat struct{ ID string }
		if err := json.Unmarshal(msg.Data, &heartbeat); err != nil || heartbeat.ID != "h1" {
			t.Errorf("heartbeat = %s", msg.Data)
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

func TestHeartbeatsStartAtOnceAndRepeat(t *testing.T) {
	b := newBroker(t)
	arrived := heartbeats(t, b.connect())
	began := time.Now()
	serve(t, b.connect(), newFakeHost("fake"), berth.WithHostID("h1"), berth.WithHeartbeatInterval(time.Second))
	first := receive(t, "a heartbeat", arrived)
	second := receive(t, "a second heartbeat", arrived)
	if first.Sub(began) > testTimeout/2 || second.Sub(first) < 900*time.Millisecond {
		t.Errorf("first heartbeat after %v, second %v later", first.Sub(began), second.Sub(first))
	}
}

func TestHostStartsBeforeBroker(t *testing.T) {
	b := newBroker(t)
	b.stop()
	conn, err := berth.ConnectWithRetry(berth.ConnectOptions{Servers: []string{b.url()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAndWait(conn) })
	host := newFakeHost("fake")
	serve(t, conn, host, berth.WithHostID("h1"))
	b.start()
	client, err := berth.NewClient(b.connect(), "h1")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a reply", func() bool {
		_, err := client.Status(t.Context(), "a")
		return err == nil
	})
}

func TestOutageIsFollowedByOneHeartbeat(t *testing.T) {
	b := newBroker(t)
	host := newFakeHost("fake")
	stop := serve(t, b.connect(), host, berth.WithHostID("h1"), berth.WithHeartbeatInterval(time.Second))
	caller := b.connect()
	client, err := berth.NewClient(caller, "h1")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a start", func() bool {
		_, err := client.Start(t.Context(), "a", workloadNamed("one"))
		return err == nil
	})
	b.stop()
	eventually(t, "disconnect", func() bool { return !caller.IsConnected() })
	// Longer than a few intervals: the missed heartbeats must not be sent later.
	<-time.After(3 * time.Second)
	b.start()
	arrived := heartbeats(t, b.connect())
	first := receive(t, "a heartbeat after the outage", arrived)
	second := receive(t, "a second heartbeat", arrived)
	if gap := second.Sub(first); gap < 900*time.Millisecond {
		t.Errorf("two heartbeats within %v", gap)
	}
	eventually(t, "the workload on the same host", func() bool {
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

func TestShutdownWithoutBrokerStopsWorkloads(t *testing.T) {
	b := newBroker(t)
	host := newFakeHost("fake")
	conn := b.connect()
	stop := serve(t, conn, host, berth.WithHostID("h1"))
	client, err := berth.NewClient(b.connect(), "h1")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a start", func() bool {
		_, err := client.Start(context.Background(), "a", workloadNamed("one"))
		return err == nil
	})
	b.stop()
	eventually(t, "disconnect", func() bool { return !conn.IsConnected() })
	if err := stop(); err != nil {
		t.Error(err)
	}
	if host.count(&host.stopped) != 1 {
		t.Error("the workload is not stopped")
	}
}
