package berth

import "berth.dev/go/internal/lifecycle"

// Reporter tells of a running workload's later life. Its methods never wait. What is reported after the
// workload was stopped is ignored, so a goroutine need not know whether it was.
//
// While [Host.Start] is still under way, Starting changes the message that a status shows. When it returns
// without an error the state is RUNNING, unless Running or an end was reported already: then the latest
// report stands.
type Reporter struct {
	report func(lifecycle.Report)
}

// NewReporter gives a reporter for tests of a host: each report is handed to the function.
func NewReporter(report func(state State, message string)) *Reporter {
	return &Reporter{func(r lifecycle.Report) { report(r.State, r.Message) }}
}

// Starting says that it is not up, or not up again, for example between two runs of a service.
func (r *Reporter) Starting(message string) { r.send(StateStarting, message) }

// Running says that it is up.
func (r *Reporter) Running(message string) { r.send(StateRunning, message) }

// Completed says that it is done, and well. The instance is then stopped; the id stays visible as COMPLETED
// until the scheduler stops it.
func (r *Reporter) Completed(message string) { r.send(StateCompleted, message) }

// Failed says that it is over, and not well. The instance is then stopped; the id stays visible as ERROR,
// with this message, until the scheduler stops it.
func (r *Reporter) Failed(message string) { r.send(StateError, message) }

func (r *Reporter) send(state State, message string) {
	r.report(lifecycle.Report{State: state, Message: message})
}
