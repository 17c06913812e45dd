package lifecycle

import runtimev2 "berth.dev/go/wasmcloud/runtime/v2"

// entry is the state of one id.
type entry struct {
	run     RunID
	phase   phase
	state   runtimev2.WorkloadState
	message string

	// While starting: pendingRequest is the start request that has no reply yet, or 0; latestReport is the most recent
	// report of the host, if any.
	pendingRequest RequestID
	latestReport   *Report

	// When ended: guestRan is whether guest code has run; inHost is true until the host has released the run.
	guestRan bool
	inHost   bool
}

// phase is the phase of a run. A run passes the phases in this order and may skip some.
type phase int

const (
	// phaseStarting: the host is starting the workload.
	phaseStarting phase = iota
	// phaseActive: the host has an instance; the state is RUNNING, or STARTING while a failed service waits to
	// be restarted.
	phaseActive
	// phaseEnded: the run has ended by itself; the state is COMPLETED or ERROR.
	phaseEnded
	// phaseStopping: a stop is acknowledged; the id is in use until the host has released the run.
	phaseStopping
)

// canStartAgain reports whether the id is in ERROR and no guest code has run (HOST-START-017).
func (e *entry) canStartAgain() bool {
	return e.phase == phaseEnded && e.state == stateError && !e.guestRan
}

func (e *entry) toStopping() {
	e.phase, e.state, e.message = phaseStopping, stateStopping, "stopping"
}

func (e *entry) toEnded(state runtimev2.WorkloadState, message string, guestRan bool) {
	e.phase, e.state, e.message = phaseEnded, state, message
	e.guestRan, e.inHost = guestRan, true
}
