package lifecycle

import runtimev2 "berth.dev/go/wasmcloud/runtime/v2"

// entry is what is known of one id.
type entry struct {
	run     RunID
	phase   phase
	state   runtimev2.WorkloadState
	message string

	// While it is starting: the start that has no answer yet, 0 for none, and the latest report.
	waiting RequestID
	report  *Report

	// When it has ended: whether guest code ran, and whether the host has not let go of it yet.
	guestRan bool
	inHost   bool
}

// phase is where a run stands. Each run goes down this list and never up.
type phase int

const (
	// phaseStarting: the host is bringing it up.
	phaseStarting phase = iota
	// phaseUp: the host has an instance; STARTING (between two runs of a service) or RUNNING.
	phaseUp
	// phaseEnded: over by itself, COMPLETED or ERROR.
	phaseEnded
	// phaseStopping: a stop was acknowledged; the id is free when the host has let go of it.
	phaseStopping
)

// mayStartAgain tells of an id in ERROR of which no guest code ever ran (HOST-START-017).
func (e *entry) mayStartAgain() bool {
	return e.phase == phaseEnded && e.state == failed && !e.guestRan
}

func (e *entry) toStopping() {
	e.phase, e.state, e.message = phaseStopping, stopping, "stopping"
}

func (e *entry) toEnded(state runtimev2.WorkloadState, message string, guestRan bool) {
	e.phase, e.state, e.message = phaseEnded, state, message
	e.guestRan, e.inHost = guestRan, true
}
