package berth

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// HostView is the state of one host, as known to the fleet.
type HostView struct {
	// Heartbeat is the latest heartbeat. It is shared: do not modify it.
	Heartbeat *runtimev2.HostHeartbeat
	// Health is the health of the host.
	Health Health
	// Reason is why the host is suspect or lost.
	Reason Reason
	// LastHeartbeatAt is when the latest heartbeat arrived.
	LastHeartbeatAt time.Time
}

// ID returns the id of the host.
func (h HostView) ID() string { return h.Heartbeat.GetId() }

// views holds the visible hosts and the event queues. The fleet's mutex guards it.
type views struct {
	hosts  map[string]HostView
	queues []*eventQueue
}

// all returns the hosts, sorted by id.
func (v *views) all() []HostView {
	return slices.SortedFunc(maps.Values(v.hosts), func(a, b HostView) int { return cmp.Compare(a.ID(), b.ID()) })
}

func (v *views) get(hostID string) (HostView, bool) {
	host, known := v.hosts[hostID]
	return host, known
}

// update stores a heartbeat and publishes the changes.
func (v *views) update(heartbeat *runtimev2.HostHeartbeat, now time.Time) {
	if v.hosts == nil {
		v.hosts = make(map[string]HostView)
	}
	id := heartbeat.GetId()
	before, known := v.hosts[id]
	host := HostView{Heartbeat: heartbeat, Health: before.Health, Reason: before.Reason, LastHeartbeatAt: now}
	restarted := known && !proto.Equal(before.Heartbeat.GetStartedAt(), heartbeat.GetStartedAt())
	if restarted {
		host.Health, host.Reason = HealthAlive, ReasonNone
	}
	v.hosts[id] = host
	switch {
	case restarted:
		v.publish(HostLost{id, ReasonRestarted})
		v.publish(HostJoined{host})
	case !known:
		v.publish(HostJoined{host})
	case !proto.Equal(stableFields(before.Heartbeat), stableFields(heartbeat)):
		v.publish(HostChanged{host})
	}
}

// setHealth stores and publishes a change of health.
func (v *views) setHealth(hostID string, health Health, reason Reason) {
	host, known := v.hosts[hostID]
	if !known || host.Health == health {
		return
	}
	previous := host.Health
	host.Health, host.Reason = health, reason
	v.hosts[hostID] = host
	switch health {
	case HealthSuspect:
		v.publish(HostSuspect{hostID, reason})
	case HealthLost:
		v.publish(HostLost{hostID, reason})
	default:
		v.publish(HostRecovered{host, previous})
	}
}

func (v *views) forget(hostID string) { delete(v.hosts, hostID) }

// subscribe returns a new queue whose initial events describe the current hosts.
func (v *views) subscribe() *eventQueue {
	var initial []FleetEvent
	for _, host := range v.all() {
		if host.Health == HealthLost {
			continue
		}
		initial = append(initial, HostJoined{host})
		if host.Health == HealthSuspect {
			initial = append(initial, HostSuspect{host.ID(), host.Reason})
		}
	}
	queue := newEventQueue(initial)
	v.queues = append(v.queues, queue)
	return queue
}

func (v *views) unsubscribe(queue *eventQueue) {
	v.queues = slices.DeleteFunc(v.queues, func(other *eventQueue) bool { return other == queue })
}

func (v *views) publish(event FleetEvent) {
	for _, queue := range v.queues {
		queue.push(event)
	}
}

// stableFields returns a copy of a heartbeat without load and counts, and with sorted interfaces: the order
// of interfaces varies in heartbeats of a wash host.
func stableFields(heartbeat *runtimev2.HostHeartbeat) *runtimev2.HostHeartbeat {
	stable := proto.Clone(heartbeat).(*runtimev2.HostHeartbeat)
	stable.SystemCpuUsage, stable.SystemMemoryFree, stable.ComponentCount, stable.WorkloadCount = 0, 0, 0, 0
	for _, interfaces := range [][]*runtimev2.WitInterface{stable.Imports, stable.Exports} {
		for _, each := range interfaces {
			slices.Sort(each.Interfaces)
		}
		slices.SortFunc(interfaces, func(a, b *runtimev2.WitInterface) int {
			return cmp.Or(
				cmp.Compare(a.Namespace, b.Namespace),
				cmp.Compare(a.Package, b.Package),
				cmp.Compare(a.Version, b.Version),
				cmp.Compare(a.Name, b.Name),
				slices.Compare(a.Interfaces, b.Interfaces),
			)
		})
	}
	return stable
}
