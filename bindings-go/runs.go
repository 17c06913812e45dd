package berth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"berth.dev/go/internal/lifecycle"
	"berth.dev/go/internal/reply"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// maxInFlight is how many starts are worked on with a caller waiting; more are answered with 503. Each
// waits for seconds at most, so this is far more than any scheduler keeps open.
const maxInFlight = 512

// runs are all workloads of one host. It carries out what the table of ids decides: starts, ends and
// watches runs, and answers callers.
type runs struct {
	host  Host
	log   *slog.Logger
	began time.Time

	// The context of all runs; it ends with the grace period of a shutdown.
	ctx    context.Context
	cancel context.CancelFunc

	mu          sync.Mutex
	table       lifecycle.Table
	lastRequest lifecycle.RequestID
	callers     map[lifecycle.RequestID]func(reply.Status)
	starting    map[lifecycle.RequestID]*runtimev2.Workload
	ends        map[lifecycle.RunID]context.CancelFunc
	tick        *time.Timer
	ending      bool
	idle        chan struct{} // closed when it is ending and nothing is left
}

func newRuns(host Host, log *slog.Logger) *runs {
	ctx, cancel := context.WithCancel(context.Background())
	return &runs{
		host: host, log: log, began: time.Now(), ctx: ctx, cancel: cancel,
		callers:  make(map[lifecycle.RequestID]func(reply.Status)),
		starting: make(map[lifecycle.RequestID]*runtimev2.Workload),
		ends:     make(map[lifecycle.RunID]context.CancelFunc),
		idle:     make(chan struct{}),
	}
}

// start starts a workload, unless its id is known. The answer is the outcome, or STARTING when that takes
// long.
func (r *runs) start(id string, workload *runtimev2.Workload, answer func(reply.Status)) {
	r.ask(answer, func(table *lifecycle.Table, request lifecycle.RequestID) []lifecycle.Action {
		if len(r.callers) > maxInFlight {
			message := fmt.Sprintf("the host is working on %d requests already", maxInFlight)
			return []lifecycle.Action{lifecycle.Reply{
				Request: request, Status: reply.Refused(id, reply.Unavailable, message),
			}}
		}
		r.starting[request] = workload
		return table.Start(time.Since(r.began), request, id)
	})
}

// ask puts a request to the table. It is answered exactly once, now or later.
func (r *runs) ask(
	answer func(reply.Status), event func(*lifecycle.Table, lifecycle.RequestID) []lifecycle.Action,
) {
	r.step(func(table *lifecycle.Table) []lifecycle.Action {
		r.lastRequest++
		r.callers[r.lastRequest] = answer
		return event(table, r.lastRequest)
	})
}

func (r *runs) workloadCount() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table.WorkloadCount()
}

// shutDown ends everything and begins nothing more.
func (r *runs) shutDown() {
	r.step(func(table *lifecycle.Table) []lifecycle.Action {
		r.ending = true
		return table.Shutdown()
	})
}

// wait waits after a shutdown until nothing is left in the host, or ctx ends.
func (r *runs) wait(ctx context.Context) (done bool) {
	defer r.cancel()
	select {
	case <-r.idle:
		return true
	case <-ctx.Done():
		return false
	}
}

// step puts an event to the table and carries out what it says. Callers are answered outside of the lock.
func (r *runs) step(event func(*lifecycle.Table) []lifecycle.Action) {
	r.mu.Lock()
	var answers []func()
	for _, action := range event(&r.table) {
		switch action := action.(type) {
		case lifecycle.Reply:
			if caller, waits := r.callers[action.Request]; waits {
				delete(r.callers, action.Request)
				answers = append(answers, func() { caller(action.Status) })
			}
			delete(r.starting, action.Request)
		case lifecycle.Begin:
			ctx, cancel := context.WithCancel(r.ctx)
			r.ends[action.Run] = cancel
			start := Start{
				ID: action.ID, Workload: r.starting[action.Request], Reporter: r.reporter(action.Run),
			}
			delete(r.starting, action.Request)
			go r.run(ctx, action.Run, start)
		case lifecycle.End:
			if end := r.ends[action.Run]; end != nil {
				end()
			}
		}
	}
	r.setTick()
	if r.ending && r.table.IsIdle() {
		select {
		case <-r.idle:
		default:
			close(r.idle)
		}
	}
	r.mu.Unlock()
	for _, answer := range answers {
		answer()
	}
}

// setTick sees that the table is told of the time when it wants to know.
func (r *runs) setTick() {
	due, isDue := r.table.NextTick()
	switch {
	case !isDue && r.tick != nil:
		r.tick.Stop()
	case !isDue:
	case r.tick == nil:
		r.tick = time.AfterFunc(due-time.Since(r.began), func() {
			r.step(func(table *lifecycle.Table) []lifecycle.Action { return table.Tick(time.Since(r.began)) })
		})
	default:
		r.tick.Reset(due - time.Since(r.began))
	}
}

func (r *runs) reporter(run lifecycle.RunID) *Reporter {
	return &Reporter{func(report lifecycle.Report) {
		r.step(func(table *lifecycle.Table) []lifecycle.Action { return table.Reported(run, report) })
	}}
}

// run is one run from its start to the moment when nothing of it is left.
func (r *runs) run(ctx context.Context, run lifecycle.RunID, start Start) {
	instance, err := r.bringUp(ctx, start)
	r.step(func(table *lifecycle.Table) []lifecycle.Action {
		if err != nil {
			return table.Refused(run, err.Error(), guestRan(err))
		}
		return table.Up(run)
	})
	if err == nil {
		// Comes at once when the workload was stopped before it was up.
		<-ctx.Done()
	}
	if instance != nil {
		r.bringDown(instance)
	}
	r.step(func(table *lifecycle.Table) []lifecycle.Action {
		r.ends[run]()
		delete(r.ends, run)
		return table.Gone(run)
	})
}

func (r *runs) bringUp(ctx context.Context, start Start) (instance Instance, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			r.log.Error("the host panicked while it started a workload", "panic", panicked, "stack", string(debug.Stack()))
			err = AfterGuestRan(errors.New("the host failed while it started the workload"))
		}
	}()
	return r.host.Start(ctx, start)
}

func (r *runs) bringDown(instance Instance) {
	defer func() {
		if panicked := recover(); panicked != nil {
			r.log.Error("the host panicked while it stopped a workload", "panic", panicked, "stack", string(debug.Stack()))
		}
	}()
	instance.Stop(r.ctx)
}
