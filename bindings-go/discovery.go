package berth

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"berth.dev/go/internal/subject"
	"berth.dev/go/internal/wire"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

const (
	// discoverLabel announces the extension discover (HOST-EXT-001).
	discoverLabel = "berth.dev/discover"

	// maxDiscoveryDelay bounds the random delay of a reply to a discovery request, so that the hosts of a large fleet do
	// not reply at once. A host has 1 s.
	maxDiscoveryDelay = 250 * time.Millisecond

	// maxDiscoveryReplies bounds the replies that wait for their time; further requests are ignored. One request reaches
	// all hosts, so an unbounded number would multiply a flood.
	maxDiscoveryReplies = 16

	// discoveryWindow is how long a fleet accepts replies to a request: 1 s for the hosts, the rest for a busy network.
	discoveryWindow = 2 * time.Second

	// maxDiscoveryRequests bounds the concurrent requests for the heartbeats of discovered hosts.
	maxDiscoveryRequests = 64
)

// discoveryResponder replies to discovery requests with the heartbeats of a host.
type discoveryResponder struct {
	server *server
	// slots has an element for each reply that waits.
	slots   chan struct{}
	stop    chan struct{}
	waiting sync.WaitGroup
}

// respondToDiscovery replies to discovery requests until the returned function is called. Without the permission to
// subscribe, the host is discovered by its heartbeats.
func (s *server) respondToDiscovery() (stop func()) {
	r := &discoveryResponder{server: s, slots: make(chan struct{}, maxDiscoveryReplies), stop: make(chan struct{})}
	requests := make(chan *nats.Msg, maxDiscoveryReplies)
	subscription, err := s.conn.ChanSubscribe(subject.Discover, requests)
	if err != nil {
		s.log.Debug("cannot subscribe to discovery requests", "error", err)
		return func() {}
	}
	r.waiting.Go(func() { r.receive(requests) })
	return func() {
		// An error means that the connection is closed, and the subscription with it.
		_ = subscription.Unsubscribe()
		close(r.stop)
		r.waiting.Wait()
	}
}

func (r *discoveryResponder) receive(requests <-chan *nats.Msg) {
	for {
		select {
		case <-r.stop:
			return
		case request := <-requests:
			if request == nil {
				return
			}
			select {
			case r.slots <- struct{}{}:
				r.waiting.Go(func() { r.reply(request.Reply) })
			default:
			}
		}
	}
}

func (r *discoveryResponder) reply(to string) {
	defer func() { <-r.slots }()
	timer := time.NewTimer(rand.N(maxDiscoveryDelay))
	defer timer.Stop()
	select {
	case <-r.stop:
	case <-timer.C:
		r.server.requestHeartbeat(to)
	}
}

// discover asks for hosts after each connect, until the fleet is closed.
func (f *Fleet) discover() {
	var asked *connectionState
	for waitForConnection(f.ctx, f.conn, func(current connectionState) bool {
		return current.connected && (asked == nil || current.generation != asked.generation)
	}) {
		current := connectionStateOf(f.conn)
		asked = &current
		if err := f.askForHosts(); err != nil {
			f.log.Debug("cannot ask for hosts", "error", err)
		}
	}
}

// askForHosts asks once. A reply only names a host, because any client can send it; the heartbeat is then requested on
// the subject of that host, on which only the host can reply.
func (f *Fleet) askForHosts() error {
	replies, inbox := make(chan *nats.Msg, maxPendingHeartbeats), f.conn.NewInbox()
	subscription, err := f.conn.ChanSubscribe(inbox, replies)
	if err != nil {
		return err
	}
	// An error means that the connection is closed, and the subscription with it.
	defer func() { _ = subscription.Unsubscribe() }()
	if err := f.conn.PublishRequest(subject.Discover, inbox, nil); err != nil {
		return err
	}
	window, cancel := context.WithTimeout(f.ctx, discoveryWindow)
	defer cancel()
	named, slots := make(map[string]struct{}), make(chan struct{}, maxDiscoveryRequests)
	var requests sync.WaitGroup
	defer requests.Wait()
	for {
		select {
		case <-window.Done():
			return nil
		case reply := <-replies:
			hostID, ok := namedHost(reply)
			if _, again := named[hostID]; !ok || again || len(named) >= maxHosts || f.isPresent(hostID) {
				continue
			}
			named[hostID] = struct{}{}
			select {
			case slots <- struct{}{}:
			case <-f.ctx.Done():
				return nil
			}
			requests.Go(func() {
				defer func() { <-slots }()
				f.requestHeartbeat(hostID)
			})
		}
	}
}

func namedHost(reply *nats.Msg) (hostID string, ok bool) {
	heartbeat := &runtimev2.HostHeartbeat{}
	if reply == nil || wire.Decode(reply.Data, heartbeat) != nil {
		return "", false
	}
	return heartbeat.Id, subject.IsHostID(heartbeat.Id)
}

// isPresent reports whether a host is known and not lost, so that its own heartbeats are newer than a requested one.
func (f *Fleet) isPresent(hostID string) bool {
	host, known := f.Host(hostID)
	return known && host.Health != HealthLost
}

func (f *Fleet) requestHeartbeat(hostID string) {
	client, err := f.Client(hostID)
	if err != nil {
		return
	}
	heartbeat, err := client.Heartbeat(f.ctx)
	if err != nil {
		f.log.Debug("cannot request heartbeat", "host_id", hostID, "error", err)
		return
	}
	if !f.isPresent(hostID) {
		f.applyHeartbeat(heartbeat)
	}
}
