package liveness

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"
)

// what a simulated host is like.
type what int

const (
	well what = iota
	dead
	frozen
)

type told struct {
	at     time.Duration
	host   int
	health Health
	reason Reason
}

// world is hosts, a broker and a scheduler's view of them, in simulated time.
type world struct {
	t        *testing.T
	liveness *Liveness
	now      time.Duration
	hosts    []what
	beats    bool
	probes   int
	told     []told
}

// defaults are those that the root package documents.
var defaults = Options{
	ProbeInterval: 500 * time.Millisecond, ProbesPerSecond: 400,
	DeafProbeInterval: 300 * time.Millisecond, DeafFor: time.Second, DeafTimes: 3,
	SilentProbeInterval: 5 * time.Second, SuspectAfter: 20 * time.Second, LostAfter: 35 * time.Second,
	Settle: 12 * time.Second, MassVanishFrom: 3, MassVanishSharePercent: 25, ForgetAfter: 10 * time.Minute,
}

func newWorld(t *testing.T, hosts int) *world {
	w := &world{t: t, liveness: New(defaults), hosts: make([]what, hosts), beats: true}
	w.do(w.liveness.LinkUp(w.now))
	for id := range hosts {
		w.do(w.liveness.Heartbeat(w.now, strconv.Itoa(id)))
	}
	w.run(15 * time.Second)
	if len(w.told) != 0 {
		t.Fatalf("told of well hosts: %v", w.told)
	}
	return w
}

func (w *world) run(time_ time.Duration) {
	for until := w.now + time_; w.now < until; {
		w.now += Tick
		w.do(w.liveness.Tick(w.now))
		if !w.beats || w.now%(15*time.Second) != 0 {
			continue
		}
		for id, what := range w.hosts {
			if what == well {
				w.do(w.liveness.Heartbeat(w.now, strconv.Itoa(id)))
			}
		}
	}
}

func (w *world) do(actions []Action) {
	for _, action := range actions {
		switch action := action.(type) {
		case Probe:
			w.probes++
			switch w.hosts[number(w.t, action.Host)] {
			case well:
				w.do(w.liveness.Answered(w.now, action.Host))
			case dead:
				w.do(w.liveness.NoResponders(w.now, action.Host))
			case frozen:
				w.do(w.liveness.NoAnswer(w.now, action.Host))
			}
		case Tell:
			w.told = append(w.told, told{w.now, number(w.t, action.Host), action.Health, action.Reason})
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

// when tells when this host was first told to be so.
func (w *world) when(host int, health Health) (time.Duration, bool) {
	at := slices.IndexFunc(w.told, func(t told) bool { return t.host == host && t.health == health })
	if at < 0 {
		return 0, false
	}
	return w.told[at].at, true
}

func (w *world) wantLost(host int, since, from, to time.Duration) {
	w.t.Helper()
	at, ok := w.when(host, Lost)
	if !ok || at-since < from || at-since > to {
		w.t.Errorf("host %d is lost after %v (%v), want %v to %v", host, at-since, ok, from, to)
	}
}

func (w *world) last() told { return w.told[len(w.told)-1] }

func TestADeadHostInASmallFleetIsLostWithinTwoSeconds(t *testing.T) {
	w := newWorld(t, 3)
	died := w.now
	w.hosts[1] = dead
	w.run(3 * time.Second)
	w.wantLost(1, died, time.Second, 2*time.Second)
	if w.last().reason != NoResponders {
		t.Errorf("the reason is %v", w.last().reason)
	}
	for _, each := range w.told {
		if each.host != 1 {
			t.Errorf("told of another: %v", each)
		}
	}
}

func TestADeadHostAmongThousandsIsLostWithinTenSecondsAndWithinTheBudget(t *testing.T) {
	w := newWorld(t, 3000)
	died, probes := w.now, w.probes
	w.hosts[1234] = dead
	w.run(10 * time.Second)
	w.wantLost(1234, died, time.Second, 10*time.Second)
	if rate := (w.probes - probes) / 10; rate < 300 || rate > 400 {
		t.Errorf("%d probes a second", rate)
	}
}

func TestAFrozenHostIsSuspectAndThenLostAtTheDeadline(t *testing.T) {
	w := newWorld(t, 3)
	w.hosts[0] = frozen
	w.run(90 * time.Second)
	suspect, _ := w.when(0, Suspect)
	w.wantLost(0, suspect, 13*time.Second, 17*time.Second)
	if w.last().reason != Silent {
		t.Errorf("the reason is %v", w.last().reason)
	}
}

func TestABusyHostIsNotLostBeforeItsStartDeadline(t *testing.T) {
	w := newWorld(t, 3)
	w.hosts[0] = frozen
	until := w.now + 2*time.Minute
	w.do(w.liveness.BusyUntil("0", until))
	w.run(150 * time.Second)
	w.wantLost(0, until, 0, time.Second)
}

func TestAHostThatHasAnsweredItsStartsIsNotBusyAnyLonger(t *testing.T) {
	w := newWorld(t, 3)
	w.hosts[0] = frozen
	froze := w.now
	w.do(w.liveness.BusyUntil("0", froze+2*time.Minute))
	w.run(70 * time.Second)
	if _, lost := w.when(0, Lost); lost {
		t.Fatal("a busy host is lost")
	}
	w.do(w.liveness.BusyUntil("0", 0))
	w.run(time.Second)
	w.wantLost(0, froze, 70*time.Second, 72*time.Second)
}

func TestAHostThatReconnectsQuicklyIsNotLost(t *testing.T) {
	w := newWorld(t, 3)
	w.hosts[2] = dead
	w.run(900 * time.Millisecond)
	w.hosts[2] = well
	w.run(5 * time.Second)
	if _, lost := w.when(2, Lost); lost || w.last().health != Alive {
		t.Errorf("%v", w.told)
	}
}

func TestNothingIsConcludedWhileTheConnectionIsAwayOrSettles(t *testing.T) {
	w := newWorld(t, 3)
	w.do(w.liveness.LinkDown())
	w.hosts, w.beats = []what{dead, dead, dead}, false
	w.run(3 * time.Minute)
	w.do(w.liveness.LinkUp(w.now))
	w.run(4 * time.Second)
	w.hosts = make([]what, 3)
	w.run(10 * time.Second)
	if len(w.told) != 0 {
		t.Errorf("%v", w.told)
	}
}

func TestWhenAThirdOfTheHostsVanishTheBrokerIsSuspectedFirst(t *testing.T) {
	for _, hosts := range []int{9, 1800} {
		w := newWorld(t, hosts)
		vanished := w.now
		for host := 0; host < hosts; host += 3 {
			w.hosts[host] = dead
		}
		w.run(20 * time.Second)
		if at := slices.IndexFunc(w.told, func(t told) bool { return t.health == Lost }); at >= 0 {
			t.Errorf("of %d: %v", hosts, w.told[at])
		}
		// Those that come back prove the broker well; those that do not are lost at once.
		for host := 3; host < hosts; host += 3 {
			w.hosts[host] = well
		}
		w.run(10 * time.Second)
		w.wantLost(0, vanished, 20*time.Second, 30*time.Second)
	}
}

func TestACrowdThatComesBackOneByOneIsWaitedFor(t *testing.T) {
	w := newWorld(t, 6)
	vanished := w.now
	copy(w.hosts, []what{dead, dead, dead, dead, dead})
	w.run(3 * time.Second)
	for host := range 4 {
		w.hosts[host] = well
		w.run(1500 * time.Millisecond)
	}
	if at := slices.IndexFunc(w.told, func(t told) bool { return t.health == Lost }); at >= 0 {
		t.Errorf("%v", w.told[at])
	}
	// The one that does not come with them is given up when they had their time.
	w.run(4 * time.Second)
	w.wantLost(4, vanished, 12*time.Second, 14*time.Second)
}

func TestAMassDeathIsBelievedAtTheDeadline(t *testing.T) {
	w := newWorld(t, 6)
	w.hosts = []what{dead, dead, dead, dead, dead, dead}
	w.run(80 * time.Second)
	for host := range w.hosts {
		if _, lost := w.when(host, Lost); !lost {
			t.Errorf("host %d is not lost", host)
		}
	}
}

func TestALostHostReturnsWithAHeartbeatOnlyAndIsForgottenInTheEnd(t *testing.T) {
	w := newWorld(t, 3)
	w.hosts[0] = dead
	w.run(3 * time.Second)
	if actions := w.liveness.Answered(w.now, "0"); len(actions) != 0 {
		t.Errorf("a late answer raises the dead: %v", actions)
	}
	if actions := w.liveness.Heartbeat(w.now, "0"); len(actions) != 1 || actions[0] != (Tell{"0", Alive, None}) {
		t.Errorf("a heartbeat does not: %v", actions)
	}
	w.run(11 * time.Minute)
	if w.liveness.Len() != 2 {
		t.Errorf("%d hosts are known", w.liveness.Len())
	}
}

func TestAHostThatCameBackAndDiesWhileTheConnectionSettlesIsLostAtOnce(t *testing.T) {
	w := newWorld(t, 3)
	w.do(w.liveness.LinkDown())
	w.do(w.liveness.LinkUp(w.now))
	w.do(w.liveness.Heartbeat(w.now, "1"))
	w.hosts[0], w.hosts[1] = dead, dead
	died := w.now
	w.run(4 * time.Second)
	if _, lost := w.when(0, Lost); lost {
		t.Error("a host that may be on its way is lost")
	}
	w.wantLost(1, died, time.Second, 2*time.Second)
}

func TestSilenceCountsFromWhenAHostWasHeardOnThisConnectionOrFromWhenThatSettled(t *testing.T) {
	w := newWorld(t, 3)
	w.do(w.liveness.LinkDown())
	w.do(w.liveness.LinkUp(w.now))
	w.do(w.liveness.Heartbeat(w.now, "1"))
	w.hosts[0], w.hosts[1] = frozen, frozen
	froze := w.now
	w.run(60 * time.Second)
	w.wantLost(1, froze, 35*time.Second, 36*time.Second)
	w.wantLost(0, froze, 47*time.Second, 48*time.Second)
}

// FuzzLiveness plays any course of events: a well host is never lost, no host changes to what it is, and
// only a heartbeat raises the lost.
func FuzzLiveness(f *testing.F) {
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 0))
		turns := make([]byte, random.IntN(90))
		for i := range turns {
			turns[i] = byte(random.Uint32())
		}
		f.Add(turns)
	}
	f.Fuzz(func(t *testing.T, turns []byte) {
		w := newWorld(t, 8)
		for turns = turns[:min(len(turns), 120)]; len(turns) >= 3; turns = turns[3:] {
			host, pause := turns[0]%7, 100*time.Millisecond*time.Duration(1+turns[2]%40)
			switch change := turns[1] % 4; change {
			case 3:
				w.do(w.liveness.LinkDown())
				w.run(pause)
				w.do(w.liveness.LinkUp(w.now))
			default:
				w.hosts[host] = what(change)
			}
			w.run(2 * pause)
		}
		if at, lost := w.when(7, Lost); lost {
			t.Errorf("number 7 is always well and lost at %v", at)
		}
		health := make([]Health, len(w.hosts))
		for _, each := range w.told {
			before := health[each.host]
			if before == each.health || before == Lost && each.health != Alive {
				t.Errorf("host %d: %v after %v", each.host, fmt.Sprint(each), before)
			}
			health[each.host] = each.health
		}
	})
}
