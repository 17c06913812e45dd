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
	// lookEvery is how often the directory is read.
	lookEvery = 500 * time.Millisecond

	// forgetAfter is when a lost host is given up on that might still run what is not wanted.
	forgetAfter = 24 * time.Hour
)

// The reasons for which the life of an incarnation ends here.
var (
	errUnwanted = errors.New("it is no longer wanted")
	errLost     = errors.New("its host is lost")
)

// scheduler sees that each replica that is wanted has a keeper, and each that is not has none.
type scheduler struct {
	fleet     *berth.Fleet
	ledger    *ledger
	board     *board
	manifests string
	silence   time.Duration

	keepers map[replica]*keeper
	running sync.WaitGroup

	mu    sync.Mutex
	lives map[string]map[*context.CancelCauseFunc]struct{} // by host
}

func newScheduler(fleet *berth.Fleet, ledger *ledger, manifests string, silence time.Duration) *scheduler {
	return &scheduler{
		fleet: fleet, ledger: ledger, board: newBoard(filepath.Join(manifests, ".berth", "status")),
		manifests: manifests, silence: silence,
		keepers: make(map[replica]*keeper), lives: make(map[string]map[*context.CancelCauseFunc]struct{}),
	}
}

// run works until ctx ends. Workloads are not stopped then: whoever comes after this process goes on.
func (s *scheduler) run(ctx context.Context) {
	defer s.running.Wait()
	s.look(ctx, s.ledger.all())
	s.orphanTheRest(ctx)
	ticker := time.NewTicker(lookEvery)
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
			if lost, ok := event.(berth.HostLost); ok {
				slog.Warn("a host is lost", "host", lost.HostID, "reason", lost.Reason)
				s.endLives(lost.HostID)
			}
		case <-ticker.C:
			s.look(ctx, nil)
		}
	}
}

// orphanTheRest ends what an earlier process has begun and what is not wanted any more. What is wanted, each
// keeper finds in the ledger.
func (s *scheduler) orphanTheRest(ctx context.Context) {
	for _, each := range s.ledger.all() {
		keeper := s.keepers[each.Of]
		if keeper == nil || !each.Orphaned.IsZero() || each.Content != keeper.wanted.content {
			s.orphan(ctx, each)
		}
	}
}

// look compares what is wanted with who keeps what. An earlier process may have left some.
func (s *scheduler) look(ctx context.Context, left []incarnation) {
	all, wrong, err := readManifests(s.manifests)
	if err != nil {
		slog.Error("the manifests cannot be read; what was wanted before goes on", "error", err)
		return
	}
	for of, problem := range wrong {
		s.board.refuse(of, problem)
	}
	kept := make(map[replica]bool)
	for of, want := range all {
		numbers := s.choose(want, left)
		s.board.expect(of, numbers)
		for _, number := range numbers {
			kept[replica{of, number}] = true
		}
	}
	for r, keeper := range s.keepers {
		if _, isWrong := wrong[r.Object]; isWrong || kept[r] && keeper.wanted.content == all[r.Object].content {
			continue
		}
		keeper.cancel(errUnwanted)
		delete(s.keepers, r)
	}
	for r := range kept {
		if s.keepers[r] == nil {
			s.keepers[r] = s.keep(ctx, r, all[r.Object])
		}
	}
	s.forgetDeleted(all, wrong)
}

// choose says which replicas of an object there are to be: the ones that are there, ready ones first, and new
// ones as far as they are too few.
func (s *scheduler) choose(want wanted, left []incarnation) []int {
	var numbers []int
	for r, keeper := range s.keepers {
		if r.Object == want.object && keeper.wanted.content == want.content {
			numbers = append(numbers, r.Number)
		}
	}
	for _, it := range left {
		if it.Of.Object == want.object && it.Content == want.content && it.Orphaned.IsZero() {
			numbers = append(numbers, it.Of.Number)
		}
	}
	slices.SortFunc(numbers, func(a, b int) int {
		return cmp.Or(s.board.unready(want.object, a)-s.board.unready(want.object, b), a-b)
	})
	numbers = numbers[:min(len(numbers), want.replicas)]
	for number := 0; len(numbers) < want.replicas; number++ {
		if !slices.Contains(numbers, number) {
			numbers = append(numbers, number)
		}
	}
	return numbers
}

// forgetDeleted shows an object as deleted once nothing of it is on a host that is there.
func (s *scheduler) forgetDeleted(all map[object]wanted, wrong map[object]error) {
	left := make(map[object]bool)
	for _, each := range s.ledger.all() {
		if each.Orphaned.IsZero() || s.isThere(each.Host) {
			left[each.Of.Object] = true
		}
	}
	for _, of := range s.board.all() {
		_, isWanted := all[of]
		_, isWrong := wrong[of]
		if !isWanted && !isWrong && !left[of] {
			s.board.forget(of)
		}
	}
}

func (s *scheduler) keep(root context.Context, r replica, want wanted) *keeper {
	ctx, cancel := context.WithCancelCause(root)
	k := &keeper{scheduler: s, replica: r, wanted: want, cancel: cancel, avoid: make(map[string]time.Time)}
	s.running.Go(func() {
		defer cancel(nil)
		k.run(root, ctx)
	})
	return k
}

// place chooses a host for a replica and writes both down. Among the hosts that fit: the one with the fewest
// replicas of the same object, then with the fewest of all, as the ledger has it; heartbeats are too old to
// count by.
func (s *scheduler) place(k *keeper) (chosen incarnation, ok bool, why string) {
	hosts := s.fleet.Hosts()
	chosen, ok, err := s.ledger.put(func(others map[string]incarnation) (incarnation, bool) {
		same, total := make(map[string]int), make(map[string]int)
		for _, other := range others {
			if total[other.Host]++; other.Of.Object == k.replica.Object {
				same[other.Host]++
			}
		}
		fit := slices.DeleteFunc(slices.Clone(hosts), func(h berth.HostView) bool { return !k.wanted.spec.fits(h) })
		if len(fit) == 0 {
			return incarnation{}, false
		}
		best := slices.MinFunc(fit, func(a, b berth.HostView) int {
			return cmp.Or(
				cmp.Compare(a.Health, b.Health),
				k.avoided(a.ID()).Compare(k.avoided(b.ID())),
				cmp.Compare(same[a.ID()], same[b.ID()]),
				cmp.Compare(total[a.ID()], total[b.ID()]),
				cmp.Compare(a.ID(), b.ID()),
			)
		})
		return incarnation{ID: rand.Text(), Host: best.ID(), Of: k.replica, Content: k.wanted.content}, true
	})
	if err != nil {
		return chosen, false, "the ledger cannot be written: " + err.Error()
	}
	return chosen, ok, fmt.Sprintf("waits: 0 of %d hosts fit", len(hosts))
}

// life gives a context that ends, with a cause, when the host is lost.
func (s *scheduler) life(ctx context.Context, host string) (context.Context, func()) {
	life, cancel := context.WithCancelCause(ctx)
	s.mu.Lock()
	if s.lives[host] == nil {
		s.lives[host] = make(map[*context.CancelCauseFunc]struct{})
	}
	s.lives[host][&cancel] = struct{}{}
	s.mu.Unlock()
	if known, ok := s.fleet.Host(host); ok && known.Health == berth.HealthLost {
		cancel(errLost)
	}
	return life, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.lives[host], &cancel)
		cancel(nil)
	}
}

func (s *scheduler) endLives(host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for cancel := range s.lives[host] {
		(*cancel)(errLost)
	}
}

// isEnding tells whether an earlier incarnation of the replica is still on a host that is there.
func (s *scheduler) isEnding(r replica) bool {
	return slices.ContainsFunc(s.ledger.all(), func(it incarnation) bool { return it.Of == r && s.isThere(it.Host) })
}

func (s *scheduler) isThere(host string) bool {
	known, ok := s.fleet.Host(host)
	return ok && known.Health != berth.HealthLost
}

// orphan sees to the end of an incarnation that nobody keeps any more, now or when its host returns.
func (s *scheduler) orphan(ctx context.Context, it incarnation) {
	if it.Orphaned.IsZero() {
		it.Orphaned = time.Now()
	}
	if err := s.ledger.change(it); err != nil {
		slog.Error("the ledger cannot be written", "error", err)
	}
	s.running.Go(func() {
		for ctx.Err() == nil {
			if s.isThere(it.Host) && s.stop(ctx, it) {
				return
			}
			if time.Since(it.Orphaned) > forgetAfter {
				s.strike(it)
				return
			}
			pause(ctx, time.Second)
		}
	})
}

// stop stops an incarnation and tells whether its host has said that it is gone.
func (s *scheduler) stop(ctx context.Context, it incarnation) (gone bool) {
	client, err := s.fleet.Client(it.Host, berth.WithTimeouts(berth.Timeouts{Stop: 5 * time.Second}))
	if err != nil {
		return false
	}
	status, err := client.Stop(ctx, it.ID)
	if err != nil || status.State != berth.StateNotFound {
		return false
	}
	s.strike(it)
	return true
}

func (s *scheduler) strike(it incarnation) {
	if err := s.ledger.strike(it.ID); err != nil {
		slog.Error("the ledger cannot be written", "error", err)
	}
}

func pause(ctx context.Context, time_ time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(time_):
	}
}
