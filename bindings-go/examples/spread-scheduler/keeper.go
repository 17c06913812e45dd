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
	// pollEvery is how often a host is asked how a workload fares.
	pollEvery = 2 * time.Second

	// startWithin is how long a host may take to answer a start, and may be silent over it.
	startWithin = 60 * time.Second

	// A start that failed is repeated after a second, then after two, four and so on, up to a minute: never
	// more than ten in half a minute. A minute of health begins anew.
	firstRetry   = time.Second
	maxRetry     = time.Minute
	healthyAfter = time.Minute

	// avoidFor is how long a host that failed a replica comes last for it.
	avoidFor = 5 * time.Minute
)

// keeper keeps one replica alive, in one incarnation after the other. It works by itself: no keeper waits for
// another's host.
type keeper struct {
	scheduler *scheduler
	replica   replica
	wanted    wanted
	cancel    context.CancelCauseFunc

	// avoid has the hosts that failed this replica, and when: others that fit are tried first.
	avoid    map[string]time.Time
	failures int
}

// run keeps the replica until wanted ends, and then sees to its end; or until the process ends, and root with
// it, and then leaves it where it is.
func (k *keeper) run(root, wanted context.Context) {
	for {
		it, isNew, ok := k.next(wanted)
		if !ok {
			return
		}
		began := time.Now()
		why := k.live(wanted, it, isNew)
		switch {
		case root.Err() != nil:
			return
		case wanted.Err() != nil:
			k.scheduler.orphan(root, it)
			return
		case errors.Is(why, errLost):
			k.tell(it, false, why.Error())
			k.scheduler.orphan(root, it)
		case errors.Is(why, berth.ErrNoResponders):
			// Nothing was begun, and another host can take it at once.
			k.tell(it, false, why.Error())
			k.avoid[it.Host] = time.Now()
			k.scheduler.strike(it)
			pause(wanted, 200*time.Millisecond)
		default:
			k.tell(it, false, why.Error())
			k.avoid[it.Host] = time.Now()
			k.scheduler.orphan(root, it)
			k.backOff(wanted, time.Since(began))
		}
	}
}

// next gives the incarnation to live: one that an earlier process began, or a new one, as soon as the one
// before has ended and a host fits.
func (k *keeper) next(wanted context.Context) (it incarnation, isNew, ok bool) {
	for _, each := range k.scheduler.ledger.all() {
		if each.Of == k.replica && each.Orphaned.IsZero() && each.Content == k.wanted.content {
			return each, false, true
		}
	}
	for wanted.Err() == nil {
		if !k.scheduler.isEnding(k.replica) {
			it, ok, why := k.scheduler.place(k)
			if ok {
				return it, true, true
			}
			k.tell(it, false, why)
		}
		pause(wanted, 200*time.Millisecond)
	}
	return it, false, false
}

// live starts an incarnation and watches it. It returns why it is over: errLost, or what the host said.
func (k *keeper) live(wanted context.Context, it incarnation, isNew bool) error {
	life, end := k.scheduler.life(wanted, it.Host)
	defer end()
	client, err := k.scheduler.fleet.Client(it.Host)
	if err != nil {
		return err
	}
	if isNew {
		slog.Info("starting", "workload", k.replica.Object.Name, "id", it.ID, "host", it.Host)
		k.tell(it, false, "is being started")
		if err := k.start(life, client, it); err != nil {
			return err
		}
	}
	return k.watch(wanted, life, client, it)
}

// start starts an incarnation, once, whatever is lost on the way: whoever does not know what became of it asks,
// and sends the same again only when the host does not have it.
func (k *keeper) start(life context.Context, client *berth.Client, it incarnation) error {
	for attempt := 0; ; attempt++ {
		answered := k.scheduler.fleet.ExpectBusy(it.Host, time.Now().Add(startWithin))
		status, err := client.Start(life, it.ID, k.wanted.workload)
		answered()
		switch {
		case life.Err() != nil:
			return context.Cause(life)
		case err == nil:
			k.show(it, status)
			return nil
		case attempt == 0 && !isUnknown(err):
			return err
		}
		// It may have been carried out, now or at an earlier attempt.
		k.tell(it, false, err.Error())
		for {
			pause(life, firstRetry<<min(attempt, 5))
			status, err := client.Status(life, it.ID)
			if life.Err() != nil {
				return context.Cause(life)
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

// isUnknown tells of errors after which a start may have been carried out. Code 409 is the refusal of one that
// was delivered twice: the other was first.
func isUnknown(err error) bool {
	refused := (*berth.RefusedError)(nil)
	return errors.Is(err, berth.ErrTimeout) || errors.Is(err, berth.ErrMalformed) ||
		errors.As(err, &refused) && refused.Code == berth.CodeConflict
}

// watch asks for the status until the incarnation is over.
func (k *keeper) watch(wanted, life context.Context, client *berth.Client, it incarnation) error {
	answeredAt := time.Now()
	for !it.Completed {
		status, err := client.Status(life, it.ID)
		switch {
		case life.Err() != nil:
			return context.Cause(life)
		case errors.Is(err, berth.ErrDisconnected):
			answeredAt = time.Now() // it is us
		case err != nil:
			// Silence says nothing; it is for the fleet to say whether the host is lost. One of which the
			// fleet never heard was lost before this process began.
			if _, known := k.scheduler.fleet.Host(it.Host); !known && time.Since(answeredAt) > k.scheduler.silence {
				return errLost
			}
		case status.State == berth.StateNotFound:
			return errors.New("its host does not know it any more")
		case status.State == berth.StateError:
			return errors.New(status.Message)
		default:
			answeredAt = time.Now()
			k.show(it, status)
			it.Completed = status.State == berth.StateCompleted
		}
		pause(life, pollEvery)
	}
	// It is done, whatever becomes of its host. Only its manifest can end this.
	if err := k.scheduler.ledger.change(it); err != nil {
		return err
	}
	k.tell(it, true, "completed")
	<-wanted.Done()
	return errUnwanted
}

// backOff waits before the next incarnation, longer each time.
func (k *keeper) backOff(wanted context.Context, after time.Duration) {
	if after > healthyAfter {
		k.failures = 0
	}
	wait := min(maxRetry, firstRetry<<min(k.failures, 10))
	k.failures++
	pause(wanted, wait/2+rand.N(wait/2))
}

// avoided tells when a host failed this replica, for as long as that counts.
func (k *keeper) avoided(host string) time.Time {
	if at := k.avoid[host]; time.Since(at) < avoidFor {
		return at
	}
	return time.Time{}
}

func (k *keeper) show(it incarnation, status berth.Status) {
	switch status.State {
	case berth.StateRunning:
		k.tell(it, true, "")
	case berth.StateCompleted:
		k.tell(it, true, "completed: "+status.Message)
	default:
		k.tell(it, false, status.Message)
	}
}

func (k *keeper) tell(it incarnation, ready bool, message string) {
	k.scheduler.board.tell(k.replica, fate{ready, message, it.Host, it.ID})
}
