package lifecycle

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"berth.dev/go/internal/reply"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// ids are few, so that turns meet.
var ids = []string{"0", "1", "2"}

// attempt is what the shell and the host are doing with one run.
type attempt struct {
	id        string
	isUp      bool
	isOver    bool
	toldToEnd int
}

type question struct {
	asked    time.Duration
	answered bool
}

// world is a shell and a host that take turns, and everything that was seen of them.
type world struct {
	*testing.T
	table    Table
	now      time.Duration
	requests RequestID
	asked    map[RequestID]*question
	runs     map[RunID]*attempt
	taken    map[string]bool
	seen     map[string]runtimev2.WorkloadState
}

func newWorld(t *testing.T) *world {
	return &world{
		T: t, asked: make(map[RequestID]*question), runs: make(map[RunID]*attempt),
		taken: make(map[string]bool), seen: make(map[string]runtimev2.WorkloadState),
	}
}

// FuzzTable plays any order of events: what a host promises must hold in each.
func FuzzTable(f *testing.F) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		turns := make([]byte, random.IntN(180))
		for i := range turns {
			turns[i] = byte(random.Uint32())
		}
		f.Add(turns)
	}
	f.Fuzz(func(t *testing.T, turns []byte) {
		w := newWorld(t)
		for turns = turns[:min(len(turns), 600)]; len(turns) >= 2; turns = turns[2:] {
			w.take(turns[0], turns[1])
		}
		w.comeToRest()
	})
}

func (w *world) take(turn, which byte) {
	id := ids[int(which)%len(ids)]
	switch turn % 16 {
	case 0, 1, 2:
		w.ask(func(r RequestID) []Action { return w.table.Start(w.now, r, id) }, true)
	case 3, 4:
		delete(w.taken, id)
		w.ask(func(r RequestID) []Action { return w.table.Stop(r, id) }, false)
	case 5:
		w.ask(func(r RequestID) []Action { return w.table.Status(r, id) }, false)
	case 6, 7, 8:
		if run, a := w.choose(which, func(a *attempt) bool { return !a.isUp && !a.isOver }); a != nil {
			a.isUp = true
			w.guestRan(a)
			w.do(w.table.Up(run))
		}
	case 9:
		if run, a := w.choose(which, func(a *attempt) bool { return !a.isUp && !a.isOver }); a != nil {
			a.isOver = true
			guestRan := which%2 == 0
			if guestRan {
				w.guestRan(a)
			}
			w.do(w.table.Refused(run, "no", guestRan))
		}
	case 10, 11:
		if run, a := w.choose(which, func(*attempt) bool { return true }); a != nil {
			state := []runtimev2.WorkloadState{starting, running, completed, failed}[which%4]
			if state != starting && !a.isOver {
				w.guestRan(a)
			}
			w.do(w.table.Reported(run, Report{State: state, WasUp: state != starting}))
		}
	case 12, 13, 14:
		if run, a := w.choose(which, func(a *attempt) bool { return a.isOver || a.toldToEnd > 0 }); a != nil {
			delete(w.runs, run)
			w.do(w.table.Gone(run))
		}
	case 15:
		w.wait(time.Duration(which) * 25 * time.Millisecond)
	}
}

// guestRan notes that guest code has run: the id is taken until it is stopped.
func (w *world) guestRan(a *attempt) {
	if a.toldToEnd == 0 {
		w.taken[a.id] = true
	}
}

func (w *world) choose(which byte, fits func(*attempt) bool) (RunID, *attempt) {
	var fit []RunID
	for _, run := range slices.Sorted(maps.Keys(w.runs)) {
		if fits(w.runs[run]) {
			fit = append(fit, run)
		}
	}
	if len(fit) == 0 {
		return 0, nil
	}
	run := fit[int(which)%len(fit)]
	return run, w.runs[run]
}

func (w *world) ask(ask func(RequestID) []Action, mayWait bool) {
	w.requests++
	w.asked[w.requests] = &question{asked: w.now}
	w.do(ask(w.requests))
	if !w.asked[w.requests].answered && !mayWait {
		w.Fatal("stop and status are answered at once")
	}
}

func (w *world) wait(pause time.Duration) {
	until := w.now + pause
	for {
		due, ok := w.table.NextTick()
		if !ok || due > until {
			break
		}
		w.now = due
		w.do(w.table.Tick(due))
	}
	w.now = until
}

func (w *world) do(actions []Action) {
	for _, action := range actions {
		switch action := action.(type) {
		case Reply:
			w.answered(action.Request, action.Status)
		case Begin:
			for _, a := range w.runs {
				if a.id == action.ID && !a.isOver {
					w.Fatalf("two runs of %s at once", a.id)
				}
			}
			if w.taken[action.ID] {
				w.Fatalf("a guest that ran is run again: %s", action.ID)
			}
			w.runs[action.Run] = &attempt{id: action.ID}
		case End:
			a := w.runs[action.Run]
			if a == nil || a.toldToEnd > 0 {
				w.Fatal("an instance is ended once, and only what runs")
			}
			a.toldToEnd++
		}
	}
	w.edgesAreLegal()
}

func (w *world) answered(request RequestID, status reply.Status) {
	question := w.asked[request]
	switch {
	case question == nil || question.answered:
		w.Fatal("one reply for each request")
	case w.now-question.asked > StartingAfter:
		w.Fatalf("answered after %v", w.now-question.asked)
	case status.State == 0 || status.Message == "":
		w.Fatalf("a state has a reason: %v", status)
	}
	question.answered = true
}

// edgesAreLegal sees that the states that status shows have moved along drawn edges only.
func (w *world) edgesAreLegal() {
	legal := map[runtimev2.WorkloadState][]runtimev2.WorkloadState{
		notFound:  {notFound, starting},
		starting:  {starting, running, completed, failed, stopping},
		running:   {starting, running, completed, failed, stopping},
		completed: {completed, stopping, notFound},
		failed:    {failed, starting, stopping, notFound},
		stopping:  {stopping, notFound},
	}
	for _, id := range ids {
		before, now := w.seen[id], w.table.status(id).State
		if before == 0 {
			before = notFound
		}
		if !slices.Contains(legal[before], now) {
			w.Fatalf("%s: %v after %v", id, now, before)
		}
		w.seen[id] = now
	}
}

// comeToRest lets the host finish what it has been told, and stops everything that is left.
func (w *world) comeToRest() {
	for i := range ids {
		w.take(3, byte(i))
	}
	for range len(w.runs) {
		w.take(12, 0)
	}
	w.wait(StartingAfter)
	if len(w.runs) > 0 || !w.table.IsIdle() || w.table.WorkloadCount() != 0 {
		w.Fatalf("a stop is lost: %v", w.runs)
	}
	for _, id := range ids {
		if state := w.table.status(id).State; state != notFound {
			w.Fatalf("%s is %v", id, state)
		}
	}
	for request, question := range w.asked {
		if !question.answered {
			w.Fatalf("%d has no reply", request)
		}
	}
}
