package lifecycle

import (
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"berth.dev/go/internal/reply"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

const stateNotFound = runtimev2.WorkloadState_WORKLOAD_STATE_NOT_FOUND

// Arguments of OnStartFailed.
const (
	guestRan    = true
	guestNotRun = false
)

// fixture is a lifecycle and requests for its id "a".
type fixture struct {
	*testing.T
	lifecycle Lifecycle
	requests  RequestID
}

func (f *fixture) request() RequestID {
	f.requests++
	return f.requests
}

func (f *fixture) start() []Action { return f.lifecycle.OnStartRequest(0, f.request(), "a") }
func (f *fixture) stop() []Action  { return f.lifecycle.OnStopRequest(f.request(), "a") }

func (f *fixture) beginStart() RunID {
	f.Helper()
	if actions := f.start(); len(actions) == 1 {
		if start, ok := actions[0].(StartRun); ok {
			return start.Run
		}
	}
	f.Fatal("the start did not begin")
	return 0
}

func (f *fixture) run() RunID {
	run := f.beginStart()
	f.lifecycle.OnStarted(run)
	return run
}

// replyIn returns the only reply in the actions.
func (f *fixture) replyIn(actions []Action) reply.Status {
	f.Helper()
	var statuses []reply.Status
	for _, action := range actions {
		if reply, ok := action.(Reply); ok {
			statuses = append(statuses, reply.Status)
		}
	}
	if len(statuses) != 1 {
		f.Fatalf("actions = %v, want exactly one reply", actions)
	}
	return statuses[0]
}

func (f *fixture) wantState(want runtimev2.WorkloadState) {
	f.Helper()
	if got := f.replyIn(f.lifecycle.OnStatusRequest(f.request(), "a")).State; got != want {
		f.Errorf("state = %v, want %v", got, want)
	}
}

func (f *fixture) wantRefused(code reply.Code) {
	f.Helper()
	if got := f.replyIn(f.start()); got.Code != code || got.State != stateError {
		f.Errorf("reply to a start = %v, want code %v", got, code)
	}
}

func (f *fixture) wantActions(got []Action, want ...Action) {
	f.Helper()
	if len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
		f.Errorf("actions = %v, want %v", got, want)
	}
}

func TestStopFreesTheID(t *testing.T) {
	f := &fixture{T: t}
	run := f.beginStart()
	f.wantState(stateStarting)
	if started := f.replyIn(f.lifecycle.OnStarted(run)); started.State != stateRunning {
		t.Errorf("reply = %v, want RUNNING", started)
	}
	if f.lifecycle.WorkloadCount() != 1 {
		t.Error("the workload is not counted")
	}
	stop := f.stop()
	if f.replyIn(stop).State != stateStopping || !slices.Contains(stop, Action(StopRun{run})) {
		t.Errorf("actions after a stop = %v, want a reply with STOPPING and a StopRun", stop)
	}
	f.wantState(stateStopping)
	f.wantRefused(reply.Conflict)
	f.lifecycle.OnReleased(run)
	f.wantState(stateNotFound)
	if !f.lifecycle.IsIdle() || f.lifecycle.WorkloadCount() != 0 {
		t.Error("a workload is left after the run is released")
	}
	if f.beginStart() == run {
		t.Error("a run id is reused")
	}
}

func TestStartOfUsedIDConflictsInEachState(t *testing.T) {
	f := &fixture{T: t}
	run := f.beginStart()
	f.wantRefused(reply.Conflict)
	f.lifecycle.OnStarted(run)
	f.wantRefused(reply.Conflict)
	f.wantActions(f.lifecycle.OnReport(run, Report{State: stateCompleted, Message: "done"}), StopRun{run})
	f.wantRefused(reply.Conflict)
	f.lifecycle.OnReleased(run)
	f.wantRefused(reply.Conflict)
	f.wantState(stateCompleted)
	if f.replyIn(f.stop()).State != stateStopping {
		t.Error("a completed workload cannot be stopped")
	}
	f.wantState(stateNotFound)
}

func TestFailedIDMayStartAgainUnlessGuestRan(t *testing.T) {
	f := &fixture{T: t}
	run := f.beginStart()
	want := reply.Status{ID: "a", State: stateError, Message: "no such image"}
	if got := f.replyIn(f.lifecycle.OnStartFailed(run, "no such image", guestNotRun)); got != want {
		t.Errorf("reply = %v, want %v", got, want)
	}
	f.lifecycle.OnReleased(run)
	f.wantState(stateError)
	run = f.beginStart()
	f.lifecycle.OnStartFailed(run, "trapped", guestRan)
	f.lifecycle.OnReleased(run)
	f.wantRefused(reply.Conflict)
}

func TestSecondStartSurvivesLateEndOfFirst(t *testing.T) {
	f := &fixture{T: t}
	first := f.beginStart()
	f.lifecycle.OnStartFailed(first, "no such image", guestNotRun)
	second := f.beginStart()
	f.lifecycle.OnReleased(first)
	f.wantState(stateStarting)
	f.lifecycle.OnStarted(second)
	f.wantState(stateRunning)
}

func TestSlowStartIsAnsweredWithStartingAndContinues(t *testing.T) {
	f := &fixture{T: t}
	run := f.beginStart()
	f.lifecycle.OnReport(run, Report{State: stateStarting, Message: "pulling"})
	if at, due := f.lifecycle.NextTickAt(); !due || at != ReplyStartingAfter {
		t.Errorf("NextTickAt = %v, %v", at, due)
	}
	f.wantActions(f.lifecycle.OnTick(ReplyStartingAfter - time.Millisecond))
	if late := f.replyIn(f.lifecycle.OnTick(ReplyStartingAfter)); late.State != stateStarting || late.Message != "pulling" {
		t.Errorf("late reply = %v, want STARTING with message \"pulling\"", late)
	}
	f.wantActions(f.lifecycle.OnStarted(run))
	f.wantState(stateRunning)
	if _, due := f.lifecycle.NextTickAt(); due {
		t.Error("a tick is due after the start has succeeded")
	}
}

func TestStopDuringStartAnswersBoth(t *testing.T) {
	f := &fixture{T: t}
	run := f.beginStart()
	f.wantActions(f.stop(),
		Reply{1, reply.Status{ID: "a", State: stateStopping, Message: "stopped during the start"}},
		StopRun{run},
		Reply{2, reply.Status{ID: "a", State: stateStopping, Message: "stopping"}})
	f.wantActions(f.lifecycle.OnStarted(run))
	f.lifecycle.OnReleased(run)
	f.wantState(stateNotFound)
}

func TestReportDuringStartAppliesAfterStart(t *testing.T) {
	for _, c := range []struct {
		report Report
		want   runtimev2.WorkloadState
		ends   bool // whether the run is stopped
	}{
		{report: Report{State: stateStarting, Message: "compiling"}, want: stateRunning, ends: false},
		// HasRun comes from an earlier report, RUNNING, that this report replaces.
		{report: Report{State: stateStarting, Message: "attempt 2 of 3", HasRun: true}, want: stateStarting, ends: false},
		{report: Report{State: stateCompleted, Message: "at once"}, want: stateCompleted, ends: true},
		{report: Report{State: stateError, Message: "at once"}, want: stateError, ends: true},
	} {
		f := &fixture{T: t}
		run := f.beginStart()
		f.lifecycle.OnReport(run, c.report)
		actions := f.lifecycle.OnStarted(run)
		if got := f.replyIn(actions).State; got != c.want || slices.Contains(actions, Action(StopRun{run})) != c.ends {
			t.Errorf("actions after report %v = %v, want state %v and ends = %v", c.report, actions, c.want, c.ends)
		}
	}
}

func TestReportAfterStopIsIgnored(t *testing.T) {
	f := &fixture{T: t}
	first := f.run()
	f.stop()
	f.wantActions(f.lifecycle.OnReport(first, Report{State: stateError, Message: "too late", HasRun: true}))
	f.wantState(stateStopping)
	f.lifecycle.OnReleased(first)
	f.run()
	f.wantActions(f.lifecycle.OnReport(first, Report{State: stateError, Message: "of the first", HasRun: true}))
	f.wantState(stateRunning)
}

func TestEndedWorkloadsAreBounded(t *testing.T) {
	var lifecycle Lifecycle
	for id := range MaxEnded + 1 {
		start := lifecycle.OnStartRequest(0, 1, strconv.Itoa(id))[0].(StartRun)
		lifecycle.OnStartFailed(start.Run, "no such image", guestNotRun)
		lifecycle.OnReleased(start.Run)
	}
	for id, want := range map[int]runtimev2.WorkloadState{0: stateNotFound, 1: stateError, MaxEnded: stateError} {
		if got := lifecycle.OnStatusRequest(1, strconv.Itoa(id))[0].(Reply).Status.State; got != want {
			t.Errorf("state of %d = %v, want %v", id, got, want)
		}
	}
}

func TestFullHostRefusesStart(t *testing.T) {
	var lifecycle Lifecycle
	for id := range MaxWorkloads {
		lifecycle.OnStartRequest(0, 1, strconv.Itoa(id))
	}
	if got := lifecycle.OnStartRequest(0, 1, "more")[0].(Reply).Status.Code; got != reply.Unavailable {
		t.Errorf("code = %v, want %v", got, reply.Unavailable)
	}
}

func TestShutdownStopsRunsAndRefusesStarts(t *testing.T) {
	f := &fixture{T: t}
	run := f.run()
	f.wantActions(f.lifecycle.OnShutdown(), StopRun{run})
	f.wantActions(f.lifecycle.OnShutdown())
	f.wantRefused(reply.Unavailable)
	if f.lifecycle.IsIdle() {
		t.Error("the lifecycle is idle before the run is released")
	}
	f.lifecycle.OnReleased(run)
	if !f.lifecycle.IsIdle() {
		t.Error("the lifecycle is not idle")
	}
}

func TestUnexpectedReleaseIsAnError(t *testing.T) {
	f := &fixture{T: t}
	run := f.beginStart()
	if got := f.replyIn(f.lifecycle.OnReleased(run)).State; got != stateError {
		t.Errorf("state after an unexpected release = %v, want ERROR", got)
	}
	f.wantRefused(reply.Conflict)
}
