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

// ids are few, so that steps concern the same id often.
var ids = []string{"0", "1", "2"}

// simulatedRun is the state of one run in the executor and the host.
type simulatedRun struct {
	id    string
	isUp  bool
	ended bool
	stops int
}

type simulatedRequest struct {
	sentAt   time.Duration
	answered bool
}

// simulation is an executor and a host in simulated time, with everything that they observe.
type simulation struct {
	*testing.T
	lifecycle   Lifecycle
	now         time.Duration
	lastRequest RequestID
	requests    map[RequestID]*simulatedRequest
	runs        map[RunID]*simulatedRun
	guestRan    map[string]bool
	states      map[string]runtimev2.WorkloadState
}

func newSimulation(t *testing.T) *simulation {
	return &simulation{
		T: t, requests: make(map[RequestID]*simulatedRequest), runs: make(map[RunID]*simulatedRun),
		guestRan: make(map[string]bool), states: make(map[string]runtimev2.WorkloadState),
	}
}

// FuzzLifecycle checks the invariants of a lifecycle in any order of events.
func FuzzLifecycle(f *testing.F) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		steps := make([]byte, random.IntN(180))
		for i := range steps {
			steps[i] = byte(random.Uint32())
		}
		f.Add(steps)
	}
	f.Fuzz(func(t *testing.T, steps []byte) {
		s := newSimulation(t)
		for steps = steps[:min(len(steps), 600)]; len(steps) >= 2; steps = steps[2:] {
			s.step(steps[0], steps[1])
		}
		s.quiesce()
	})
}

func (s *simulation) step(step, choice byte) {
	id := ids[int(choice)%len(ids)]
	switch step % 16 {
	case 0, 1, 2:
		s.send(func(r RequestID) []Action { return s.lifecycle.Start(s.now, r, id) }, true)
	case 3, 4:
		delete(s.guestRan, id)
		s.send(func(r RequestID) []Action { return s.lifecycle.Stop(r, id) }, false)
	case 5:
		s.send(func(r RequestID) []Action { return s.lifecycle.Status(r, id) }, false)
	case 6, 7, 8:
		if runID, run := s.choose(choice, func(r *simulatedRun) bool { return !r.isUp && !r.ended }); run != nil {
			run.isUp = true
			s.markGuestRan(run)
			s.execute(s.lifecycle.Started(runID))
		}
	case 9:
		if runID, run := s.choose(choice, func(r *simulatedRun) bool { return !r.isUp && !r.ended }); run != nil {
			run.ended = true
			guestRan := choice%2 == 0
			if guestRan {
				s.markGuestRan(run)
			}
			s.execute(s.lifecycle.StartFailed(runID, "no such image", guestRan))
		}
	case 10, 11:
		if runID, run := s.choose(choice, func(*simulatedRun) bool { return true }); run != nil {
			state := []runtimev2.WorkloadState{starting, running, completed, failed}[choice%4]
			if state != starting && !run.ended {
				s.markGuestRan(run)
			}
			s.execute(s.lifecycle.Reported(runID, Report{State: state, WasUp: state != starting}))
		}
	case 12, 13, 14:
		if runID, run := s.choose(choice, func(r *simulatedRun) bool { return r.ended || r.stops > 0 }); run != nil {
			delete(s.runs, runID)
			s.execute(s.lifecycle.Released(runID))
		}
	case 15:
		s.advance(time.Duration(choice) * 25 * time.Millisecond)
	}
}

// markGuestRan records that guest code has run: the id is in use until it is stopped.
func (s *simulation) markGuestRan(run *simulatedRun) {
	if run.stops == 0 {
		s.guestRan[run.id] = true
	}
}

func (s *simulation) choose(choice byte, matches func(*simulatedRun) bool) (RunID, *simulatedRun) {
	var matching []RunID
	for _, run := range slices.Sorted(maps.Keys(s.runs)) {
		if matches(s.runs[run]) {
			matching = append(matching, run)
		}
	}
	if len(matching) == 0 {
		return 0, nil
	}
	run := matching[int(choice)%len(matching)]
	return run, s.runs[run]
}

func (s *simulation) send(event func(RequestID) []Action, mayWait bool) {
	s.lastRequest++
	s.requests[s.lastRequest] = &simulatedRequest{sentAt: s.now}
	s.execute(event(s.lastRequest))
	if !s.requests[s.lastRequest].answered && !mayWait {
		s.Fatal("a stop or status is not answered at once")
	}
}

func (s *simulation) advance(duration time.Duration) {
	until := s.now + duration
	for {
		due, ok := s.lifecycle.NextTick()
		if !ok || due > until {
			break
		}
		s.now = due
		s.execute(s.lifecycle.Tick(due))
	}
	s.now = until
}

func (s *simulation) execute(actions []Action) {
	for _, action := range actions {
		switch action := action.(type) {
		case Reply:
			s.onReply(action.Request, action.Status)
		case StartRun:
			for _, run := range s.runs {
				if run.id == action.ID && !run.ended {
					s.Fatalf("two simultaneous runs of %s", run.id)
				}
			}
			if s.guestRan[action.ID] {
				s.Fatalf("a guest runs twice: %s", action.ID)
			}
			s.runs[action.Run] = &simulatedRun{id: action.ID}
		case StopRun:
			run := s.runs[action.Run]
			if run == nil || run.stops > 0 {
				s.Fatal("a run is stopped twice, or was never started")
			}
			run.stops++
		}
	}
	s.checkTransitions()
}

func (s *simulation) onReply(id RequestID, status reply.Status) {
	request := s.requests[id]
	switch {
	case request == nil || request.answered:
		s.Fatal("a request has two replies, or was never sent")
	case s.now-request.sentAt > StartingAfter:
		s.Fatalf("answered after %v", s.now-request.sentAt)
	case status.State == 0 || status.Message == "":
		s.Fatalf("a status without a state or a message: %v", status)
	}
	request.answered = true
}

// checkTransitions checks that the visible states change along the legal transitions only.
func (s *simulation) checkTransitions() {
	legal := map[runtimev2.WorkloadState][]runtimev2.WorkloadState{
		notFound:  {notFound, starting},
		starting:  {starting, running, completed, failed, stopping},
		running:   {starting, running, completed, failed, stopping},
		completed: {completed, stopping, notFound},
		failed:    {failed, starting, stopping, notFound},
		stopping:  {stopping, notFound},
	}
	for _, id := range ids {
		before, now := s.states[id], s.lifecycle.status(id).State
		if before == 0 {
			before = notFound
		}
		if !slices.Contains(legal[before], now) {
			s.Fatalf("%s: %v after %v", id, now, before)
		}
		s.states[id] = now
	}
}

// quiesce stops all workloads and lets the host finish.
func (s *simulation) quiesce() {
	for i := range ids {
		s.step(3, byte(i))
	}
	for range len(s.runs) {
		s.step(12, 0)
	}
	s.advance(StartingAfter)
	if len(s.runs) > 0 || !s.lifecycle.IsIdle() || s.lifecycle.WorkloadCount() != 0 {
		s.Fatalf("a stop is lost: %v", s.runs)
	}
	for _, id := range ids {
		if state := s.lifecycle.status(id).State; state != notFound {
			s.Fatalf("the state of %s is %v", id, state)
		}
	}
	for id, request := range s.requests {
		if !request.answered {
			s.Fatalf("request %d has no reply", id)
		}
	}
}
