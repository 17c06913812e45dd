package liveness

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"
)

// hostState is the state of a simulated host.
type hostState int

const (
	healthy hostState = iota
	dead
	frozen
)

// change is a change of health that liveness decided.
type change struct {
	at     time.Duration
	host   int
	health Health
	reason Reason
}

// simulation is a broker, its hosts and their liveness in simulated time.
type simulation struct {
	t          *testing.T
	liveness   *Liveness
	now        time.Duration
	hosts      []hostState
	heartbeats bool
	probes     int
	changes    []change
}

// defaults are the defaults that the root package documents.
var defaults = Options{
	ProbeInterval: 500 * time.Millisecond, ProbesPerSecond: 400,
	NoRespondersProbeInterval: 300 * time.Millisecond, NoRespondersFor: time.Second, NoRespondersCount: 3,
	SilentProbeInterval: 5 * time.Second, SuspectAfter: 20 * time.Second, LostAfter: 35 * time.Second,
	SettlingPeriod: 12 * time.Second, MassLossThreshold: 3, MassLossPercent: 25, ForgetAfter: 10 * time.Minute,
}

func newSimulation(t *testing.T, hosts int) *simulation {
	s := &simulation{t: t, liveness: New(defaults), hosts: make([]hostState, hosts), heartbeats: true}
	s.execute(s.liveness.OnConnected(s.now))
	for id := range hosts {
		s.execute(s.liveness.OnHeartbeat(s.now, strconv.Itoa(id)))
	}
	s.run(15 * time.Second)
	if len(s.changes) != 0 {
		t.Fatalf("changes of healthy hosts: %v", s.changes)
	}
	return s
}

func (s *simulation) run(duration time.Duration) {
	for until := s.now + duration; s.now < until; {
		s.now += Tick
		s.execute(s.liveness.OnTick(s.now))
		if !s.heartbeats || s.now%(15*time.Second) != 0 {
			continue
		}
		for id, state := range s.hosts {
			if state == healthy {
				s.execute(s.liveness.OnHeartbeat(s.now, strconv.Itoa(id)))
			}
		}
	}
}

func (s *simulation) execute(actions []Action) {
	for _, action := range actions {
		switch action := action.(type) {
		case Probe:
			s.probes++
			switch s.hosts[number(s.t, action.Host)] {
			case healthy:
				s.execute(s.liveness.OnProbeReplied(s.now, action.Host))
			case dead:
				s.execute(s.liveness.OnNoResponders(s.now, action.Host))
			case frozen:
				s.execute(s.liveness.OnProbeTimedOut(s.now, action.Host))
			}
		case SetHealth:
			s.changes = append(s.changes, change{s.now, number(s.t, action.Host), action.Health, action.Reason})
		case Forget:
		}
	}
}

func number(t *testing.T, id string) int {
	n, err := strconv.Atoi(id)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// firstChange returns when the health of a host first changed to a value.
func (s *simulation) firstChange(host int, health Health) (time.Duration, bool) {
	at := slices.IndexFunc(s.changes, func(c change) bool { return c.host == host && c.health == health })
	if at < 0 {
		return 0, false
	}
	return s.changes[at].at, true
}

func (s *simulation) wantLost(host int, since, from, to time.Duration) {
	s.t.Helper()
	at, ok := s.firstChange(host, Lost)
	if !ok || at-since < from || at-since > to {
		s.t.Errorf("host %d is lost after %v (%v), want %v to %v", host, at-since, ok, from, to)
	}
}

func (s *simulation) wantNoneLost() {
	s.t.Helper()
	if at := slices.IndexFunc(s.changes, func(c change) bool { return c.health == Lost }); at >= 0 {
		s.t.Errorf("of %d hosts, one is lost: %v", len(s.hosts), s.changes[at])
	}
}

func (s *simulation) lastChange() change { return s.changes[len(s.changes)-1] }

func TestDeadHostInSmallFleetIsLostWithinTwoSeconds(t *testing.T) {
	s := newSimulation(t, 3)
	diedAt := s.now
	s.hosts[1] = dead
	s.run(3 * time.Second)
	s.wantLost(1, diedAt, time.Second, 2*time.Second)
	if s.lastChange().reason != NoResponders {
		t.Errorf("reason = %v, want NoResponders", s.lastChange().reason)
	}
	for _, each := range s.changes {
		if each.host != 1 {
			t.Errorf("change of another host: %v", each)
		}
	}
}

func TestDeadHostAmongThousandsIsLostWithinTenSecondsAndProbeBudget(t *testing.T) {
	s := newSimulation(t, 3000)
	diedAt, probes := s.now, s.probes
	s.hosts[1234] = dead
	s.run(10 * time.Second)
	s.wantLost(1234, diedAt, time.Second, 10*time.Second)
	if rate := (s.probes - probes) / 10; rate < 300 || rate > 400 {
		t.Errorf("%d probes per second, want 300 to 400", rate)
	}
}

func TestFrozenHostIsSuspectThenLost(t *testing.T) {
	s := newSimulation(t, 3)
	s.hosts[0] = frozen
	s.run(90 * time.Second)
	suspectAt, _ := s.firstChange(0, Suspect)
	s.wantLost(0, suspectAt, 13*time.Second, 17*time.Second)
	if s.lastChange().reason != Silent {
		t.Errorf("reason = %v, want Silent", s.lastChange().reason)
	}
}

func TestBusyHostIsNotLostBeforeStartDeadline(t *testing.T) {
	s := newSimulation(t, 3)
	s.hosts[0] = frozen
	until := s.now + 2*time.Minute
	s.execute(s.liveness.SetBusyUntil("0", until))
	s.run(150 * time.Second)
	s.wantLost(0, until, 0, time.Second)
}

func TestHostIsNotBusyAfterItsStartsAreAnswered(t *testing.T) {
	s := newSimulation(t, 3)
	s.hosts[0] = frozen
	frozenAt := s.now
	s.execute(s.liveness.SetBusyUntil("0", frozenAt+2*time.Minute))
	s.run(70 * time.Second)
	if _, lost := s.firstChange(0, Lost); lost {
		t.Fatal("a busy host is lost")
	}
	s.execute(s.liveness.SetBusyUntil("0", 0))
	s.run(time.Second)
	s.wantLost(0, frozenAt, 70*time.Second, 72*time.Second)
}

func TestHostThatReconnectsQuicklyIsNotLost(t *testing.T) {
	s := newSimulation(t, 3)
	s.hosts[2] = dead
	s.run(900 * time.Millisecond)
	s.hosts[2] = healthy
	s.run(5 * time.Second)
	if _, lost := s.firstChange(2, Lost); lost || s.lastChange().health != Alive {
		t.Errorf("changes = %v, want none to lost and the last to alive", s.changes)
	}
}

func TestNoHostChangesWhileDisconnectedOrSettling(t *testing.T) {
	s := newSimulation(t, 3)
	s.execute(s.liveness.OnDisconnected())
	s.hosts, s.heartbeats = []hostState{dead, dead, dead}, false
	s.run(3 * time.Minute)
	s.execute(s.liveness.OnConnected(s.now))
	s.run(4 * time.Second)
	s.hosts = make([]hostState, 3)
	s.run(10 * time.Second)
	if len(s.changes) != 0 {
		t.Errorf("changes = %v, want none", s.changes)
	}
}

func TestBrokerIsSuspectedFirstWhenAThirdOfHostsVanishes(t *testing.T) {
	for _, hosts := range []int{9, 1800} {
		s := newSimulation(t, hosts)
		vanishedAt := s.now
		for host := 0; host < hosts; host += 3 {
			s.hosts[host] = dead
		}
		s.run(20 * time.Second)
		s.wantNoneLost()
		// The hosts that return show that the broker is healthy, so the missing host is lost at once.
		for host := 3; host < hosts; host += 3 {
			s.hosts[host] = healthy
		}
		s.run(10 * time.Second)
		s.wantLost(0, vanishedAt, 20*time.Second, 30*time.Second)
	}
}

func TestMassLossWaitsForHostsThatReturnOneByOne(t *testing.T) {
	s := newSimulation(t, 6)
	vanishedAt := s.now
	copy(s.hosts, []hostState{dead, dead, dead, dead, dead})
	s.run(3 * time.Second)
	for host := range 4 {
		s.hosts[host] = healthy
		s.run(1500 * time.Millisecond)
	}
	s.wantNoneLost()
	// The host that does not return is lost after the settling period.
	s.run(4 * time.Second)
	s.wantLost(4, vanishedAt, 12*time.Second, 14*time.Second)
}

func TestAllHostsAreLostIfNoneReturns(t *testing.T) {
	s := newSimulation(t, 6)
	s.hosts = []hostState{dead, dead, dead, dead, dead, dead}
	s.run(80 * time.Second)
	for host := range s.hosts {
		if _, lost := s.firstChange(host, Lost); !lost {
			t.Errorf("host %d is not lost", host)
		}
	}
}

func TestLostHostRecoversByHeartbeatOnlyAndIsForgottenLater(t *testing.T) {
	s := newSimulation(t, 3)
	s.hosts[0] = dead
	s.run(3 * time.Second)
	if actions := s.liveness.OnProbeReplied(s.now, "0"); len(actions) != 0 {
		t.Errorf("a late reply recovers a lost host: %v", actions)
	}
	if actions := s.liveness.OnHeartbeat(s.now, "0"); len(actions) != 1 || actions[0] != (SetHealth{"0", Alive, None}) {
		t.Errorf("a heartbeat does not recover a lost host: %v", actions)
	}
	s.run(11 * time.Minute)
	if s.liveness.Len() != 2 {
		t.Errorf("%d hosts are known, want 2", s.liveness.Len())
	}
}

func TestHostThatReconnectsAndDiesWhileSettlingIsLostAtOnce(t *testing.T) {
	s := newSimulation(t, 3)
	s.execute(s.liveness.OnDisconnected())
	s.execute(s.liveness.OnConnected(s.now))
	s.execute(s.liveness.OnHeartbeat(s.now, "1"))
	s.hosts[0], s.hosts[1] = dead, dead
	diedAt := s.now
	s.run(4 * time.Second)
	if _, lost := s.firstChange(0, Lost); lost {
		t.Error("a host that may be reconnecting is lost")
	}
	s.wantLost(1, diedAt, time.Second, 2*time.Second)
}

func TestSilenceCountsFromLastSeenOrFromEndOfSettlingPeriod(t *testing.T) {
	s := newSimulation(t, 3)
	s.execute(s.liveness.OnDisconnected())
	s.execute(s.liveness.OnConnected(s.now))
	s.execute(s.liveness.OnHeartbeat(s.now, "1"))
	s.hosts[0], s.hosts[1] = frozen, frozen
	frozenAt := s.now
	s.run(60 * time.Second)
	s.wantLost(1, frozenAt, 35*time.Second, 36*time.Second)
	s.wantLost(0, frozenAt, 47*time.Second, 48*time.Second)
}

// FuzzLiveness checks for events in any order that a healthy host is never lost, that no change repeats the
// current health, and that a lost host can only become alive.
func FuzzLiveness(f *testing.F) {
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 0))
		steps := make([]byte, random.IntN(90))
		for i := range steps {
			steps[i] = byte(random.Uint32())
		}
		f.Add(steps)
	}
	f.Fuzz(func(t *testing.T, steps []byte) {
		s := newSimulation(t, 8)
		for steps = steps[:min(len(steps), 120)]; len(steps) >= 3; steps = steps[3:] {
			host, pause := steps[0]%7, 100*time.Millisecond*time.Duration(1+steps[2]%40)
			// 0 to 2 set the state of the host, 3 is a reconnect of the fleet.
			switch event := steps[1] % 4; event {
			case 3:
				s.execute(s.liveness.OnDisconnected())
				s.run(pause)
				s.execute(s.liveness.OnConnected(s.now))
			default:
				s.hosts[host] = hostState(event)
			}
			s.run(2 * pause)
		}
		if at, lost := s.firstChange(7, Lost); lost {
			t.Errorf("host 7 is always healthy, but lost at %v", at)
		}
		health := make([]Health, len(s.hosts))
		for _, each := range s.changes {
			before := health[each.host]
			if before == each.health || before == Lost && each.health != Alive {
				t.Errorf("health %v of host %d is followed by %v", before, each.host, each)
			}
			health[each.host] = each.health
		}
	})
}

func TestSuspicionPrecedesLoss(t *testing.T) {
	for _, c := range []struct{ suspect, lost, want time.Duration }{
		{0, 0, 20 * time.Second},
		{0, 35 * time.Second, 20 * time.Second},
		{0, 7 * time.Second, 4 * time.Second},
		{0, time.Hour, 20 * time.Second},
		{6 * time.Second, 7 * time.Second, 6 * time.Second},
		{20 * time.Second, 7 * time.Second, 7 * time.Second},
	} {
		options := Options{SuspectAfter: c.suspect, LostAfter: c.lost}.WithDefaults()
		if options.SuspectAfter != c.want {
			t.Errorf("suspect after %v of %v: %v, want %v", c.suspect, c.lost, options.SuspectAfter, c.want)
		}
	}
}
