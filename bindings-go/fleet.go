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
	"berth.dev/go/internal/loglimit"
	"berth.dev/go/internal/subject"
	"berth.dev/go/internal/wire"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

const (
	// maxHosts bounds the hosts in the view; more hosts can only come from a peer that forges heartbeats.
	maxHosts = 10_000

	// maxPendingHeartbeats bounds the heartbeats that have arrived and are not processed yet; nats.go drops
	// the excess.
	maxPendingHeartbeats = 8192

	// probeTimeout is how long a probe waits for a reply.
	probeTimeout = 5 * time.Second

	// probeID is the workload id that probes ask for. No workload should have this id; if one does, the
	// probe does not affect it.
	probeID = "berth-probe"
)

// Fleet is a live view of all hosts, built from their heartbeats and from probes.
//
// A host whose process has ended is lost in under two seconds in a small fleet and within ten seconds among
// thousands. By default, a frozen host is lost 35 s after its last heartbeat or reply, but not while a start
// that was announced with [Fleet.ExpectBusy] is in flight. After a (re)connect of the Fleet, it declares no
// host lost during a settling period; when many hosts disappear at once, it suspects the broker first.
type Fleet struct {
	conn     *nats.Conn
	log      *slog.Logger
	logLimit *loglimit.Handler
	began    time.Time

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	// mu guards the fields below; it is also held while goroutines are added to running.
	mu       sync.Mutex
	liveness *liveness.Liveness
	views    views
	// busy holds the deadline of each start in flight, by host.
	busy map[string]map[*time.Time]struct{}
}

// FleetOption changes how a fleet is watched.
type FleetOption func(*fleetOptions)

type fleetOptions struct {
	liveness LivenessOptions
	logger   *slog.Logger
}

// WithLiveness sets the intervals and thresholds by which hosts are suspect or lost.
func WithLiveness(options LivenessOptions) FleetOption {
	return func(o *fleetOptions) { o.liveness = options }
}

// WithFleetLogger sets the logger for invalid heartbeats; the default, and nil, is [slog.Default]. At most five lines
// with the same text are logged in each minute, and the number of the others.
func WithFleetLogger(logger *slog.Logger) FleetOption {
	return func(o *fleetOptions) { o.logger = logger }
}

// WatchFleet watches all hosts until ctx ends or the fleet is closed. It returns [ErrConnectionClosed] if the
// connection is closed.
//
// A new fleet asks for hosts: those with the label berth.dev/discover, such as the hosts of [Serve], join within about a
// second. The others are discovered by their next heartbeat: within 15 s with a wash host, 30 s at most.
func WatchFleet(ctx context.Context, conn *nats.Conn, options ...FleetOption) (*Fleet, error) {
	var o fleetOptions
	for _, option := range options {
		if option != nil {
			option(&o)
		}
	}
	heartbeats := make(chan *nats.Msg, maxPendingHeartbeats)
	subscription, err := conn.ChanSubscribe(subject.AllHeartbeats, heartbeats)
	if err != nil {
		return nil, fmt.Errorf("%w: cannot subscribe to heartbeats: %w", ErrConnectionClosed, err)
	}
	watching, cancel := context.WithCancel(ctx)
	log, logLimit := loglimit.New(o.logger)
	f := &Fleet{
		conn: conn, log: log, logLimit: logLimit, began: time.Now(), ctx: watching, cancel: cancel,
		liveness: liveness.New(o.liveness.WithDefaults()),
		busy:     make(map[string]map[*time.Time]struct{}),
	}
	f.running.Go(f.discover)
	f.running.Go(func() {
		defer cancel()
		f.watch(heartbeats)
		// An error means that the connection is closed, and the subscription with it.
		_ = subscription.Unsubscribe()
	})
	return f, nil
}

// Close stops the fleet and closes all event channels. When it returns, all goroutines of the fleet have ended.
func (f *Fleet) Close() {
	f.mu.Lock()
	f.cancel()
	f.mu.Unlock()
	f.running.Wait()
}

// Hosts returns all hosts, sorted by id, including lost hosts that are not forgotten yet.
func (f *Fleet) Hosts() []HostView {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.views.all()
}

// Host returns the host with this id, if the fleet knows it.
func (f *Fleet) Host(hostID string) (host HostView, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.views.get(hostID)
}

// ByLoad returns the hosts that are not lost: alive hosts before suspect ones, then by ascending number of
// workloads. The order is a starting point for placement, not a scheduler.
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

// Client returns a client for one host. It returns [ErrInvalidHostID] if the id is not a valid subject token.
func (f *Fleet) Client(hostID string, options ...ClientOption) (*Client, error) {
	return NewClient(f.conn, hostID, options...)
}

// ExpectBusy records that a start is in flight on a host, until a deadline. Before the deadline, silence alone
// does not make the host lost: a wash host, for example, is silent while it pulls an image. Call done when the
// start has been answered; otherwise a frozen host remains undetected until the deadline.
func (f *Fleet) ExpectBusy(hostID string, until time.Time) (done func()) {
	deadline := &until
	f.setBusy(hostID, func(starts map[*time.Time]struct{}) { starts[deadline] = struct{}{} })
	return func() {
		f.setBusy(hostID, func(starts map[*time.Time]struct{}) { delete(starts, deadline) })
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
		return l.SetBusyUntil(hostID, latest.Sub(f.began))
	})
}

// Events returns a channel of all later changes, in order. It is closed when ctx ends or the fleet is closed.
//
// The channel begins with a [HostJoined] for each host that is not lost, so no change is missed between
// [Fleet.Hosts] and the first event. Another process with the id of a host, lost or not, is reported as [HostLost] with
// [ReasonRestarted] and then [HostJoined]. A reader may be 1024 events behind; a slower reader loses the oldest
// events and receives their number in [EventsMissed]. Each call returns a channel of its own.
func (f *Fleet) Events(ctx context.Context) <-chan FleetEvent {
	out := make(chan FleetEvent)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil {
		close(out)
		return out
	}
	queue := f.views.subscribe()
	f.running.Go(func() {
		defer close(out)
		defer f.unsubscribe(queue)
		for {
			for event := range queue.drain {
				select {
				case out <- event:
				case <-ctx.Done():
					return
				case <-f.ctx.Done():
					return
				}
			}
			select {
			case <-queue.wake:
			case <-ctx.Done():
				return
			case <-f.ctx.Done():
				return
			}
		}
	})
	return out
}

func (f *Fleet) unsubscribe(queue *eventQueue) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.views.unsubscribe(queue)
}

// watch processes heartbeats and ticks until the fleet or its connection is closed.
func (f *Fleet) watch(heartbeats <-chan *nats.Msg) {
	ticker := time.NewTicker(liveness.Tick)
	defer ticker.Stop()
	defer func() { f.logLimit.Close(time.Now()) }()
	var previous connectionState
	for {
		select {
		case <-f.ctx.Done():
			return
		case msg := <-heartbeats:
			f.onHeartbeat(msg)
		case <-ticker.C:
			if f.conn.IsClosed() {
				f.log.Warn("stopped watching the fleet: the connection to the broker is closed")
				return
			}
			f.logLimit.Flush(time.Now())
			previous = f.checkConnection(previous)
			f.step(func(l *liveness.Liveness, now time.Duration) []liveness.Action { return l.OnTick(now) })
		}
	}
}

// checkConnection passes a change of the connection to liveness. A reconnect between two checks counts as a
// connect.
func (f *Fleet) checkConnection(previous connectionState) connectionState {
	current := connectionStateOf(f.conn)
	f.step(func(l *liveness.Liveness, now time.Duration) []liveness.Action {
		switch {
		case current.connected && (!previous.connected || current.generation != previous.generation):
			return l.OnConnected(now)
		case !current.connected && previous.connected:
			return l.OnDisconnected()
		}
		return nil
	})
	return current
}

func (f *Fleet) onHeartbeat(msg *nats.Msg) {
	hostID, ok := subject.ParseHeartbeat(msg.Subject)
	if !ok {
		return
	}
	heartbeat := &runtimev2.HostHeartbeat{}
	if err := wire.Decode(msg.Data, heartbeat); err != nil {
		f.log.Warn("invalid heartbeat", "host_id", hostID, "error", err)
		return
	}
	if heartbeat.Id != hostID {
		f.log.Warn("the host id of a heartbeat differs from its subject", "host_id", hostID)
		return
	}
	f.applyHeartbeat(heartbeat)
}

func (f *Fleet) applyHeartbeat(heartbeat *runtimev2.HostHeartbeat) {
	hostID := heartbeat.Id
	f.step(func(l *liveness.Liveness, now time.Duration) []liveness.Action {
		if _, known := f.views.get(hostID); !known && l.Len() >= maxHosts {
			f.log.Warn("too many hosts, ignoring one", "host_id", hostID)
			return nil
		}
		f.views.update(heartbeat, time.Now())
		return l.OnHeartbeat(now, hostID)
	})
}

// step passes an event to liveness and executes the resulting actions.
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
		case liveness.SetHealth:
			f.views.setHealth(action.Host, action.Health, action.Reason)
		case liveness.Forget:
			f.views.forget(action.Host)
		}
	}
}

// probe requests a status rather than a heartbeat, which would disturb the load measurement of a wash host.
func (f *Fleet) probe(hostID string) {
	client, err := f.Client(hostID, WithTimeouts(Timeouts{Status: probeTimeout}))
	if err == nil {
		_, err = client.Status(f.ctx, probeID)
	}
	f.step(func(l *liveness.Liveness, now time.Duration) []liveness.Action {
		switch {
		case err == nil, errors.Is(err, ErrRefused), errors.Is(err, ErrInvalidResponse):
			return l.OnProbeReplied(now, hostID)
		case errors.Is(err, ErrNoResponders):
			return l.OnNoResponders(now, hostID)
		default:
			return l.OnProbeTimedOut(now, hostID)
		}
	})
}
