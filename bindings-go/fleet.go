package berth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"berth.dev/go/internal/liveness"
	"berth.dev/go/internal/subject"
	"berth.dev/go/internal/wire"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

const (
	// maxHosts bounds the hosts that are kept in view; beyond this somebody is making them up.
	maxHosts = 10_000

	// maxHeartbeats bounds the heartbeats that have arrived and are not looked at yet.
	maxHeartbeats = 8192

	// probeTimeout is how long a probe waits for an answer.
	probeTimeout = 5 * time.Second

	// probeID is the id that probes ask for. No workload should be called so; if one is, nothing happens
	// to it.
	probeID = "berth-probe"
)

// Fleet is a live view of all hosts, from their heartbeats and from probes.
//
// A host whose process is gone is lost in under two seconds in a small fleet and within ten among
// thousands; a frozen one after a minute, and not before the end of a start that it may be busy with (see
// [Fleet.ExpectBusy]). Nothing is concluded while our own connection settles, and when a large part of the
// fleet vanishes at once the broker is suspected first.
type Fleet struct {
	conn  *nats.Conn
	log   *slog.Logger
	began time.Time

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	// Guards what is below; also held while goroutines are added to running.
	mu       sync.Mutex
	liveness *liveness.Liveness
	views    views
	// The starts that hosts owe an answer to, by when at the latest.
	busy map[string]map[*time.Time]struct{}
}

// FleetOption changes how a fleet is watched.
type FleetOption func(*fleetOptions)

type fleetOptions struct {
	liveness LivenessOptions
	logger   *slog.Logger
}

// WithLiveness sets the times by which hosts are judged.
func WithLiveness(options LivenessOptions) FleetOption {
	return func(o *fleetOptions) { o.liveness = options }
}

// WithFleetLogger sets what is told of heartbeats that cannot be read; [slog.Default] by default.
func WithFleetLogger(logger *slog.Logger) FleetOption {
	return func(o *fleetOptions) { o.logger = logger }
}

// WatchFleet begins to watch all hosts, until ctx ends or the fleet is closed. The error is
// [ErrConnectionClosed].
//
// Hosts are learnt of by their heartbeats only, so a new fleet is complete after one interval: 15 s with
// deployed hosts, 30 s at most.
func WatchFleet(ctx context.Context, conn *nats.Conn, options ...FleetOption) (*Fleet, error) {
	o := fleetOptions{logger: slog.Default()}
	for _, option := range options {
		option(&o)
	}
	heartbeats := make(chan *nats.Msg, maxHeartbeats)
	subscription, err := conn.ChanSubscribe(subject.AllHeartbeats, heartbeats)
	if err != nil {
		return nil, fmt.Errorf("%w: cannot subscribe to heartbeats: %w", ErrConnectionClosed, err)
	}
	watching, cancel := context.WithCancel(ctx)
	f := &Fleet{
		conn: conn, log: o.logger, began: time.Now(), ctx: watching, cancel: cancel,
		liveness: liveness.New(liveness.Options(o.liveness.withDefaults())),
		busy:     make(map[string]map[*time.Time]struct{}),
	}
	f.running.Go(func() {
		defer cancel()
		f.watch(heartbeats)
		// An error says that the connection is closed, and with it the subscription.
		_ = subscription.Unsubscribe()
	})
	return f, nil
}

// Close ends the watching and all channels of events. When it returns, nothing of the fleet runs.
func (f *Fleet) Close() {
	f.mu.Lock()
	f.cancel()
	f.mu.Unlock()
	f.running.Wait()
}

// Hosts gives all hosts, the lost ones that are still remembered included, in the order of their ids.
func (f *Fleet) Hosts() []HostView {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.views.all()
}

// Host gives one host.
func (f *Fleet) Host(hostID string) (host HostView, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.views.get(hostID)
}

// ByLoad gives the hosts that are not lost, fewest workloads first; those that are alive before those that
// are suspect. A first idea of where to place something, not a scheduler.
func (f *Fleet) ByLoad() []HostView {
	hosts := slices.DeleteFunc(f.Hosts(), func(h HostView) bool { return h.Health == HealthLost })
	slices.SortStableFunc(hosts, func(a, b HostView) int {
		return cmp.Or(
			cmp.Compare(a.Health, b.Health),
			cmp.Compare(a.Heartbeat.GetWorkloadCount(), b.Heartbeat.GetWorkloadCount()),
		)
	})
	return hosts
}

// Client gives a client for one host. The error is [ErrHostID].
func (f *Fleet) Client(hostID string, options ...ClientOption) (*Client, error) {
	return NewClient(f.conn, hostID, options...)
}

// ExpectBusy notes that a host was given a start and may be silent over it until then: it is not lost for
// its silence before. A wash host is silent while it pulls. Call the function that it returns when the start
// has been answered, or the host can be frozen for so long without anybody noticing.
func (f *Fleet) ExpectBusy(hostID string, until time.Time) (answered func()) {
	expected := &until
	f.setBusy(hostID, func(starts map[*time.Time]struct{}) { starts[expected] = struct{}{} })
	return func() {
		f.setBusy(hostID, func(starts map[*time.Time]struct{}) { delete(starts, expected) })
	}
}

func (f *Fleet) setBusy(hostID string, change func(starts map[*time.Time]struct{})) {
	f.step(func(l *liveness.Liveness, _ time.Duration) []liveness.Action {
		starts := f.busy[hostID]
		if starts == nil {
			starts = make(map[*time.Time]struct{})
			f.busy[hostID] = starts
		}
		change(starts)
		if len(starts) == 0 {
			delete(f.busy, hostID)
		}
		latest := f.began
		for until := range starts {
			if until.After(latest) {
				latest = *until
			}
		}
		return l.BusyUntil(hostID, latest.Sub(f.began))
	})
}

// Events tells of changes, in order, until ctx ends or the fleet is closed; then the channel is closed.
//
// It begins with a [HostJoined] for each host that is there, so nothing is missed between a look at
// [Fleet.Hosts] and the first event. The reader may be 1024 events behind; a slower one is told how many it
// missed with [EventsMissed]. Each call gives another channel with all events.
func (f *Fleet) Events(ctx context.Context) <-chan FleetEvent {
	out := make(chan FleetEvent)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil {
		close(out)
		return out
	}
	reader := f.views.subscribe()
	f.running.Go(func() {
		defer close(out)
		defer f.unsubscribe(reader)
		for {
			for event := range reader.taken {
				select {
				case out <- event:
				case <-ctx.Done():
					return
				case <-f.ctx.Done():
					return
				}
			}
			select {
			case <-reader.wake:
			case <-ctx.Done():
				return
			case <-f.ctx.Done():
				return
			}
		}
	})
	return out
}

func (f *Fleet) unsubscribe(reader *eventReader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.views.unsubscribe(reader)
}

// watch takes heartbeats in, keeps time, and lets liveness judge.
func (f *Fleet) watch(heartbeats <-chan *nats.Msg) {
	ticker := time.NewTicker(liveness.Tick)
	defer ticker.Stop()
	var seen link
	for {
		select {
		case <-f.ctx.Done():
			return
		case msg := <-heartbeats:
			f.heartbeat(msg)
		case <-ticker.C:
			if f.conn.IsClosed() {
				f.log.Warn("the connection was closed; no longer watching")
				return
			}
			seen = f.lookAtLink(seen)
			f.step(func(l *liveness.Liveness, now time.Duration) []liveness.Action { return l.Tick(now) })
		}
	}
}

// lookAtLink tells liveness of the connection. One that went and came back between two looks has gone and
// come back all the same.
func (f *Fleet) lookAtLink(seen link) link {
	now := linkOf(f.conn)
	f.step(func(l *liveness.Liveness, at time.Duration) []liveness.Action {
		switch {
		case now.connected && (!seen.connected || now.connects != seen.connects):
			return l.LinkUp(at)
		case !now.connected && seen.connected:
			return l.LinkDown()
		}
		return nil
	})
	return now
}

func (f *Fleet) heartbeat(msg *nats.Msg) {
	hostID, ok := subject.ParseHeartbeat(msg.Subject)
	if !ok {
		return
	}
	heartbeat := &runtimev2.HostHeartbeat{}
	if err := wire.Read(msg.Data, heartbeat); err != nil {
		f.log.Warn("a heartbeat cannot be read", "host_id", hostID, "error", err)
		return
	}
	if heartbeat.Id != hostID {
		f.log.Warn("a heartbeat holds another id than its subject", "host_id", hostID)
		return
	}
	f.step(func(l *liveness.Liveness, now time.Duration) []liveness.Action {
		if _, known := f.views.get(hostID); !known && l.Len() >= maxHosts {
			f.log.Warn("there are too many hosts; one is left out", "host_id", hostID)
			return nil
		}
		f.views.beat(heartbeat, time.Now())
		return l.Heartbeat(now, hostID)
	})
}

// step puts an event to liveness and carries out what it says.
func (f *Fleet) step(event func(l *liveness.Liveness, now time.Duration) []liveness.Action) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil {
		return
	}
	for _, action := range event(f.liveness, time.Since(f.began)) {
		switch action := action.(type) {
		case liveness.Probe:
			f.running.Go(func() { f.probe(action.Host) })
		case liveness.Tell:
			f.views.judge(action.Host, Health(action.Health), Reason(action.Reason))
		case liveness.Forget:
			f.views.forget(action.Host)
		}
	}
}

// probe asks for a status, and not for a heartbeat, which disturbs the load that a wash host measures.
func (f *Fleet) probe(hostID string) {
	client, err := f.Client(hostID, WithTimeouts(Timeouts{Status: probeTimeout}))
	if err == nil {
		_, err = client.Status(f.ctx, probeID)
	}
	f.step(func(l *liveness.Liveness, now time.Duration) []liveness.Action {
		switch {
		case err == nil, errors.Is(err, ErrRefused), errors.Is(err, ErrMalformed):
			return l.Answered(now, hostID)
		case errors.Is(err, ErrNoResponders):
			return l.NoResponders(now, hostID)
		default:
			return l.NoAnswer(now, hostID)
		}
	})
}
