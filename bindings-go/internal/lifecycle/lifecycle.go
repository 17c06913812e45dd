// Package lifecycle is the table of ids and their states: it decides every reply and every piece of
// work, and does none.
//
// No clock, no I/O, no goroutine: the shell hands in what happened and carries out the actions that come
// back.
package lifecycle

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"berth.dev/go/internal/reply"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

const (
	// StartingAfter is when a start is answered with STARTING because its outcome takes longer: inside
	// the 5 s that schedulers are promised, with room for the way to them.
	StartingAfter = 4500 * time.Millisecond

	// MaxEnded is how many ended workloads stay visible. A scheduler asks within minutes, and one entry
	// is at most an id and a message.
	MaxEnded = 1024

	// MaxWorkloads is how many ids may be in use at once: a backstop against a scheduler run wild, far
	// above what one machine can run.
	MaxWorkloads = 16_384

	// maxMessageBytes is the longest message that is kept for an id.
	maxMessageBytes = 4096
)

const (
	starting  = runtimev2.WorkloadState_WORKLOAD_STATE_STARTING
	running   = runtimev2.WorkloadState_WORKLOAD_STATE_RUNNING
	completed = runtimev2.WorkloadState_WORKLOAD_STATE_COMPLETED
	stopping  = runtimev2.WorkloadState_WORKLOAD_STATE_STOPPING
	failed    = runtimev2.WorkloadState_WORKLOAD_STATE_ERROR
)

// RequestID is one request; the shell chooses it, and each gets exactly one [Reply].
type RequestID uint64

// RunID is one attempt to run one workload; never reused, so that late news of an earlier attempt with
// the same id is known as such.
type RunID uint64

// Action is what is to be done: [Reply], [Begin] or [End].
type Action interface{ action() }

// Reply answers a request.
type Reply struct {
	Request RequestID
	Status  reply.Status
}

// Begin asks the host to bring a workload up; the workload is the one of this request.
type Begin struct {
	Request RequestID
	Run     RunID
	ID      string
}

// End cancels the start if it is under way, or else stops what it brought up.
type End struct{ Run RunID }

func (Reply) action() {}
func (Begin) action() {}
func (End) action()   {}

// Report is what a workload says of itself.
type Report struct {
	// State is STARTING, RUNNING, COMPLETED or ERROR.
	State runtimev2.WorkloadState
	// Message is for people.
	Message string
	// WasUp tells whether it has claimed a state other than STARTING before, in a report that was skipped.
	WasUp bool
}

// Table is all that a host knows of workloads. The zero value is an empty one.
//
// Each method takes in one event and says what to do. The order of the actions is that in which they
// are to be carried out.
type Table struct {
	entries      map[string]*entry
	ids          map[RunID]string
	overdue      map[RunID]time.Duration
	ended        []end
	lastRun      RunID
	shuttingDown bool
}

// end is an id that is COMPLETED or in ERROR and that the host has let go of.
type end struct {
	run RunID
	id  string
}

// Start takes in a well-formed start. Now is of any clock that never goes back.
func (t *Table) Start(now time.Duration, request RequestID, id string) []Action {
	if code, why := t.refusal(id); code != 0 {
		return []Action{Reply{request, reply.Refused(id, code, why)}}
	}
	if t.entries == nil {
		t.entries, t.ids = make(map[string]*entry), make(map[RunID]string)
		t.overdue = make(map[RunID]time.Duration)
	}
	if earlier := t.entries[id]; earlier != nil {
		t.forgetEnd(earlier.run)
	}
	t.lastRun++
	run := t.lastRun
	// HOST-START-003: the claim comes first, whatever the start then has to wait for.
	t.entries[id] = &entry{run: run, phase: phaseStarting, waiting: request, state: starting, message: "starting"}
	t.ids[run] = id
	t.overdue[run] = now + StartingAfter
	return []Action{Begin{request, run, id}}
}

// refusal says why a start of the id is not obeyed; 0 when it is.
func (t *Table) refusal(id string) (reply.Code, string) {
	if t.shuttingDown {
		return reply.Unavailable, "the host is shutting down"
	}
	known := t.entries[id]
	if known != nil && !known.mayStartAgain() {
		return reply.Conflict, fmt.Sprintf(
			"the workload id is in use, its state is %s; stop it to use the id again", known.state)
	}
	if known == nil && len(t.entries)-len(t.ended) >= MaxWorkloads {
		return reply.Unavailable, fmt.Sprintf("the host has %d workloads and takes no more", MaxWorkloads)
	}
	return 0, ""
}

// Stop takes in a well-formed stop.
func (t *Table) Stop(request RequestID, id string) []Action {
	e := t.entries[id]
	if e == nil {
		return []Action{Reply{request, reply.NotFound(id)}}
	}
	var actions []Action
	switch e.phase {
	case phaseStarting, phaseUp:
		actions = t.end(id, e, "stopped while it was starting")
	case phaseEnded:
		if e.inHost {
			e.toStopping()
		} else {
			t.forgetEnd(e.run)
			delete(t.entries, id)
		}
	case phaseStopping:
	}
	return append(actions, Reply{request, reply.Status{ID: id, State: stopping, Message: "stopping"}})
}

// Status takes in a well-formed status.
func (t *Table) Status(request RequestID, id string) []Action {
	return []Action{Reply{request, t.status(id)}}
}

// Up takes in that the host brought the workload up.
func (t *Table) Up(run RunID) []Action {
	id, e := t.entryOf(run)
	if e == nil || e.phase != phaseStarting {
		return nil
	}
	waiting, report := e.waiting, e.report
	e.phase, e.state, e.message = phaseUp, running, "running"
	delete(t.overdue, run)
	var actions []Action
	if report != nil && report.WasUp {
		actions = t.Reported(run, *report)
	}
	return t.answer(waiting, id, actions)
}

// Refused takes in that the host could not bring the workload up. guestRan says whether guest code has
// run all the same: then the id stays taken until it is stopped.
func (t *Table) Refused(run RunID, message string, guestRan bool) []Action {
	id, e := t.entryOf(run)
	if e == nil || e.phase != phaseStarting {
		return nil
	}
	waiting := e.waiting
	guestRan = guestRan || e.report != nil && e.report.WasUp
	e.toEnded(failed, said(message, "the host refused it and said no reason"), guestRan)
	delete(t.overdue, run)
	return t.answer(waiting, id, nil)
}

// Reported takes in what the workload told of its later life.
func (t *Table) Reported(run RunID, report Report) []Action {
	_, e := t.entryOf(run)
	if e == nil {
		return nil
	}
	switch e.phase {
	case phaseStarting:
		if report.State == starting {
			e.message = said(report.Message, "starting")
		}
		// A guest that has run stays one that has run, whatever is reported later.
		report.WasUp = report.WasUp || report.State != starting || e.report != nil && e.report.WasUp
		e.report = &report
	case phaseUp:
		switch report.State {
		case completed:
			e.toEnded(completed, said(report.Message, "completed"), true)
			return []Action{End{run}}
		case failed:
			e.toEnded(failed, said(report.Message, "failed and said no reason"), true)
			return []Action{End{run}}
		case starting:
			e.state, e.message = starting, said(report.Message, "starting")
		default:
			e.state, e.message = running, said(report.Message, "running")
		}
	case phaseEnded, phaseStopping:
		// Too late to matter.
	}
	return nil
}

// Gone takes in that nothing of this run is left in the host. The last event of each run.
func (t *Table) Gone(run RunID) []Action {
	actions := t.lost(run)
	id, e := t.entryOf(run)
	delete(t.ids, run)
	if e == nil {
		return actions
	}
	if e.phase != phaseEnded {
		delete(t.entries, id)
		return actions
	}
	e.inHost = false
	t.ended = append(t.ended, end{run, id})
	if len(t.ended) > MaxEnded {
		delete(t.entries, t.ended[0].id)
		t.ended = t.ended[1:]
	}
	return actions
}

// lost deals with a run that is gone although nothing ended it: it says so rather than lose its caller.
func (t *Table) lost(run RunID) []Action {
	const lost = "the host lost the workload"
	_, e := t.entryOf(run)
	if e == nil {
		return nil
	}
	switch e.phase {
	case phaseStarting:
		return t.Refused(run, lost, true)
	case phaseUp:
		e.toEnded(failed, lost, true)
	case phaseEnded, phaseStopping:
	}
	return nil
}

// Tick takes in that time has passed: starts that take long are answered with STARTING.
func (t *Table) Tick(now time.Duration) []Action {
	var actions []Action
	for _, run := range slices.Sorted(maps.Keys(t.overdue)) {
		if t.overdue[run] > now {
			continue
		}
		delete(t.overdue, run)
		if id, e := t.entryOf(run); e != nil && e.phase == phaseStarting {
			waiting := e.waiting
			e.waiting = 0
			actions = t.answer(waiting, id, actions)
		}
	}
	return actions
}

// NextTick tells when [Table.Tick] is due next, if it is.
func (t *Table) NextTick() (at time.Duration, due bool) {
	for _, each := range t.overdue {
		if !due || each < at {
			at, due = each, true
		}
	}
	return at, due
}

// Shutdown takes in that the host ends: nothing new is begun, everything is ended.
func (t *Table) Shutdown() []Action {
	t.shuttingDown = true
	var actions []Action
	for _, run := range slices.Sorted(maps.Keys(t.ids)) {
		if id, e := t.entryOf(run); e != nil && (e.phase == phaseStarting || e.phase == phaseUp) {
			actions = append(actions, t.end(id, e, "the host is shutting down")...)
		}
	}
	return actions
}

// WorkloadCount tells for how many workloads the host works: starting, running or stopping.
func (t *Table) WorkloadCount() (count uint64) {
	for _, e := range t.entries {
		if e.phase != phaseEnded {
			count++
		}
	}
	return count
}

// IsIdle tells whether no run is left in the host.
func (t *Table) IsIdle() bool { return len(t.ids) == 0 }

// end begins the end of a run that is starting or up, and answers a start that still waits.
func (t *Table) end(id string, e *entry, why string) []Action {
	var actions []Action
	if e.phase == phaseStarting && e.waiting != 0 {
		actions = append(actions, Reply{e.waiting, reply.Status{ID: id, State: stopping, Message: why}})
	}
	e.toStopping()
	delete(t.overdue, e.run)
	return append(actions, End{e.run})
}

// answer adds the reply to a start that waits, if one does.
func (t *Table) answer(waiting RequestID, id string, actions []Action) []Action {
	if waiting == 0 {
		return actions
	}
	return append(actions, Reply{waiting, t.status(id)})
}

func (t *Table) status(id string) reply.Status {
	if e := t.entries[id]; e != nil {
		return reply.Status{ID: id, State: e.state, Message: e.message}
	}
	return reply.NotFound(id)
}

// entryOf gives the entry that this run holds; nil when the id is another run's by now.
func (t *Table) entryOf(run RunID) (string, *entry) {
	id := t.ids[run]
	if e := t.entries[id]; e != nil && e.run == run {
		return id, e
	}
	return id, nil
}

func (t *Table) forgetEnd(run RunID) {
	t.ended = slices.DeleteFunc(t.ended, func(e end) bool { return e.run == run })
}

// said keeps a message within bounds. ERROR without a reason helps nobody (HOST-START-008).
func said(message, otherwise string) string {
	if message == "" {
		message = otherwise
	}
	return reply.Shorten(message, maxMessageBytes)
}
