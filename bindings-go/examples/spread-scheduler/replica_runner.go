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

	// The delay after a failed incarnation doubles from minRetryDelay to maxRetryDelay, so that there are never
	// more than ten starts in half a minute. An incarnation that lasts for healthyAfter resets the delay.
	minRetryDelay = time.Second
	maxRetryDelay = time.Minute
	healthyAfter  = time.Minute

	// avoidFor is how long a replica avoids a host on which it failed, if another host is feasible.
	avoidFor = 5 * time.Minute
)

// replicaRunner runs one replica, in one incarnation after another. Each runner has its own goroutine, so that a
// slow host delays only its own replicas.
type replicaRunner struct {
	scheduler *scheduler
	replica   replica
	desired   desiredObject
	cancel    context.CancelCauseFunc

	// failedAt is when the replica last failed on each host. Other feasible hosts are tried first.
	failedAt     map[string]time.Time
	failureCount int
}

// run runs the replica until wanted ends, and then retires its incarnation. When the process ends, root ends, and
// run leaves the incarnation running.
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
			r.setNotReady(current, err.Error())
			r.scheduler.retire(root, current)
		case errors.Is(err, berth.ErrNoResponders):
			// Nothing was started: another host can run the replica at once.
			r.setNotReady(current, err.Error())
			r.failedAt[current.Host] = time.Now()
			r.scheduler.removeState(current)
			sleep(wanted, 200*time.Millisecond)
		default:
			r.setNotReady(current, err.Error())
			r.failedAt[current.Host] = time.Now()
			r.scheduler.retire(root, current)
			r.backOff(wanted, time.Since(began))
		}
	}
}

// next returns the incarnation to run: an incarnation of an earlier process, or a new one as soon as the previous
// incarnation has ended and a host is feasible.
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
			r.setNotReady(placed, reason)
		}
		sleep(wanted, 200*time.Millisecond)
	}
	return next, false, false
}

// runIncarnation starts an incarnation and watches it until it ends. The error is the reason for the end:
// errHostLost, errUnwanted or the error of the host.
func (r *replicaRunner) runIncarnation(wanted context.Context, current incarnation, isNew bool) error {
	ctx, cancel := r.scheduler.hostContext(wanted, current.Host)
	defer cancel()
	client, err := r.scheduler.fleet.Client(current.Host)
	if err != nil {
		return err
	}
	if isNew {
		slog.Info("starting", "workload", r.replica.Object.Name, "id", current.ID, "host", current.Host)
		r.setNotReady(current, "starting")
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
		// This attempt or an earlier one may have been executed.
		r.setNotReady(current, err.Error())
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

// isOutcomeUnknown reports whether a start that failed with this error may have been executed. Code 409 is
// the reply to the second delivery of a start: the first one was executed.
func isOutcomeUnknown(err error) bool {
	refused := (*berth.RefusedError)(nil)
	return errors.Is(err, berth.ErrUnknownOutcome) || errors.As(err, &refused) && refused.Code == berth.CodeConflict
}

// watch polls the status until the incarnation ends. Context ctx ends when wanted ends or when the host is lost;
// its cause is the reason.
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
	r.setReady(current, "completed")
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

// recentFailure returns when the replica last failed on a host, or zero if the failure is older than avoidFor.
func (r *replicaRunner) recentFailure(host string) time.Time {
	if at := r.failedAt[host]; time.Since(at) < avoidFor {
		return at
	}
	return time.Time{}
}

func (r *replicaRunner) showStatus(current incarnation, status berth.Status) {
	switch status.State {
	case berth.StateRunning:
		r.setReady(current, "")
	case berth.StateCompleted:
		r.setReady(current, "completed: "+status.Message)
	default:
		r.setNotReady(current, status.Message)
	}
}

func (r *replicaRunner) setReady(current incarnation, message string) {
	r.scheduler.status.set(r.replica, replicaStatus{Ready: true, Message: message, Host: current.Host, ID: current.ID})
}

func (r *replicaRunner) setNotReady(current incarnation, message string) {
	r.scheduler.status.set(r.replica, replicaStatus{Message: message, Host: current.Host, ID: current.ID})
}
