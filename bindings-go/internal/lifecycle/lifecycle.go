// Package lifecycle is the state machine of a host's workload ids. It decides every reply, every start and
// every stop, and executes none of them.
//
// It has no clock, no I/O and no goroutine: the executor passes events in and executes the returned actions.
// Times are durations since an arbitrary start.
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
	// ReplyStartingAfter is how long after its request a start without an outcome is answered with STARTING. It
	// leaves time for the reply to arrive within the 5 s that schedulers may expect.
	ReplyStartingAfter = 4500 * time.Millisecond

	// MaxEnded is how many ended workloads remain visible at a time. Few need to remain, because schedulers ask
	// for their status within minutes; each entry is small, because it holds only an id and a message.
	MaxEnded = 1024

	// MaxWorkloads is how many runs the host may have at once, including those that are being stopped. Each run has
	// a goroutine. The limit protects against a faulty scheduler and is far above the capacity of one machine.
	MaxWorkloads = 16_384

	// maxMessageBytes bounds the message of an entry.
	maxMessageBytes = 4096
)

const (
	stateStarting  = runtimev2.WorkloadState_WORKLOAD_STATE_STARTING
	stateRunning   = runtimev2.WorkloadState_WORKLOAD_STATE_RUNNING
	stateCompleted = runtimev2.WorkloadState_WORKLOAD_STATE_COMPLETED
	stateStopping  = runtimev2.WorkloadState_WORKLOAD_STATE_STOPPING
	stateError     = runtimev2.WorkloadState_WORKLOAD_STATE_ERROR
)

// RequestID identifies a request; the executor chooses it. Each request gets exactly one [Reply].
type RequestID uint64

// RunID identifies one run: one execution of a start, until the host has released the instance. Run ids are
// never reused, so that late events of an earlier run with the same workload id are recognized.
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
	// HasRun is whether the workload has ever run: this report, or an earlier one that it replaces, has a
	// state other than STARTING. OnReport sets it.
	HasRun bool
}

// Lifecycle holds the states of all workload ids of a host. The zero value is an empty lifecycle.
//
// Each method processes one event and returns the actions to execute, in order.
type Lifecycle struct {
	entries      map[string]*entry
	ids          map[RunID]string        // workload ids of the runs that the host has not released
	deadlines    map[RunID]time.Duration // when to answer a pending start with STARTING
	ended        []endedRun              // ended and released by the host, oldest first
	lastRun      RunID
	shuttingDown bool
}

// endedRun is a run that is COMPLETED or in ERROR and that the host has released.
type endedRun struct {
	run RunID
	id  string
}

// OnStartRequest processes a valid start request.
func (l *Lifecycle) OnStartRequest(now time.Duration, request RequestID, id string) []Action {
	if code, reason := l.refusal(id); code != 0 {
		return []Action{Reply{request, reply.Refused(id, code, reason)}}
	}
	if l.entries == nil {
		l.entries, l.ids = make(map[string]*entry), make(map[RunID]string)
		l.deadlines = make(map[RunID]time.Duration)
	}
	if earlier := l.entries[id]; earlier != nil {
		l.forgetEnded(earlier.run)
	}
	l.lastRun++
	run := l.lastRun
	// HOST-START-003: the claim comes first, before the start waits for anything.
	l.entries[id] = &entry{run: run, phase: phaseStarting, pendingRequest: request, state: stateStarting, message: "starting"}
	l.ids[run] = id
	l.deadlines[run] = now + ReplyStartingAfter
	return []Action{StartRun{request, run, id}}
}

// refusal returns why a start of the id is refused. The code is 0 if the start is accepted.
func (l *Lifecycle) refusal(id string) (reply.Code, string) {
	if l.shuttingDown {
		return reply.Unavailable, "the host is shutting down"
	}
	e := l.entries[id]
	if e != nil && !e.canStartAgain() {
		return reply.Conflict, fmt.Sprintf(
			"the workload id is in use in state %s; stop it before you start it again", e.state)
	}
	if len(l.ids) >= MaxWorkloads {
		return reply.Unavailable, fmt.Sprintf("the host has the maximum of %d workloads", MaxWorkloads)
	}
	return 0, ""
}

// OnStopRequest processes a valid stop request.
func (l *Lifecycle) OnStopRequest(request RequestID, id string) []Action {
	e := l.entries[id]
	if e == nil {
		return []Action{Reply{request, reply.NotFound(id)}}
	}
	var actions []Action
	switch e.phase {
	case phaseStarting, phaseActive:
		// Only the reply to a start in flight contains the reason.
		actions = l.stop(id, e, "stopped during the start")
	case phaseEnded:
		if e.inHost {
			e.toStopping()
		} else {
			l.forgetEnded(e.run)
			delete(l.entries, id)
		}
	case phaseStopping:
	}
	return append(actions, Reply{request, reply.Status{ID: id, State: stateStopping, Message: "stopping"}})
}

// OnStatusRequest processes a valid status request.
func (l *Lifecycle) OnStatusRequest(request RequestID, id string) []Action {
	return []Action{Reply{request, l.status(id)}}
}

// OnStarted processes the successful start of a run.
func (l *Lifecycle) OnStarted(run RunID) []Action {
	id, e := l.entryOf(run)
	if e == nil || e.phase != phaseStarting {
		return nil
	}
	pendingRequest, report := e.pendingRequest, e.latestReport
	e.phase, e.state, e.message = phaseActive, stateRunning, "running"
	delete(l.deadlines, run)
	var actions []Action
	if report != nil && report.HasRun {
		actions = l.OnReport(run, *report)
	}
	return l.replyTo(pendingRequest, id, actions)
}

// OnStartFailed processes the failed start of a run. If guest code has run, the id stays in use until it is
// stopped.
func (l *Lifecycle) OnStartFailed(run RunID, message string, guestRan bool) []Action {
	id, e := l.entryOf(run)
	if e == nil || e.phase != phaseStarting {
		return nil
	}
	pendingRequest := e.pendingRequest
	guestRan = guestRan || e.latestReport != nil && e.latestReport.HasRun
	e.toEnded(stateError, messageOr(message, "the start failed, no reason given"), guestRan)
	delete(l.deadlines, run)
	return l.replyTo(pendingRequest, id, nil)
}

// OnReport processes a reported state change.
func (l *Lifecycle) OnReport(run RunID, report Report) []Action {
	_, e := l.entryOf(run)
	if e == nil {
		return nil
	}
	switch e.phase {
	case phaseStarting:
		if report.State == stateStarting {
			e.message = messageOr(report.Message, "starting")
		}
		// A later report does not unset HasRun.
		report.HasRun = report.HasRun || report.State != stateStarting || e.latestReport != nil && e.latestReport.HasRun
		e.latestReport = &report
	case phaseActive:
		switch report.State {
		case stateCompleted:
			e.toEnded(stateCompleted, messageOr(report.Message, "completed"), true)
			return []Action{StopRun{run}}
		case stateError:
			e.toEnded(stateError, messageOr(report.Message, "failed, no reason given"), true)
			return []Action{StopRun{run}}
		case stateStarting:
			e.state, e.message = stateStarting, messageOr(report.Message, "starting")
		default:
			e.state, e.message = stateRunning, messageOr(report.Message, "running")
		}
	case phaseEnded, phaseStopping:
		// The report is too late.
	}
	return nil
}

// OnReleased processes the release of a run: nothing of the run is left in the host. The release is the last
// event of each run.
func (l *Lifecycle) OnReleased(run RunID) []Action {
	actions := l.endUnexpectedly(run)
	id, e := l.entryOf(run)
	delete(l.ids, run)
	if e == nil {
		return actions
	}
	if e.phase != phaseEnded {
		delete(l.entries, id)
		return actions
	}
	e.inHost = false
	l.ended = append(l.ended, endedRun{run, id})
	if len(l.ended) > MaxEnded {
		delete(l.entries, l.ended[0].id)
		l.ended = l.ended[1:]
	}
	return actions
}

// endUnexpectedly fails a run that was released without a stop, and answers its pending start.
func (l *Lifecycle) endUnexpectedly(run RunID) []Action {
	const message = "the workload ended unexpectedly"
	_, e := l.entryOf(run)
	if e == nil {
		return nil
	}
	switch e.phase {
	case phaseStarting:
		return l.OnStartFailed(run, message, true)
	case phaseActive:
		e.toEnded(stateError, message, true)
	case phaseEnded, phaseStopping:
	}
	return nil
}

// OnTick answers the starts whose deadline has passed with STARTING.
func (l *Lifecycle) OnTick(now time.Duration) []Action {
	var actions []Action
	for _, run := range slices.Sorted(maps.Keys(l.deadlines)) {
		if l.deadlines[run] > now {
			continue
		}
		delete(l.deadlines, run)
		if id, e := l.entryOf(run); e != nil && e.phase == phaseStarting {
			pendingRequest := e.pendingRequest
			e.pendingRequest = 0
			actions = l.replyTo(pendingRequest, id, actions)
		}
	}
	return actions
}

// NextTickAt returns when [Lifecycle.OnTick] is due next, if at all.
func (l *Lifecycle) NextTickAt() (at time.Duration, due bool) {
	for _, each := range l.deadlines {
		if !due || each < at {
			at, due = each, true
		}
	}
	return at, due
}

// OnShutdown refuses all later starts and stops all runs.
func (l *Lifecycle) OnShutdown() []Action {
	l.shuttingDown = true
	var actions []Action
	for _, run := range slices.Sorted(maps.Keys(l.ids)) {
		if id, e := l.entryOf(run); e != nil && (e.phase == phaseStarting || e.phase == phaseActive) {
			actions = append(actions, l.stop(id, e, "the host is shutting down")...)
		}
	}
	return actions
}

// WorkloadCount returns the number of workloads that are starting, running or stopping.
func (l *Lifecycle) WorkloadCount() (count uint64) {
	for _, e := range l.entries {
		if e.phase != phaseEnded {
			count++
		}
	}
	return count
}

// IsIdle reports whether the host has released all runs.
func (l *Lifecycle) IsIdle() bool { return len(l.ids) == 0 }

// stop stops a run that is starting or active, and answers its pending start with the reason.
func (l *Lifecycle) stop(id string, e *entry, reason string) []Action {
	var actions []Action
	if e.phase == phaseStarting && e.pendingRequest != 0 {
		actions = append(actions, Reply{e.pendingRequest, reply.Status{ID: id, State: stateStopping, Message: reason}})
	}
	e.toStopping()
	delete(l.deadlines, e.run)
	return append(actions, StopRun{e.run})
}

// replyTo appends the reply to a pending start request, if any.
func (l *Lifecycle) replyTo(pendingRequest RequestID, id string, actions []Action) []Action {
	if pendingRequest == 0 {
		return actions
	}
	return append(actions, Reply{pendingRequest, l.status(id)})
}

func (l *Lifecycle) status(id string) reply.Status {
	if e := l.entries[id]; e != nil {
		return reply.Status{ID: id, State: e.state, Message: e.message}
	}
	return reply.NotFound(id)
}

// entryOf returns the id and the entry of a run; the entry is nil if another run has the id.
func (l *Lifecycle) entryOf(run RunID) (string, *entry) {
	id := l.ids[run]
	if e := l.entries[id]; e != nil && e.run == run {
		return id, e
	}
	return id, nil
}

func (l *Lifecycle) forgetEnded(run RunID) {
	l.ended = slices.DeleteFunc(l.ended, func(e endedRun) bool { return e.run == run })
}

// messageOr returns the message, or the fallback if it is empty: ERROR needs a reason (HOST-START-008). The
// result is bounded.
func messageOr(message, fallback string) string {
	if message == "" {
		message = fallback
	}
	return reply.Shorten(message, maxMessageBytes)
}
