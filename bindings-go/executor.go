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

// maxInFlight is how many requests may wait for a reply at a time; starts beyond it are refused with 503. No
// scheduler comes close to this limit, because each request waits for seconds at most.
const maxInFlight = 512

// executor executes the decisions of the lifecycle: it starts and stops workloads and replies to
// requests.
type executor struct {
	host  Host
	log   *slog.Logger
	began time.Time

	// ctx is the context of all runs; it ends with the grace period of a shutdown.
	ctx    context.Context
	cancel context.CancelFunc

	mu           sync.Mutex
	lifecycle    lifecycle.Lifecycle
	lastRequest  lifecycle.RequestID
	replies      map[lifecycle.RequestID]func(reply.Status)
	workloads    map[lifecycle.RequestID]*runtimev2.Workload // workloads whose start has not begun
	cancels      map[lifecycle.RunID]context.CancelFunc
	tick         *time.Timer
	shuttingDown bool
	idle         chan struct{} // closed when no run is left after a shutdown
}

func newExecutor(host Host, log *slog.Logger) *executor {
	ctx, cancel := context.WithCancel(context.Background())
	return &executor{
		host: host, log: log, began: time.Now(), ctx: ctx, cancel: cancel,
		replies:   make(map[lifecycle.RequestID]func(reply.Status)),
		workloads: make(map[lifecycle.RequestID]*runtimev2.Workload),
		cancels:   make(map[lifecycle.RunID]context.CancelFunc),
		idle:      make(chan struct{}),
	}
}

// start starts a workload, unless its id is in use. The reply has the outcome, or STARTING if the start takes
// longer than [lifecycle.ReplyStartingAfter].
func (e *executor) start(id string, workload *runtimev2.Workload, send func(reply.Status)) {
	e.handle(send, func(l *lifecycle.Lifecycle, request lifecycle.RequestID) []lifecycle.Action {
		if len(e.replies) > maxInFlight {
			message := fmt.Sprintf("the host has %d requests in flight", maxInFlight)
			return []lifecycle.Action{lifecycle.Reply{
				Request: request, Status: reply.Refused(id, reply.Unavailable, message),
			}}
		}
		e.workloads[request] = workload
		return l.OnStartRequest(time.Since(e.began), request, id)
	})
}

// handle passes a request to the lifecycle. Each request is answered exactly once, now or later.
func (e *executor) handle(
	send func(reply.Status), event func(*lifecycle.Lifecycle, lifecycle.RequestID) []lifecycle.Action,
) {
	e.step(func(l *lifecycle.Lifecycle) []lifecycle.Action {
		e.lastRequest++
		e.replies[e.lastRequest] = send
		return event(l, e.lastRequest)
	})
}

func (e *executor) workloadCount() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lifecycle.WorkloadCount()
}

// shutDown stops all workloads and refuses new starts.
func (e *executor) shutDown() {
	e.step(func(l *lifecycle.Lifecycle) []lifecycle.Action {
		e.shuttingDown = true
		return l.OnShutdown()
	})
}

// wait waits after a shutdown until no run is left, or until ctx ends.
func (e *executor) wait(ctx context.Context) (done bool) {
	defer e.cancel()
	select {
	case <-e.idle:
		return true
	case <-ctx.Done():
		return false
	}
}

// step passes an event to the lifecycle and executes the resulting actions. It sends replies after it has
// released the lock.
func (e *executor) step(event func(*lifecycle.Lifecycle) []lifecycle.Action) {
	e.mu.Lock()
	var sends []func()
	for _, action := range event(&e.lifecycle) {
		switch action := action.(type) {
		case lifecycle.Reply:
			if send, pending := e.replies[action.Request]; pending {
				delete(e.replies, action.Request)
				sends = append(sends, func() { send(action.Status) })
			}
			delete(e.workloads, action.Request)
		case lifecycle.StartRun:
			ctx, cancel := context.WithCancel(e.ctx)
			e.cancels[action.Run] = cancel
			request := StartRequest{
				ID: action.ID, Workload: e.workloads[action.Request], Reporter: e.reporter(action.Run),
			}
			delete(e.workloads, action.Request)
			go e.run(ctx, action.Run, request)
		case lifecycle.StopRun:
			if cancel := e.cancels[action.Run]; cancel != nil {
				cancel()
			}
		}
	}
	e.setTick()
	if e.shuttingDown && e.lifecycle.IsIdle() {
		select {
		case <-e.idle:
		default:
			close(e.idle)
		}
	}
	e.mu.Unlock()
	for _, send := range sends {
		send()
	}
}

// setTick sets the timer to the next tick that the lifecycle needs.
func (e *executor) setTick() {
	due, isDue := e.lifecycle.NextTickAt()
	switch {
	case !isDue && e.tick != nil:
		e.tick.Stop()
	case !isDue:
	case e.tick == nil:
		e.tick = time.AfterFunc(due-time.Since(e.began), func() {
			e.step(func(l *lifecycle.Lifecycle) []lifecycle.Action { return l.OnTick(time.Since(e.began)) })
		})
	default:
		e.tick.Reset(due - time.Since(e.began))
	}
}

func (e *executor) reporter(runID lifecycle.RunID) *StatusReporter {
	return &StatusReporter{func(report lifecycle.Report) {
		e.step(func(l *lifecycle.Lifecycle) []lifecycle.Action { return l.OnReport(runID, report) })
	}}
}

// run starts a workload, waits until it must stop, and stops it.
func (e *executor) run(ctx context.Context, runID lifecycle.RunID, request StartRequest) {
	instance, err := e.startInstance(ctx, request)
	message := ""
	if err != nil && ctx.Err() == nil { // nobody receives the message if the workload was stopped during its start
		message = e.startMessage(request.ID, err)
	}
	e.step(func(l *lifecycle.Lifecycle) []lifecycle.Action {
		if err != nil {
			return l.OnStartFailed(runID, message, isNonRetryable(err))
		}
		return l.OnStarted(runID)
	})
	if err == nil {
		// If the workload was stopped during its start, ctx has ended already.
		<-ctx.Done()
	}
	if instance != nil {
		e.stopInstance(instance)
	}
	e.step(func(l *lifecycle.Lifecycle) []lifecycle.Action {
		e.cancels[runID]()
		delete(e.cancels, runID)
		return l.OnReleased(runID)
	})
}

// startMessage returns the message of a [*StartError]. It logs any other error and returns a text without its details,
// because they may contain a secret.
func (e *executor) startMessage(id string, err error) string {
	if startErr := (*StartError)(nil); errors.As(err, &startErr) {
		return startErr.Message
	}
	e.log.Error("cannot start workload", "workload_id", id, "error", err)
	return "the host cannot start the workload; its log has the reason"
}

func (e *executor) startInstance(ctx context.Context, request StartRequest) (instance Instance, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			e.log.Error("panic in Start", "panic", panicked, "stack", string(debug.Stack()))
			err = NonRetryable(&StartError{Message: "internal error of the host during the start"})
		}
	}()
	return e.host.Start(ctx, request)
}

func (e *executor) stopInstance(instance Instance) {
	defer func() {
		if panicked := recover(); panicked != nil {
			e.log.Error("panic in Stop", "panic", panicked, "stack", string(debug.Stack()))
		}
	}()
	instance.Stop(e.ctx)
}
