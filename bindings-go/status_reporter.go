package berth

import "berth.dev/go/internal/lifecycle"

// StatusReporter reports later state changes of a workload. Its methods never block. Reports after the
// workload was stopped are ignored.
//
// While [Host.Start] is in flight, Starting changes the message of the status. When Host.Start returns without
// an error, the state becomes RUNNING. If Running, Completed or Failed was called before, the state becomes
// that of the latest report instead.
type StatusReporter struct {
	report func(lifecycle.Report)
}

// NewStatusReporter returns a reporter for tests of a host. It passes each report to the function, unless it is nil.
func NewStatusReporter(report func(state State, message string)) *StatusReporter {
	return &StatusReporter{func(r lifecycle.Report) {
		if report != nil {
			report(r.State, r.Message)
		}
	}}
}

// Starting reports that the workload is not running yet, or that a failed service waits to be restarted.
func (r *StatusReporter) Starting(message string) { r.send(StateStarting, message) }

// Running reports that the workload is running.
func (r *StatusReporter) Running(message string) { r.send(StateRunning, message) }

// Completed reports that the workload has ended successfully. The instance is then stopped; the id stays
// visible as COMPLETED until the scheduler stops it.
func (r *StatusReporter) Completed(message string) { r.send(StateCompleted, message) }

// Failed reports that the workload has failed. The instance is then stopped; the id stays visible as ERROR,
// with this message, until the scheduler stops it.
func (r *StatusReporter) Failed(message string) { r.send(StateError, message) }

func (r *StatusReporter) send(state State, message string) {
	r.report(lifecycle.Report{State: state, Message: message})
}
