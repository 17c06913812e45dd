package main

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	berth "berth.dev/go"
)

const (
	// pollInterval is the time between two status requests for a workload.
	pollInterval = 2 * time.Second

	// startTimeout is how long a host may take to reply to a start, during which it may be silent.
	startTimeout = 60 * time.Second

	// The delay after a failed start is a second, then two, four and so on, up to a minute: never more than
	// ten starts in half a minute. A healthy minute resets it.
	minRetryDelay = time.Second
	maxRetryDelay = time.Minute
	healthyAfter  = time.Minute

	// avoidFor is how long a host on which a replica failed is the last choice for that replica.
	avoidFor = 5 * time.Minute
)

// replicaRunner runs one replica, in one incarnation after the other. Each runner has a goroutine of its own, so
// that a slow host delays only its own replicas.
type replicaRunner struct {
	scheduler *scheduler
	replica   replica
	desired   desiredObject
	cancel    context.CancelCauseFunc

	// failedAt is when the replica last failed on a host: other feasible hosts are tried first.
	failedAt     map[string]time.Time
	failureCount int
}

// run runs the replica until wanted ends, and then retires its incarnation. When the process ends, and root with
// it, run leaves the incarnation running.
func (r *replicaRunner) run(root, wanted context.Context) {
	for {
		current, isNew, ok := r.next(wanted)
		if !ok {
			return
		}
		began := time.Now()
		err := r.runIncarnation(wanted, current, isNew)
		switch {
		case root.Err() != nil:
			return
		case wanted.Err() != nil:
			r.scheduler.retire(root, current)
			return
		case errors.Is(err, errHostLost):
			r.setStatus(current, false, err.Error())
			r.scheduler.retire(root, current)
		case errors.Is(err, berth.ErrNoResponders):
			// Nothing was started: another host can run the replica at once.
			r.setStatus(current, false, err.Error())
			r.failedAt[current.Host] = time.Now()
			r.scheduler.removeState(current)
			sleep(wanted, 200*time.Millisecond)
		default:
			r.setStatus(current, false, err.Error())
			r.failedAt[current.Host] = time.Now()
			r.scheduler.retire(root, current)
			r.backOff(wanted, time.Since(began))
		}
	}
}

// next returns the incarnation to run: one of an earlier process, or a new one, as soon as the previous one has
// ended and a host is feasible.
func (r *replicaRunner) next(wanted context.Context) (next incarnation, isNew, ok bool) {
	for _, each := range r.scheduler.state.all() {
		if each.Replica == r.replica && each.RetiredAt.IsZero() && each.Spec == r.desired.specJSON {
			return each, false, true
		}
	}
	for wanted.Err() == nil {
		if !r.scheduler.isOnReachableHost(r.replica) {
			placed, ok, reason := r.scheduler.place(r)
			if ok {
				return placed, true, true
			}
			r.setStatus(placed, false, reason)
		}
		sleep(wanted, 200*time.Millisecond)
	}
	return next, false, false
}

// runIncarnation starts an incarnation and watches it. It returns why the incarnation has ended: errHostLost, or
// the error of the host.
func (r *replicaRunner) runIncarnation(wanted context.Context, current incarnation, isNew bool) error {
	ctx, cancel := r.scheduler.hostContext(wanted, current.Host)
	defer cancel()
	client, err := r.scheduler.fleet.Client(current.Host)
	if err != nil {
		return err
	}
	if isNew {
		slog.Info("starting", "workload", r.replica.Object.Name, "id", current.ID, "host", current.Host)
		r.setStatus(current, false, "starting")
		if err := r.start(ctx, client, current); err != nil {
			return err
		}
	}
	return r.watch(wanted, ctx, client, current)
}

// start starts an incarnation exactly once, even if replies are lost: when the outcome is unknown, it asks for
// the status, and repeats the start only if the host does not have the incarnation.
func (r *replicaRunner) start(ctx context.Context, client *berth.Client, current incarnation) error {
	for attempt := 0; ; attempt++ {
		done := r.scheduler.fleet.ExpectBusy(current.Host, time.Now().Add(startTimeout))
		status, err := client.Start(ctx, current.ID, r.desired.workload)
		done()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			r.showStatus(current, status)
			return nil
		case attempt == 0 && !isOutcomeUnknown(err):
			return err
		}
		// This attempt or an earlier one may have been carried out.
		r.setStatus(current, false, err.Error())
		for {
			sleep(ctx, minRetryDelay<<min(attempt, 5))
			status, err := client.Status(ctx, current.ID)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err == nil && status.State == berth.StateNotFound {
				break
			}
			if err == nil {
				return nil
			}
		}
	}
}

// isOutcomeUnknown reports whether a start that failed with this error may have been carried out. Code 409 is
// the reply to the second delivery of a start: the first one was carried out.
func isOutcomeUnknown(err error) bool {
	refused := (*berth.RefusedError)(nil)
	return errors.Is(err, berth.ErrTimeout) || errors.Is(err, berth.ErrInvalidResponse) ||
		errors.As(err, &refused) && refused.Code == berth.CodeConflict
}

// watch polls the status until the incarnation ends.
func (r *replicaRunner) watch(wanted, ctx context.Context, client *berth.Client, current incarnation) error {
	lastReplyAt := time.Now()
	for !current.Completed {
		status, err := client.Status(ctx, current.ID)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, berth.ErrDisconnected):
			lastReplyAt = time.Now() // the scheduler is disconnected, not the host
		case err != nil:
			// Only the fleet decides whether a host is lost. A host that the fleet has never seen was lost
			// before this process began.
			if _, known := r.scheduler.fleet.Host(current.Host); !known && time.Since(lastReplyAt) > r.scheduler.silence {
				return errHostLost
			}
		case status.State == berth.StateNotFound:
			return errors.New("the host no longer has the workload")
		case status.State == berth.StateError:
			return errors.New(status.Message)
		default:
			lastReplyAt = time.Now()
			r.showStatus(current, status)
			current.Completed = status.State == berth.StateCompleted
		}
		sleep(ctx, pollInterval)
	}
	// A completed replica stays completed, even if its host is lost, until its manifest changes.
	if err := r.scheduler.state.update(current); err != nil {
		return err
	}
	r.setStatus(current, true, "completed")
	<-wanted.Done()
	return errUnwanted
}

// backOff waits before the next incarnation, longer after each failure.
func (r *replicaRunner) backOff(wanted context.Context, ranFor time.Duration) {
	if ranFor > healthyAfter {
		r.failureCount = 0
	}
	delay := min(maxRetryDelay, minRetryDelay<<min(r.failureCount, 10))
	r.failureCount++
	sleep(wanted, delay/2+rand.N(delay/2))
}

// recentFailure returns when the replica last failed on a host; zero if that was long ago.
func (r *replicaRunner) recentFailure(host string) time.Time {
	if at := r.failedAt[host]; time.Since(at) < avoidFor {
		return at
	}
	return time.Time{}
}

func (r *replicaRunner) showStatus(current incarnation, status berth.Status) {
	switch status.State {
	case berth.StateRunning:
		r.setStatus(current, true, "")
	case berth.StateCompleted:
		r.setStatus(current, true, "completed: "+status.Message)
	default:
		r.setStatus(current, false, status.Message)
	}
}

func (r *replicaRunner) setStatus(current incarnation, ready bool, message string) {
	r.scheduler.status.set(r.replica, replicaStatus{ready, message, current.Host, current.ID})
}
