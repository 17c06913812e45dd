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

const notFound = runtimev2.WorkloadState_WORKLOAD_STATE_NOT_FOUND

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

func (f *fixture) start() []Action { return f.lifecycle.Start(0, f.request(), "a") }
func (f *fixture) stop() []Action  { return f.lifecycle.Stop(f.request(), "a") }

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
	f.lifecycle.Started(run)
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
		f.Fatalf("not one reply: %v", actions)
	}
	return statuses[0]
}

func (f *fixture) wantState(want runtimev2.WorkloadState) {
	f.Helper()
	if got := f.replyIn(f.lifecycle.Status(f.request(), "a")).State; got != want {
		f.Errorf("state = %v, want %v", got, want)
	}
}

func (f *fixture) wantRefused(code reply.Code) {
	f.Helper()
	if got := f.replyIn(f.start()); got.Code != code || got.State != failed {
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
	f.wantState(starting)
	if started := f.replyIn(f.lifecycle.Started(run)); started.State != running {
		t.Errorf("reply = %v, want RUNNING", started)
	}
	if f.lifecycle.WorkloadCount() != 1 {
		t.Error("the workload is not counted")
	}
	stop := f.stop()
	if f.replyIn(stop).State != stopping || !slices.Contains(stop, Action(StopRun{run})) {
		t.Errorf("stop: %v", stop)
	}
	f.wantState(stopping)
	f.wantRefused(reply.Conflict)
	f.lifecycle.Released(run)
	f.wantState(notFound)
	if !f.lifecycle.IsIdle() || f.lifecycle.WorkloadCount() != 0 {
		t.Error("a workload is left")
	}
	if f.beginStart() == run {
		t.Error("a run id is reused")
	}
}

func TestStartOfUsedIDConflictsInEachState(t *testing.T) {
	f := &fixture{T: t}
	run := f.beginStart()
	f.wantRefused(reply.Conflict)
	f.lifecycle.Started(run)
	f.wantRefused(reply.Conflict)
	f.wantActions(f.lifecycle.Reported(run, Report{completed, "done", true}), StopRun{run})
	f.wantRefused(reply.Conflict)
	f.lifecycle.Released(run)
	f.wantRefused(reply.Conflict)
	f.wantState(completed)
	if f.replyIn(f.stop()).State != stopping {
		t.Error("a completed workload cannot be stopped")
	}
	f.wantState(notFound)
}

func TestFailedIDMayStartAgainUnlessGuestRan(t *testing.T) {
	f := &fixture{T: t}
	run := f.beginStart()
	if status := f.replyIn(f.lifecycle.StartFailed(run, "no such image", false)); status != (reply.Status{ID: "a", State: failed, Message: "no such image"}) {
		t.Errorf("%v", status)
	}
	f.lifecycle.Released(run)
	f.wantState(failed)
	run = f.beginStart()
	f.lifecycle.StartFailed(run, "trapped", true)
	f.lifecycle.Released(run)
	f.wantRefused(reply.Conflict)
}

func TestSecondStartSurvivesLateEndOfFirst(t *testing.T) {
	f := &fixture{T: t}
	first := f.beginStart()
	f.lifecycle.StartFailed(first, "no such image", false)
	second := f.beginStart()
	f.lifecycle.Released(first)
	f.wantState(starting)
	f.lifecycle.Started(second)
	f.wantState(running)
}

func TestSlowStartIsAnsweredWithStartingAndContinues(t *testing.T) {
	f := &fixture{T: t}
	run := f.beginStart()
	f.lifecycle.Reported(run, Report{State: starting, Message: "pulling"})
	if at, due := f.lifecycle.NextTick(); !due || at != StartingAfter {
		t.Errorf("NextTick = %v, %v", at, due)
	}
	f.wantActions(f.lifecycle.Tick(StartingAfter - time.Millisecond))
	if late := f.replyIn(f.lifecycle.Tick(StartingAfter)); late.State != starting || late.Message != "pulling" {
		t.Errorf("%v", late)
	}
	f.wantActions(f.lifecycle.Started(run))
	f.wantState(running)
	if _, due := f.lifecycle.NextTick(); due {
		t.Error("a tick is due")
	}
}

func TestStopDuringStartAnswersBoth(t *testing.T) {
	f := &fixture{T: t}
	run := f.beginStart()
	f.wantActions(f.stop(),
		Reply{1, reply.Status{ID: "a", State: stopping, Message: "stopped during the start"}},
		StopRun{run},
		Reply{2, reply.Status{ID: "a", State: stopping, Message: "stopping"}})
	f.wantActions(f.lifecycle.Started(run))
	f.lifecycle.Released(run)
	f.wantState(notFound)
}

func TestReportDuringStartAppliesAfterStart(t *testing.T) {
	for _, c := range []struct {
		report Report
		want   runtimev2.WorkloadState
		ends   bool
	}{
		{Report{starting, "compiling", false}, running, false},
		{Report{starting, "attempt 2 of 3", true}, starting, false},
		{Report{completed, "at once", true}, completed, true},
		{Report{failed, "at once", true}, failed, true},
	} {
		f := &fixture{T: t}
		run := f.beginStart()
		f.lifecycle.Reported(run, c.report)
		actions := f.lifecycle.Started(run)
		if got := f.replyIn(actions).State; got != c.want || slices.Contains(actions, Action(StopRun{run})) != c.ends {
			t.Errorf("%v: %v", c.report, actions)
		}
	}
}

func TestReportAfterStopIsIgnored(t *testing.T) {
	f := &fixture{T: t}
	first := f.run()
	f.stop()
	f.wantActions(f.lifecycle.Reported(first, Report{failed, "too late", true}))
	f.wantState(stopping)
	f.lifecycle.Released(first)
	f.run()
	f.wantActions(f.lifecycle.Reported(first, Report{failed, "of the first", true}))
	f.wantState(running)
}

func TestEndedWorkloadsAreBounded(t *testing.T) {
	var table Lifecycle
	for id := range MaxEnded + 1 {
		start := table.Start(0, 1, strconv.Itoa(id))[0].(StartRun)
		table.StartFailed(start.Run, "no such image", false)
		table.Released(start.Run)
	}
	for id, want := range map[int]runtimev2.WorkloadState{0: notFound, 1: failed, MaxEnded: failed} {
		if got := table.Status(1, strconv.Itoa(id))[0].(Reply).Status.State; got != want {
			t.Errorf("state of %d = %v, want %v", id, got, want)
		}
	}
}

func TestFullHostRefusesStart(t *testing.T) {
	var table Lifecycle
	for id := range MaxWorkloads {
		table.Start(0, 1, strconv.Itoa(id))
	}
	if got := table.Start(0, 1, "more")[0].(Reply).Status.Code; got != reply.Unavailable {
		t.Errorf("code = %v, want %v", got, reply.Unavailable)
	}
}

func TestShutdownStopsRunsAndRefusesStarts(t *testing.T) {
	f := &fixture{T: t}
	run := f.run()
	f.wantActions(f.lifecycle.Shutdown(), StopRun{run})
	f.wantActions(f.lifecycle.Shutdown())
	f.wantRefused(reply.Unavailable)
	if f.lifecycle.IsIdle() {
		t.Error("the table is idle too early")
	}
	f.lifecycle.Released(run)
	if !f.lifecycle.IsIdle() {
		t.Error("the table is not idle")
	}
}

func TestUnexpectedEndIsAnError(t *testing.T) {
	f := &fixture{T: t}
	run := f.beginStart()
	if got := f.replyIn(f.lifecycle.Released(run)).State; got != failed {
		t.Errorf("%v", got)
	}
	f.wantRefused(reply.Conflict)
}
