package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	berth "berth.dev/go"
)

const (
	// reconcileInterval is the time between two reads of the manifests.
	reconcileInterval = 500 * time.Millisecond

	// discoveryDelay is the time from the start to the first placement. The hosts of a fleet join one after the other
	// within a second; a scheduler that did not wait would place everything on the first ones.
	discoveryDelay = 1200 * time.Millisecond

	// forgetAfter is how long a retired incarnation on a lost host is remembered, to be stopped if the host
	// recovers.
	forgetAfter = 24 * time.Hour
)

// Reasons why the scheduler ends an incarnation.
var (
	errUnwanted = errors.New("no longer wanted")
	errHostLost = errors.New("the host is lost")
)

// scheduler keeps one runner for each wanted replica.
type scheduler struct {
	fleet     *berth.Fleet
	state     *stateFiles
	status    *statusFiles
	manifests string
	silence   time.Duration

	runners map[replica]*replicaRunner
	running sync.WaitGroup

	mu      sync.Mutex
	cancels map[string]map[*context.CancelCauseFunc]struct{} // cancel functions of the host contexts, by host
}

func newScheduler(fleet *berth.Fleet, state *stateFiles, manifests string, silence time.Duration) *scheduler {
	return &scheduler{
		fleet: fleet, state: state, status: newStatusFiles(filepath.Join(manifests, ".berth", "status")),
		manifests: manifests, silence: silence,
		runners: make(map[replica]*replicaRunner), cancels: make(map[string]map[*context.CancelCauseFunc]struct{}),
	}
}

// run schedules until ctx ends. It leaves the workloads running for the next scheduler process.
func (s *scheduler) run(ctx context.Context) {
	defer s.running.Wait()
	select {
	case <-ctx.Done():
		return
	case <-time.After(discoveryDelay):
	}
	s.reconcile(ctx, s.state.all())
	s.retireUnwanted(ctx)
	ticker := time.NewTicker(reconcileInterval)
	defer ticker.Stop()
	events := s.fleet.Events(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case event, open := <-events:
			if !open {
				return
			}
			for _, host := range lostHosts(event, s.fleet.Hosts) {
				slog.Warn("host lost", "host", host)
				s.cancelHost(host)
			}
		case <-ticker.C:
			s.reconcile(ctx, nil)
		}
	}
}

// lostHosts returns the hosts that an event reports as lost. When events were missed, it returns all lost hosts: one of
// the missed events may have been the loss of any of them.
func lostHosts(event berth.FleetEvent, hosts func() []berth.HostView) (lost []string) {
	switch event := event.(type) {
	case berth.HostLost:
		return []string{event.HostID}
	case berth.EventsMissed:
		for _, host := range hosts() {
			if host.Health == berth.HealthLost {
				lost = append(lost, host.ID())
			}
		}
	}
	return lost
}

// retireUnwanted retires the incarnations of an earlier process that are no longer wanted. The runners adopt the
// wanted incarnations.
func (s *scheduler) retireUnwanted(ctx context.Context) {
	for _, each := range s.state.all() {
		runner := s.runners[each.Replica]
		if runner == nil || !each.RetiredAt.IsZero() || each.Spec != runner.desired.specJSON {
			s.retire(ctx, each)
		}
	}
}

// reconcile starts and stops runners until they match the manifests. Argument previous has the incarnations of an
// earlier process.
func (s *scheduler) reconcile(ctx context.Context, previous []incarnation) {
	desired, invalid, err := readManifests(s.manifests)
	if err != nil {
		slog.Error("cannot read manifests, keeping the previous ones", "error", err)
		return
	}
	wanted := make(map[replica]bool)
	for key := range invalid {
		// The invalid version does not replace the version that an earlier process accepted.
		if accepted, found := acceptedBefore(key, previous); found {
			desired[key] = accepted
		}
	}
	for key, object := range desired {
		numbers := s.chooseReplicas(object, previous)
		s.status.setReplicas(key, numbers)
		for _, number := range numbers {
			wanted[replica{key, number}] = true
		}
	}
	for key, problem := range invalid {
		s.status.refuse(key, problem)
	}
	for r, runner := range s.runners {
		if _, isInvalid := invalid[r.Object]; isInvalid || wanted[r] && runner.desired.specJSON == desired[r.Object].specJSON {
			continue
		}
		runner.cancel(errUnwanted)
		delete(s.runners, r)
	}
	for r := range wanted {
		if s.runners[r] == nil {
			s.runners[r] = s.startRunner(ctx, r, desired[r.Object])
		}
	}
	s.removeDeleted(desired, invalid)
}

// chooseReplicas returns the numbers of an object's replicas: existing replicas, ready ones first, and new
// replicas if there are too few.
func (s *scheduler) chooseReplicas(object desiredObject, previous []incarnation) []int {
	var numbers []int
	for r, runner := range s.runners {
		if r.Object == object.key && runner.desired.specJSON == object.specJSON {
			numbers = append(numbers, r.Number)
		}
	}
	for _, each := range previous {
		if each.Replica.Object == object.key && each.Spec == object.specJSON && each.RetiredAt.IsZero() {
			numbers = append(numbers, each.Replica.Number)
		}
	}
	slices.SortFunc(numbers, func(a, b int) int {
		return cmp.Or(s.status.readinessRank(object.key, a)-s.status.readinessRank(object.key, b), a-b)
	})
	numbers = numbers[:min(len(numbers), object.replicas)]
	for number := 0; len(numbers) < object.replicas; number++ {
		if !slices.Contains(numbers, number) {
			numbers = append(numbers, number)
		}
	}
	return numbers
}

// removeDeleted removes the status of each deleted object when no reachable host has a workload of it.
func (s *scheduler) removeDeleted(desired map[objectKey]desiredObject, invalid map[objectKey]error) {
	remaining := make(map[objectKey]bool)
	for _, each := range s.state.all() {
		if each.RetiredAt.IsZero() || s.isReachable(each.Host) {
			remaining[each.Replica.Object] = true
		}
	}
	for _, key := range s.status.all() {
		_, isDesired := desired[key]
		_, isInvalid := invalid[key]
		if !isDesired && !isInvalid && !remaining[key] {
			s.status.remove(key)
		}
	}
}

func (s *scheduler) startRunner(root context.Context, r replica, object desiredObject) *replicaRunner {
	ctx, cancel := context.WithCancelCause(root)
	runner := &replicaRunner{
		scheduler: s, replica: r, desired: object, cancel: cancel, failedAt: make(map[string]time.Time),
	}
	s.running.Go(func() {
		defer cancel(nil)
		runner.run(root, ctx)
	})
	return runner
}

// place assigns a replica to a host and stores the assignment. Among the feasible hosts, it prefers hosts
// that are alive to suspect hosts, then hosts on which the replica has not failed recently, then the fewest
// replicas of the same object, then the fewest replicas in total. It counts the stored assignments, because the
// counts in heartbeats lag behind.
func (s *scheduler) place(r *replicaRunner) (placed incarnation, ok bool, reason string) {
	hosts := s.fleet.Hosts()
	placed, ok, err := s.state.put(func(others map[string]incarnation) (incarnation, bool) {
		same, total := make(map[string]int), make(map[string]int)
		for _, other := range others {
			if total[other.Host]++; other.Replica.Object == r.replica.Object {
				same[other.Host]++
			}
		}
		feasible := slices.DeleteFunc(slices.Clone(hosts), func(h berth.HostView) bool { return !r.desired.spec.fits(h) })
		if len(feasible) == 0 {
			return incarnation{}, false
		}
		best := slices.MinFunc(feasible, func(a, b berth.HostView) int {
			return cmp.Or(
				cmp.Compare(a.Health, b.Health),
				r.recentFailure(a.ID()).Compare(r.recentFailure(b.ID())),
				cmp.Compare(same[a.ID()], same[b.ID()]),
				cmp.Compare(total[a.ID()], total[b.ID()]),
				cmp.Compare(a.ID(), b.ID()),
			)
		})
		return incarnation{ID: rand.Text(), Host: best.ID(), Replica: r.replica, Spec: r.desired.specJSON}, true
	})
	if err != nil {
		return placed, false, "cannot write state: " + err.Error()
	}
	return placed, ok, fmt.Sprintf("waiting: 0 of %d hosts fit", len(hosts))
}

// hostContext returns a context that ends, with a cause, when the host is lost.
func (s *scheduler) hostContext(parent context.Context, host string) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	s.mu.Lock()
	if s.cancels[host] == nil {
		s.cancels[host] = make(map[*context.CancelCauseFunc]struct{})
	}
	s.cancels[host][&cancel] = struct{}{}
	s.mu.Unlock()
	if view, known := s.fleet.Host(host); known && view.Health == berth.HealthLost {
		cancel(errHostLost)
	}
	return ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.cancels[host], &cancel)
		cancel(nil)
	}
}

func (s *scheduler) cancelHost(host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for cancel := range s.cancels[host] {
		(*cancel)(errHostLost)
	}
}

// isOnReachableHost reports whether an earlier incarnation of the replica may still run on a reachable host.
func (s *scheduler) isOnReachableHost(r replica) bool {
	return slices.ContainsFunc(s.state.all(), func(each incarnation) bool {
		return each.Replica == r && s.isReachable(each.Host)
	})
}

func (s *scheduler) isReachable(host string) bool {
	view, known := s.fleet.Host(host)
	return known && view.Health != berth.HealthLost
}

// retire stops an incarnation in the background: at once, or when its lost host recovers.
func (s *scheduler) retire(ctx context.Context, retired incarnation) {
	if retired.RetiredAt.IsZero() {
		retired.RetiredAt = time.Now()
	}
	if err := s.state.update(retired); err != nil {
		slog.Error("cannot write state", "error", err)
	}
	s.running.Go(func() {
		for ctx.Err() == nil {
			if s.isReachable(retired.Host) && s.stop(ctx, retired) {
				return
			}
			if time.Since(retired.RetiredAt) > forgetAfter {
				s.removeState(retired)
				return
			}
			sleep(ctx, time.Second)
		}
	})
}

// stop stops an incarnation and reports whether its host has confirmed that it is gone.
func (s *scheduler) stop(ctx context.Context, retired incarnation) (gone bool) {
	client, err := s.fleet.Client(retired.Host, berth.WithTimeouts(berth.Timeouts{Stop: 5 * time.Second}))
	if err != nil {
		return false
	}
	status, err := client.Stop(ctx, retired.ID)
	if err != nil || status.State != berth.StateNotFound {
		return false
	}
	s.removeState(retired)
	return true
}

func (s *scheduler) removeState(removed incarnation) {
	if err := s.state.remove(removed.ID); err != nil {
		slog.Error("cannot remove state", "error", err)
	}
}

func sleep(ctx context.Context, duration time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(duration):
	}
}
