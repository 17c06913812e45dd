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

// There are only three ids, so that many steps affect the same id.
var ids = []string{"0", "1", "2"}

// simulatedRun is the state of one run in the executor and the host, from its StartRun to its release.
type simulatedRun struct {
	id          string
	isStarted   bool
	startFailed bool
	isStopped   bool
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

// stepKind is a kind of step of the simulation.
type stepKind int

const (
	stepStart stepKind = iota
	stepStop
	stepStatus
	stepStarted
	stepStartFailed
	stepReport
	stepRelease
	stepWait
)

// stepKinds has each kind as often as it should occur among 16 steps.
var stepKinds = [16]stepKind{
	stepStart, stepStart, stepStart,
	stepStop, stepStop,
	stepStatus,
	stepStarted, stepStarted, stepStarted,
	stepStartFailed,
	stepReport, stepReport,
	stepRelease, stepRelease, stepRelease,
	stepWait,
}

// FuzzLifecycle checks the invariants of a lifecycle for events in any order.
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
			s.perform(stepKinds[steps[0]%16], steps[1])
		}
		s.quiesce()
	})
}

// perform performs one step. choice selects the id or the run, and the details of the step.
func (s *simulation) perform(kind stepKind, choice byte) {
	id := ids[int(choice)%len(ids)]
	isStarting := func(r *simulatedRun) bool { return !r.isStarted && !r.startFailed }
	switch kind {
	case stepStart:
		s.send(func(r RequestID) []Action { return s.lifecycle.OnStartRequest(s.now, r, id) })
	case stepStop:
		delete(s.guestRan, id)
		s.sendAndWantReply(func(r RequestID) []Action { return s.lifecycle.OnStopRequest(r, id) })
	case stepStatus:
		s.sendAndWantReply(func(r RequestID) []Action { return s.lifecycle.OnStatusRequest(r, id) })
	case stepStarted:
		if runID, run := s.choose(choice, isStarting); run != nil {
			run.isStarted = true
			s.markGuestRan(run)
			s.execute(s.lifecycle.OnStarted(runID))
		}
	case stepStartFailed:
		if runID, run := s.choose(choice, isStarting); run != nil {
			run.startFailed = true
			hasRun := choice%2 == 0
			if hasRun {
				s.markGuestRan(run)
			}
			s.execute(s.lifecycle.OnStartFailed(runID, "no such image", hasRun))
		}
	case stepReport:
		if runID, run := s.choose(choice, func(*simulatedRun) bool { return true }); run != nil {
			state := []runtimev2.WorkloadState{stateStarting, stateRunning, stateCompleted, stateError}[choice%4]
			if state != stateStarting && !run.startFailed {
				s.markGuestRan(run)
			}
			s.execute(s.lifecycle.OnReport(runID, Report{State: state, HasRun: state != stateStarting}))
		}
	case stepRelease:
		if runID, run := s.choose(choice, func(r *simulatedRun) bool { return r.startFailed || r.isStopped }); run != nil {
			delete(s.runs, runID)
			s.execute(s.lifecycle.OnReleased(runID))
		}
	case stepWait:
		s.advance(time.Duration(choice) * 25 * time.Millisecond)
	}
}

// markGuestRan records that guest code has run: the id is in use until it is stopped.
func (s *simulation) markGuestRan(run *simulatedRun) {
	if !run.isStopped {
		s.guestRan[run.id] = true
	}
}

func (s *simulation) choose(choice byte, matches func(*simulatedRun) bool) (RunID, *simulatedRun) {
	var matching []RunID
	for _, runID := range slices.Sorted(maps.Keys(s.runs)) {
		if matches(s.runs[runID]) {
			matching = append(matching, runID)
		}
	}
	if len(matching) == 0 {
		return 0, nil
	}
	runID := matching[int(choice)%len(matching)]
	return runID, s.runs[runID]
}

func (s *simulation) send(event func(RequestID) []Action) {
	s.lastRequest++
	s.requests[s.lastRequest] = &simulatedRequest{sentAt: s.now}
	s.execute(event(s.lastRequest))
}

func (s *simulation) sendAndWantReply(event func(RequestID) []Action) {
	s.send(event)
	if !s.requests[s.lastRequest].answered {
		s.Fatal("a stop or status is not answered at once")
	}
}

func (s *simulation) advance(duration time.Duration) {
	until := s.now + duration
	for {
		due, ok := s.lifecycle.NextTickAt()
		if !ok || due > until {
			break
		}
		s.now = due
		s.execute(s.lifecycle.OnTick(due))
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
				if run.id == action.ID && !run.startFailed {
					s.Fatalf("two simultaneous runs of %s", run.id)
				}
			}
			if s.guestRan[action.ID] {
				s.Fatalf("a guest runs twice: %s", action.ID)
			}
			s.runs[action.Run] = &simulatedRun{id: action.ID}
		case StopRun:
			run := s.runs[action.Run]
			if run == nil || run.isStopped {
				s.Fatal("a run is stopped twice, or was never started")
			}
			run.isStopped = true
		}
	}
	s.checkTransitions()
}

func (s *simulation) onReply(id RequestID, status reply.Status) {
	request := s.requests[id]
	switch {
	case request == nil || request.answered:
		s.Fatal("a request has two replies, or was never sent")
	case s.now-request.sentAt > ReplyStartingAfter:
		s.Fatalf("a request is answered only after %v", s.now-request.sentAt)
	case status.State == 0 || status.Message == "":
		s.Fatalf("a status without a state or a message: %v", status)
	}
	request.answered = true
}

// checkTransitions checks that the visible states change along the legal transitions only.
func (s *simulation) checkTransitions() {
	legal := map[runtimev2.WorkloadState][]runtimev2.WorkloadState{
		stateNotFound:  {stateNotFound, stateStarting},
		stateStarting:  {stateStarting, stateRunning, stateCompleted, stateError, stateStopping},
		stateRunning:   {stateStarting, stateRunning, stateCompleted, stateError, stateStopping},
		stateCompleted: {stateCompleted, stateStopping, stateNotFound},
		stateError:     {stateError, stateStarting, stateStopping, stateNotFound},
		stateStopping:  {stateStopping, stateNotFound},
	}
	for _, id := range ids {
		before, now := s.states[id], s.lifecycle.status(id).State
		if before == 0 {
			before = stateNotFound
		}
		if !slices.Contains(legal[before], now) {
			s.Fatalf("the state of %s changes from %v to %v", id, before, now)
		}
		s.states[id] = now
	}
}

// quiesce stops all workloads and lets the host finish.
func (s *simulation) quiesce() {
	for i := range ids {
		s.perform(stepStop, byte(i))
	}
	for range len(s.runs) {
		s.perform(stepRelease, 0)
	}
	s.advance(ReplyStartingAfter)
	if len(s.runs) > 0 || !s.lifecycle.IsIdle() || s.lifecycle.WorkloadCount() != 0 {
		s.Fatalf("runs are left after all were stopped: %v", s.runs)
	}
	for _, id := range ids {
		if state := s.lifecycle.status(id).State; state != stateNotFound {
			s.Fatalf("the state of %s is %v", id, state)
		}
	}
	for id, request := range s.requests {
		if !request.answered {
			s.Fatalf("request %d has no reply", id)
		}
	}
}
