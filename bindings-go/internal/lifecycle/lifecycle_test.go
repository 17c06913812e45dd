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

// one is a table of which one id is asked.
type one struct {
	*testing.T
	table    Table
	requests RequestID
}

func (o *one) request() RequestID {
	o.requests++
	return o.requests
}

func (o *one) start() []Action { return o.table.Start(0, o.request(), "a") }
func (o *one) stop() []Action  { return o.table.Stop(o.request(), "a") }

func (o *one) begin() RunID {
	o.Helper()
	if actions := o.start(); len(actions) == 1 {
		if begin, ok := actions[0].(Begin); ok {
			return begin.Run
		}
	}
	o.Fatal("the start was not begun")
	return 0
}

func (o *one) run() RunID {
	run := o.begin()
	o.table.Up(run)
	return run
}

// said gives the one answer of the actions.
func (o *one) said(actions []Action) reply.Status {
	o.Helper()
	var statuses []reply.Status
	for _, action := range actions {
		if reply, ok := action.(Reply); ok {
			statuses = append(statuses, reply.Status)
		}
	}
	if len(statuses) != 1 {
		o.Fatalf("not one reply: %v", actions)
	}
	return statuses[0]
}

func (o *one) wantState(want runtimev2.WorkloadState) {
	o.Helper()
	if got := o.said(o.table.Status(o.request(), "a")).State; got != want {
		o.Errorf("the state is %v, want %v", got, want)
	}
}

func (o *one) wantRefused(code reply.Code) {
	o.Helper()
	if got := o.said(o.start()); got.Code != code || got.State != failed {
		o.Errorf("a start is answered with %v, want %v", got, code)
	}
}

func (o *one) wantActions(got []Action, want ...Action) {
	o.Helper()
	if len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
		o.Errorf("actions %v, want %v", got, want)
	}
}

func TestAWorkloadLivesAndIsStopped(t *testing.T) {
	o := &one{T: t}
	run := o.begin()
	o.wantState(starting)
	if up := o.said(o.table.Up(run)); up.State != running {
		t.Errorf("up is answered with %v", up)
	}
	if o.table.WorkloadCount() != 1 {
		t.Error("it is not counted")
	}
	stop := o.stop()
	if o.said(stop).State != stopping || !slices.Contains(stop, Action(End{run})) {
		t.Errorf("stop: %v", stop)
	}
	o.wantState(stopping)
	o.wantRefused(reply.Conflict)
	o.table.Gone(run)
	o.wantState(notFound)
	if !o.table.IsIdle() || o.table.WorkloadCount() != 0 {
		t.Error("something is left")
	}
	if o.begin() == run {
		t.Error("a run is used again")
	}
}

func TestAKnownIDIsRefusedInEachState(t *testing.T) {
	o := &one{T: t}
	run := o.begin()
	o.wantRefused(reply.Conflict)
	o.table.Up(run)
	o.wantRefused(reply.Conflict)
	o.wantActions(o.table.Reported(run, Report{completed, "done", true}), End{run})
	o.wantRefused(reply.Conflict)
	o.table.Gone(run)
	o.wantRefused(reply.Conflict)
	o.wantState(completed)
	if o.said(o.stop()).State != stopping {
		t.Error("a completed one cannot be stopped")
	}
	o.wantState(notFound)
}

func TestAnIDWhoseGuestNeverRanMayStartAgain(t *testing.T) {
	o := &one{T: t}
	run := o.begin()
	if refused := o.said(o.table.Refused(run, "no such image", false)); refused != (reply.Status{ID: "a", State: failed, Message: "no such image"}) {
		t.Errorf("%v", refused)
	}
	o.table.Gone(run)
	o.wantState(failed)
	run = o.begin()
	o.table.Refused(run, "trapped", true)
	o.table.Gone(run)
	o.wantRefused(reply.Conflict)
}

func TestAStartThatEndsAgainBeforeTheHostLetGoOfTheFirst(t *testing.T) {
	o := &one{T: t}
	first := o.begin()
	o.table.Refused(first, "no such image", false)
	second := o.begin()
	o.table.Gone(first)
	o.wantState(starting)
	o.table.Up(second)
	o.wantState(running)
}

func TestASlowStartIsAnsweredWithStartingAndGoesOn(t *testing.T) {
	o := &one{T: t}
	run := o.begin()
	o.table.Reported(run, Report{State: starting, Message: "pulling"})
	if at, due := o.table.NextTick(); !due || at != StartingAfter {
		t.Errorf("a tick is due at %v, %v", at, due)
	}
	o.wantActions(o.table.Tick(StartingAfter - time.Millisecond))
	if late := o.said(o.table.Tick(StartingAfter)); late.State != starting || late.Message != "pulling" {
		t.Errorf("%v", late)
	}
	o.wantActions(o.table.Up(run))
	o.wantState(running)
	if _, due := o.table.NextTick(); due {
		t.Error("a tick is due")
	}
}

func TestAStopDuringTheStartAnswersBoth(t *testing.T) {
	o := &one{T: t}
	run := o.begin()
	o.wantActions(o.stop(),
		Reply{1, reply.Status{ID: "a", State: stopping, Message: "stopped while it was starting"}},
		End{run},
		Reply{2, reply.Status{ID: "a", State: stopping, Message: "stopping"}})
	o.wantActions(o.table.Up(run))
	o.table.Gone(run)
	o.wantState(notFound)
}

func TestReportsDuringTheStartCountWhenItIsOver(t *testing.T) {
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
		o := &one{T: t}
		run := o.begin()
		o.table.Reported(run, c.report)
		up := o.table.Up(run)
		if got := o.said(up).State; got != c.want || slices.Contains(up, Action(End{run})) != c.ends {
			t.Errorf("%v: %v", c.report, up)
		}
	}
}

func TestReportsAfterAStopAreIgnored(t *testing.T) {
	o := &one{T: t}
	first := o.run()
	o.stop()
	o.wantActions(o.table.Reported(first, Report{failed, "too late", true}))
	o.wantState(stopping)
	o.table.Gone(first)
	o.run()
	o.wantActions(o.table.Reported(first, Report{failed, "of the first", true}))
	o.wantState(running)
}

func TestEndedWorkloadsAreKeptInBounds(t *testing.T) {
	var table Table
	for id := range MaxEnded + 1 {
		begin := table.Start(0, 1, strconv.Itoa(id))[0].(Begin)
		table.Refused(begin.Run, "no", false)
		table.Gone(begin.Run)
	}
	for id, want := range map[int]runtimev2.WorkloadState{0: notFound, 1: failed, MaxEnded: failed} {
		if got := table.Status(1, strconv.Itoa(id))[0].(Reply).Status.State; got != want {
			t.Errorf("%d is %v, want %v", id, got, want)
		}
	}
}

func TestAFullHostSaysSo(t *testing.T) {
	var table Table
	for id := range MaxWorkloads {
		table.Start(0, 1, strconv.Itoa(id))
	}
	if got := table.Start(0, 1, "more")[0].(Reply).Status.Code; got != reply.Unavailable {
		t.Errorf("one more is answered with %v", got)
	}
}

func TestShutdownEndsEverythingAndBeginsNothing(t *testing.T) {
	o := &one{T: t}
	run := o.run()
	o.wantActions(o.table.Shutdown(), End{run})
	o.wantActions(o.table.Shutdown())
	o.wantRefused(reply.Unavailable)
	if o.table.IsIdle() {
		t.Error("it is idle too early")
	}
	o.table.Gone(run)
	if !o.table.IsIdle() {
		t.Error("it is not idle")
	}
}

func TestARunThatIsLostIsAnError(t *testing.T) {
	o := &one{T: t}
	run := o.begin()
	if got := o.said(o.table.Gone(run)).State; got != failed {
		t.Errorf("%v", got)
	}
	o.wantRefused(reply.Conflict)
}
