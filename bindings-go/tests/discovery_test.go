package tests

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	berth "berth.dev/go"
)

const discover = "berth.ext.v1.discover"

// slowHeartbeats keeps a host from sending a second heartbeat within a test.
var slowHeartbeats = berth.WithHeartbeatInterval(30 * time.Second)

func TestFleetDiscoversHostsBetweenTheirHeartbeats(t *testing.T) {
	b := newBroker(t)
	caller := b.connect()
	heartbeats, err := caller.SubscribeSync("runtime.operator.heartbeat.*")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		serve(t, b.connect(), newFakeHost("fake"), berth.WithHostID(fmt.Sprintf("h%d", i)), slowHeartbeats)
	}
	for range 3 {
		if _, err := heartbeats.NextMsg(testTimeout); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	fleet, events := watch(t, b.connect(), noProbes)
	for range 3 {
		want[berth.HostJoined](t, events)
	}
	if took := time.Since(began); took > 10*time.Second || len(fleet.Hosts()) != 3 {
		t.Errorf("%d hosts after %v, want 3 within a second", len(fleet.Hosts()), took)
	}
}

func TestHostAnnouncesAndAnswersDiscovery(t *testing.T) {
	f := newFixture(t)
	began := time.Now()
	msg, err := f.caller.Request(discover, []byte("anything"), testTimeout)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("answered after %v, want at most 1 s", took)
	}
	var heartbeat struct {
		ID     string
		Labels map[string]string
	}
	if err := json.Unmarshal(msg.Data, &heartbeat); err != nil {
		t.Fatal(err)
	}
	if heartbeat.ID != "h1" || heartbeat.Labels["berth.dev/discover"] != "true" || heartbeat.Labels["hostgroup"] != "test" {
		t.Errorf("reply = %s", msg.Data)
	}
	// HOST-WIRE-015: no reply becomes a command to another host.
	commands, err := f.caller.SubscribeSync("runtime.host.h2.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.caller.PublishRequest(discover, "runtime.host.h2.workload.stop", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := f.caller.Request(discover, nil, testTimeout); err != nil {
		t.Fatal(err)
	}
	if msg, err := commands.NextMsg(time.Millisecond); err == nil {
		t.Errorf("the host sent %s to another host", msg.Data)
	}
}

func TestFloodOfDiscoveryRequestsIsAnsweredInPart(t *testing.T) {
	f := newFixture(t)
	inbox := f.caller.NewInbox()
	replies, err := f.caller.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	const requests = 10_000
	for range requests {
		if err := f.caller.PublishRequest(discover, inbox, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.client.Heartbeat(t.Context()); err != nil {
		t.Error(err)
	}
	count := 0
	for ; ; count++ {
		if _, err := replies.NextMsg(time.Second); err != nil {
			break
		}
	}
	if count == 0 || count > requests/10 {
		t.Errorf("%d replies to %d requests at once, want some", count, requests)
	}
}

// A reply proves nothing: any client can send one. Only hosts that reply on their own subjects join.
func TestForgedDiscoveryRepliesAddNoHosts(t *testing.T) {
	b := newBroker(t)
	forger := b.connect()
	requests, err := forger.SubscribeSync(discover)
	if err != nil {
		t.Fatal(err)
	}
	real := b.connect()
	asked, err := real.SubscribeSync("runtime.host.real.heartbeat")
	if err != nil {
		t.Fatal(err)
	}
	for _, conn := range []interface{ Flush() error }{forger, real} {
		if err := conn.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	fleet, events := watch(t, b.connect(), noProbes)
	request, err := requests.NextMsg(testTimeout)
	if err != nil {
		t.Fatal(err)
	}
	for _, reply := range []string{
		``, `{`, `{"id":""}`, `{"id":"a.b"}`, `{"id":"*"}`, `{"id":"forged"}`, `{"id":"real","friendlyName":"forged"}`, `{"id":"real"}`,
	} {
		if err := request.Respond([]byte(reply)); err != nil {
			t.Fatal(err)
		}
	}
	heartbeatRequest, err := asked.NextMsg(testTimeout)
	if err != nil {
		t.Fatal(err)
	}
	if err := heartbeatRequest.Respond([]byte(`{"id":"real","friendlyName":"true-name","startedAt":"2027-03-01T09:30:00Z"}`)); err != nil {
		t.Fatal(err)
	}
	joined := want[berth.HostJoined](t, events)
	if joined.Host.ID() != "real" || joined.Host.Heartbeat.FriendlyName != "true-name" || len(fleet.Hosts()) != 1 {
		t.Errorf("hosts = %+v, want the one that replied on its own subject", fleet.Hosts())
	}
	if again, err := asked.NextMsg(time.Millisecond); err == nil {
		t.Errorf("a host was asked twice: %s", again.Data)
	}
}

func TestFleetAsksAgainAfterReconnect(t *testing.T) {
	b := newBroker(t)
	fleet, events := watch(t, b.connect(), noProbes)
	b.stop()
	b.start()
	serve(t, b.connect(), newFakeHost("fake"), berth.WithHostID("h1"), slowHeartbeats)
	want[berth.HostJoined](t, events)
	if len(fleet.Hosts()) != 1 {
		t.Errorf("hosts = %+v", fleet.Hosts())
	}
}

// Hosts and fleets of a broker that does not permit the extension work as before.
func TestDiscoveryIsOptional(t *testing.T) {
	b := newBroker(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "ann", Password: "pw", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Deny: []string{"berth.ext.>"}},
			Subscribe: &server.SubjectPermission{Deny: []string{"berth.ext.>"}},
		}}}
	})
	connect := func() berth.ConnectOptions {
		return berth.ConnectOptions{Servers: []string{b.url()}, User: "ann", Password: "pw"}
	}
	watching, err := berth.Connect(t.Context(), connect())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAndWait(watching) })
	serving, err := berth.Connect(t.Context(), connect())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAndWait(serving) })
	_, events := watch(t, watching, noProbes)
	serve(t, serving, newFakeHost("fake"), berth.WithHostID("h1"), slowHeartbeats)
	want[berth.HostJoined](t, events)
}
