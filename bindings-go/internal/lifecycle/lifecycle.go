// Package lifecycle is the state machine of a host's workload ids. It decides every reply, every start and
// every stop, and executes none of them.
//
// It has no clock, no I/O and no goroutine: the executor passes events in and executes the returned actions.
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
	// StartingAfter is when a start is answered with STARTING because its outcome takes longer. It leaves
	// time for the reply to arrive within the 5 s that schedulers may expect.
	StartingAfter = 4500 * time.Millisecond

	// MaxEnded is how many ended workloads remain visible. A scheduler asks for their status within minutes,
	// and an entry holds at most an id and a message.
	MaxEnded = 1024

	// MaxWorkloads is how many ids may be in use at once. It protects against a faulty scheduler and is far
	// above what one machine can run.
	MaxWorkloads = 16_384

	// maxMessageBytes bounds the message of an entry.
	maxMessageBytes = 4096
)

const (
	starting  = runtimev2.WorkloadState_WORKLOAD_STATE_STARTING
	running   = runtimev2.WorkloadState_WORKLOAD_STATE_RUNNING
	completed = runtimev2.WorkloadState_WORKLOAD_STATE_COMPLETED
	stopping  = runtimev2.WorkloadState_WORKLOAD_STATE_STOPPING
	failed    = runtimev2.WorkloadState_WORKLOAD_STATE_ERROR
)

// RequestID identifies a request; the executor chooses it. Each request gets exactly one [Reply].
type RequestID uint64

// RunID identifies one attempt to run a workload. It is never reused, so that late events of an earlier
// attempt with the same workload id are recognized.
type RunID uint64

// Action is an instruction to the executor: [Reply], [StartRun] or [StopRun].
type Action interface{ action() }

// Reply answers a request.
type Reply struct {
	Request RequestID
	Status  reply.Status
}

// StartRun starts the workload of a request.
type StartRun struct {
	Request RequestID
	Run     RunID
	ID      string
}

// StopRun cancels the start of a run, or stops its instance.
type StopRun struct{ Run RunID }

func (Reply) action()    {}
func (StartRun) action() {}
func (StopRun) action()  {}

// Report is a state change that the host reports.
type Report struct {
	// State is STARTING, RUNNING, COMPLETED or ERROR.
	State runtimev2.WorkloadState
	// Message is text for users.
	Message string
	// WasUp is whether an earlier report, which this one replaces, had a state other than STARTING.
	WasUp bool
}

// Lifecycle holds the states of all workload ids of a host. The zero value is an empty lifecycle.
//
// Each method processes one event and returns the actions to execute, in order.
type Lifecycle struct {
	entries      map[string]*entry
	ids          map[RunID]string
	deadlines    map[RunID]time.Duration // when to answer with STARTING
	ended        []endedRun              // oldest first
	lastRun      RunID
	shuttingDown bool
}

// endedRun is a run that is COMPLETED or in ERROR and no longer in the host.
type endedRun struct {
	run RunID
	id  string
}

// Start processes a valid start request. Times are those of any monotonic clock.
func (t *Lifecycle) Start(now time.Duration, request RequestID, id string) []Action {
	if code, reason := t.refusal(id); code != 0 {
		return []Action{Reply{request, reply.Refused(id, code, reason)}}
	}
	if t.entries == nil {
		t.entries, t.ids = make(map[string]*entry), make(map[RunID]string)
		t.deadlines = make(map[RunID]time.Duration)
	}
	if earlier := t.entries[id]; earlier != nil {
		t.forgetEnded(earlier.run)
	}
	t.lastRun++
	run := t.lastRun
	// HOST-START-003: the claim comes first, before the start waits for anything.
	t.entries[id] = &entry{run: run, phase: phaseStarting, waiting: request, state: starting, message: "starting"}
	t.ids[run] = id
	t.deadlines[run] = now + StartingAfter
	return []Action{StartRun{request, run, id}}
}

// refusal returns why a start of the id is refused; the code is 0 if it is not.
func (t *Lifecycle) refusal(id string) (reply.Code, string) {
	if t.shuttingDown {
		return reply.Unavailable, "the host is shutting down"
	}
	e := t.entries[id]
	if e != nil && !e.mayStartAgain() {
		return reply.Conflict, fmt.Sprintf(
			"the workload id is in use in state %s; stop it before you start it again", e.state)
	}
	if e == nil && len(t.entries)-len(t.ended) >= MaxWorkloads {
		return reply.Unavailable, fmt.Sprintf("the host has the maximum of %d workloads", MaxWorkloads)
	}
	return 0, ""
}

// Stop processes a valid stop request.
func (t *Lifecycle) Stop(request RequestID, id string) []Action {
	e := t.entries[id]
	if e == nil {
		return []Action{Reply{request, reply.NotFound(id)}}
	}
	var actions []Action
	switch e.phase {
	case phaseStarting, phaseUp:
		actions = t.stop(id, e, "stopped during the start")
	case phaseEnded:
		if e.inHost {
			e.toStopping()
		} else {
			t.forgetEnded(e.run)
			delete(t.entries, id)
		}
	case phaseStopping:
	}
	return append(actions, Reply{request, reply.Status{ID: id, State: stopping, Message: "stopping"}})
}

// Status processes a valid status request.
func (t *Lifecycle) Status(request RequestID, id string) []Action {
	return []Action{Reply{request, t.status(id)}}
}

// Started processes the successful start of a run.
func (t *Lifecycle) Started(run RunID) []Action {
	id, e := t.entryOf(run)
	if e == nil || e.phase != phaseStarting {
		return nil
	}
	waiting, report := e.waiting, e.report
	e.phase, e.state, e.message = phaseUp, running, "running"
	delete(t.deadlines, run)
	var actions []Action
	if report != nil && report.WasUp {
		actions = t.Reported(run, *report)
	}
	return t.replyTo(waiting, id, actions)
}

// StartFailed processes the failed start of a run. If guest code has run, the id stays in use until it is
// stopped.
func (t *Lifecycle) StartFailed(run RunID, message string, guestRan bool) []Action {
	id, e := t.entryOf(run)
	if e == nil || e.phase != phaseStarting {
		return nil
	}
	waiting := e.waiting
	guestRan = guestRan || e.report != nil && e.report.WasUp
	e.toEnded(failed, messageOr(message, "the start failed without a reason"), guestRan)
	delete(t.deadlines, run)
	return t.replyTo(waiting, id, nil)
}

// Reported processes a reported state change.
func (t *Lifecycle) Reported(run RunID, report Report) []Action {
	_, e := t.entryOf(run)
	if e == nil {
		return nil
	}
	switch e.phase {
	case phaseStarting:
		if report.State == starting {
			e.message = messageOr(report.Message, "starting")
		}
		// Once guest code has run, later reports do not change that.
		report.WasUp = report.WasUp || report.State != starting || e.report != nil && e.report.WasUp
		e.report = &report
	case phaseUp:
		switch report.State {
		case completed:
			e.toEnded(completed, messageOr(report.Message, "completed"), true)
			return []Action{StopRun{run}}
		case failed:
			e.toEnded(failed, messageOr(report.Message, "failed without a reason"), true)
			return []Action{StopRun{run}}
		case starting:
			e.state, e.message = starting, messageOr(report.Message, "starting")
		default:
			e.state, e.message = running, messageOr(report.Message, "running")
		}
	case phaseEnded, phaseStopping:
		// The report is too late.
	}
	return nil
}

// Released processes the end of a run: nothing of it is left in the host. It is the last event of each run.
func (t *Lifecycle) Released(run RunID) []Action {
	actions := t.endUnexpectedly(run)
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
	t.ended = append(t.ended, endedRun{run, id})
	if len(t.ended) > MaxEnded {
		delete(t.entries, t.ended[0].id)
		t.ended = t.ended[1:]
	}
	return actions
}

// endUnexpectedly fails a run that is gone although it was not stopped, and answers its waiting start.
func (t *Lifecycle) endUnexpectedly(run RunID) []Action {
	const message = "the workload ended unexpectedly"
	_, e := t.entryOf(run)
	if e == nil {
		return nil
	}
	switch e.phase {
	case phaseStarting:
		return t.StartFailed(run, message, true)
	case phaseUp:
		e.toEnded(failed, message, true)
	case phaseEnded, phaseStopping:
	}
	return nil
}

// Tick processes the passage of time: it answers slow starts with STARTING.
func (t *Lifecycle) Tick(now time.Duration) []Action {
	var actions []Action
	for _, run := range slices.Sorted(maps.Keys(t.deadlines)) {
		if t.deadlines[run] > now {
			continue
		}
		delete(t.deadlines, run)
		if id, e := t.entryOf(run); e != nil && e.phase == phaseStarting {
			waiting := e.waiting
			e.waiting = 0
			actions = t.replyTo(waiting, id, actions)
		}
	}
	return actions
}

// NextTick returns when [Lifecycle.Tick] is due next, if it is.
func (t *Lifecycle) NextTick() (at time.Duration, due bool) {
	for _, each := range t.deadlines {
		if !due || each < at {
			at, due = each, true
		}
	}
	return at, due
}

// Shutdown refuses all later starts and stops all runs.
func (t *Lifecycle) Shutdown() []Action {
	t.shuttingDown = true
	var actions []Action
	for _, run := range slices.Sorted(maps.Keys(t.ids)) {
		if id, e := t.entryOf(run); e != nil && (e.phase == phaseStarting || e.phase == phaseUp) {
			actions = append(actions, t.stop(id, e, "the host is shutting down")...)
		}
	}
	return actions
}

// WorkloadCount returns the number of workloads that are starting, running or stopping.
func (t *Lifecycle) WorkloadCount() (count uint64) {
	for _, e := range t.entries {
		if e.phase != phaseEnded {
			count++
		}
	}
	return count
}

// IsIdle reports whether no run is left in the host.
func (t *Lifecycle) IsIdle() bool { return len(t.ids) == 0 }

// stop stops a run that is starting or up, and answers its waiting start.
func (t *Lifecycle) stop(id string, e *entry, reason string) []Action {
	var actions []Action
	if e.phase == phaseStarting && e.waiting != 0 {
		actions = append(actions, Reply{e.waiting, reply.Status{ID: id, State: stopping, Message: reason}})
	}
	e.toStopping()
	delete(t.deadlines, e.run)
	return append(actions, StopRun{e.run})
}

// replyTo appends the reply to a waiting start, if there is one.
func (t *Lifecycle) replyTo(waiting RequestID, id string, actions []Action) []Action {
	if waiting == 0 {
		return actions
	}
	return append(actions, Reply{waiting, t.status(id)})
}

func (t *Lifecycle) status(id string) reply.Status {
	if e := t.entries[id]; e != nil {
		return reply.Status{ID: id, State: e.state, Message: e.message}
	}
	return reply.NotFound(id)
}

// entryOf returns the id and the entry of a run; the entry is nil if another run has the id.
func (t *Lifecycle) entryOf(run RunID) (string, *entry) {
	id := t.ids[run]
	if e := t.entries[id]; e != nil && e.run == run {
		return id, e
	}
	return id, nil
}

func (t *Lifecycle) forgetEnded(run RunID) {
	t.ended = slices.DeleteFunc(t.ended, func(e endedRun) bool { return e.run == run })
}

// messageOr returns the message, or the fallback if it is empty: ERROR needs a reason (HOST-START-008). The
// result is bounded.
func messageOr(message, fallback string) string {
	if message == "" {
		message = fallback
	}
	return reply.Shorten(message, maxMessageBytes)
}
