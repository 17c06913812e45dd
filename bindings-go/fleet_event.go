package berth

import "sync"

// FleetEvent is a change in the fleet: [HostJoined], [HostChanged], [HostSuspect], [HostLost],
// [HostRecovered] or [EventsMissed]. Ignore unknown kinds; more may be added.
type FleetEvent interface{ fleetEvent() }

// HostJoined reports a new host.
type HostJoined struct{ Host HostView }

// HostChanged reports a host whose labels, interfaces, ports or other stable fields have changed. Load and
// counts are not stable fields.
type HostChanged struct{ Host HostView }

// HostSuspect reports a host that may be lost. Do not replace its workloads yet.
type HostSuspect struct {
	HostID string
	Reason Reason
}

// HostLost reports a lost host.
type HostLost struct {
	HostID string
	Reason Reason
}

// HostRecovered reports that a suspect or lost host is alive again.
type HostRecovered struct {
	Host HostView
	// PreviousHealth is the health before the recovery.
	PreviousHealth Health
}

// EventsMissed reports that the reader was too slow and lost events. Read [Fleet.Hosts] again.
type EventsMissed struct{ Count uint64 }

func (HostJoined) fleetEvent()    {}
func (HostChanged) fleetEvent()   {}
func (HostSuspect) fleetEvent()   {}
func (HostLost) fleetEvent()      {}
func (HostRecovered) fleetEvent() {}
func (EventsMissed) fleetEvent()  {}

// maxEventsBehind is how many events a reader may be behind, not counting its initial events.
const maxEventsBehind = 1024

// eventQueue queues the events of one reader.
type eventQueue struct {
	wake chan struct{}

	mu       sync.Mutex
	events   []FleetEvent
	capacity int
	missed   uint64
}

func newEventQueue(initial []FleetEvent) *eventQueue {
	queue := &eventQueue{
		wake: make(chan struct{}, 1), events: initial, capacity: len(initial) + maxEventsBehind,
	}
	queue.wake <- struct{}{}
	return queue
}

// push enqueues an event. If the queue is full, it drops the oldest event and counts it as missed.
func (q *eventQueue) push(event FleetEvent) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.events = append(q.events, event)
	if len(q.events) > q.capacity {
		q.events = q.events[1:]
		q.missed++
	}
	select {
	case q.wake <- struct{}{}:
	default: // already awake
	}
}

// drain removes and yields events until the queue is empty.
func (q *eventQueue) drain(yield func(FleetEvent) bool) {
	for {
		event, ok := q.pop()
		if !ok || !yield(event) {
			return
		}
	}
}

func (q *eventQueue) pop() (event FleetEvent, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.missed > 0 {
		event, q.missed = EventsMissed{q.missed}, 0
		return event, true
	}
	if len(q.events) == 0 {
		return nil, false
	}
	event = q.events[0]
	q.events = q.events[1:]
	return event, true
}
