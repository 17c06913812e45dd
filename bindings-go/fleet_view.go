package berth

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// HostView is one host as it is known.
type HostView struct {
	// Heartbeat is what it last said of itself. It is shared: do not change it.
	Heartbeat *runtimev2.HostHeartbeat
	// Health is how it does.
	Health Health
	// Reason says why it is not alive.
	Reason Reason
	// BeatAt is when its last heartbeat arrived.
	BeatAt time.Time
}

// ID is the id of the host.
func (h HostView) ID() string { return h.Heartbeat.GetId() }

// views are all hosts that are shown, and the readers of what changes. The fleet's mutex guards it.
type views struct {
	hosts   map[string]HostView
	readers []*eventReader
}

// all gives the hosts in the order of their ids.
func (v *views) all() []HostView {
	return slices.SortedFunc(maps.Values(v.hosts), func(a, b HostView) int { return cmp.Compare(a.ID(), b.ID()) })
}

func (v *views) get(hostID string) (HostView, bool) {
	host, known := v.hosts[hostID]
	return host, known
}

// beat takes in a heartbeat and tells of what it changes.
func (v *views) beat(heartbeat *runtimev2.HostHeartbeat, now time.Time) {
	if v.hosts == nil {
		v.hosts = make(map[string]HostView)
	}
	id := heartbeat.GetId()
	before, known := v.hosts[id]
	host := HostView{Heartbeat: heartbeat, Health: before.Health, Reason: before.Reason, BeatAt: now}
	restarted := known && !proto.Equal(before.Heartbeat.GetStartedAt(), heartbeat.GetStartedAt())
	if restarted {
		host.Health, host.Reason = HealthAlive, ReasonNone
	}
	v.hosts[id] = host
	switch {
	case restarted:
		v.tell(HostLost{id, ReasonRestarted})
		v.tell(HostJoined{host})
	case !known:
		v.tell(HostJoined{host})
	case !proto.Equal(lasting(before.Heartbeat), lasting(heartbeat)):
		v.tell(HostChanged{host})
	}
}

// judge takes in what liveness has concluded.
func (v *views) judge(hostID string, health Health, reason Reason) {
	host, known := v.hosts[hostID]
	if !known || host.Health == health {
		return
	}
	was := host.Health
	host.Health, host.Reason = health, reason
	v.hosts[hostID] = host
	switch health {
	case HealthSuspect:
		v.tell(HostSuspect{hostID, reason})
	case HealthLost:
		v.tell(HostLost{hostID, reason})
	default:
		v.tell(HostReturned{host, was})
	}
}

func (v *views) forget(hostID string) { delete(v.hosts, hostID) }

// subscribe gives a reader whose first events are those that make up the present.
func (v *views) subscribe() *eventReader {
	var present []FleetEvent
	for _, host := range v.all() {
		if host.Health == HealthLost {
			continue
		}
		present = append(present, HostJoined{host})
		if host.Health == HealthSuspect {
			present = append(present, HostSuspect{host.ID(), host.Reason})
		}
	}
	reader := newEventReader(present)
	v.readers = append(v.readers, reader)
	return reader
}

func (v *views) unsubscribe(reader *eventReader) {
	v.readers = slices.DeleteFunc(v.readers, func(other *eventReader) bool { return other == reader })
}

func (v *views) tell(event FleetEvent) {
	for _, reader := range v.readers {
		reader.put(event)
	}
}

// lasting gives a heartbeat without what changes from one to the next, and without the order of
// interfaces, which a wash host does not keep.
func lasting(heartbeat *runtimev2.HostHeartbeat) *runtimev2.HostHeartbeat {
	kept := proto.Clone(heartbeat).(*runtimev2.HostHeartbeat)
	kept.SystemCpuUsage, kept.SystemMemoryFree, kept.ComponentCount, kept.WorkloadCount = 0, 0, 0, 0
	for _, interfaces := range [][]*runtimev2.WitInterface{kept.Imports, kept.Exports} {
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
	return kept
}
