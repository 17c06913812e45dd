package berth

import "sync"

// FleetEvent is a change in the fleet: [HostJoined], [HostChanged], [HostSuspect], [HostLost],
// [HostReturned] or [EventsMissed]. More kinds may be added; ignore those that you do not know.
type FleetEvent interface{ fleetEvent() }

// HostJoined: a host that was not known is there.
type HostJoined struct{ Host HostView }

// HostChanged: a host says something else of itself: labels, interfaces, ports. Load and counts do not
// count.
type HostChanged struct{ Host HostView }

// HostSuspect: something is wrong with a host; nothing is to be concluded yet.
type HostSuspect struct {
	HostID string
	Reason Reason
}

// HostLost: a host is taken for gone.
type HostLost struct {
	HostID string
	Reason Reason
}

// HostReturned: a suspect or lost host is well.
type HostReturned struct {
	Host HostView
	// Was is what it was taken for before.
	Was Health
}

// EventsMissed: the reader was too slow for this many events. Look at [Fleet.Hosts] anew.
type EventsMissed struct{ Events uint64 }

func (HostJoined) fleetEvent()   {}
func (HostChanged) fleetEvent()  {}
func (HostSuspect) fleetEvent()  {}
func (HostLost) fleetEvent()     {}
func (HostReturned) fleetEvent() {}
func (EventsMissed) fleetEvent() {}

// maxEventsBehind is how many events one reader may be behind, beyond those that it began with.
const maxEventsBehind = 1024

// eventReader holds the events that one reader has not taken yet.
type eventReader struct {
	wake chan struct{}

	mu     sync.Mutex
	events []FleetEvent
	room   int
	missed uint64
}

func newEventReader(present []FleetEvent) *eventReader {
	reader := &eventReader{wake: make(chan struct{}, 1), events: present, room: len(present) + maxEventsBehind}
	reader.wake <- struct{}{}
	return reader
}

// put adds an event; when too many wait already, the oldest is counted as missed instead.
func (r *eventReader) put(event FleetEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, event)
	if len(r.events) > r.room {
		r.events = r.events[1:]
		r.missed++
	}
	select {
	case r.wake <- struct{}{}:
	default: // it is awake already
	}
}

// taken gives the events that wait, until none does.
func (r *eventReader) taken(yield func(FleetEvent) bool) {
	for {
		event, ok := r.take()
		if !ok || !yield(event) {
			return
		}
	}
}

func (r *eventReader) take() (event FleetEvent, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.missed > 0 {
		event, r.missed = EventsMissed{r.missed}, 0
		return event, true
	}
	if len(r.events) == 0 {
		return nil, false
	}
	event = r.events[0]
	r.events = r.events[1:]
	return event, true
}
