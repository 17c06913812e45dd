package lifecycle

import runtimev2 "berth.dev/go/wasmcloud/runtime/v2"

// entry is the state of one id.
type entry struct {
	run     RunID
	phase   phase
	state   runtimev2.WorkloadState
	message string

	// While starting: the start that has no reply yet, 0 for none, and the latest report.
	waiting RequestID
	report  *Report

	// When ended: whether guest code has run, and whether the run is still in the host.
	guestRan bool
	inHost   bool
}

// phase is the phase of a run. A run moves down this list only.
type phase int

const (
	// phaseStarting: the host is starting the workload.
	phaseStarting phase = iota
	// phaseUp: the host has an instance; the state is RUNNING, or STARTING between two runs of a service.
	phaseUp
	// phaseEnded: the run has ended by itself; the state is COMPLETED or ERROR.
	phaseEnded
	// phaseStopping: a stop is acknowledged; the id is in use until the run is gone.
	phaseStopping
)

// mayStartAgain reports whether the id is in ERROR and no guest code has run (HOST-START-017).
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
