// Package liveness decides which hosts are alive, from heartbeats, probes and the connection, and does
// nothing itself.
//
// No clock, no I/O, no goroutine: the shell hands in what happened and carries out the actions that come
// back.
package liveness

import (
	"slices"
	"time"
)

// Health is how a host does, as far as can be known from here.
type Health int

const (
	// Alive: heard of lately.
	Alive Health = iota
	// Suspect: something is wrong; nothing is to be concluded yet.
	Suspect
	// Lost: taken for gone.
	Lost
)

// Reason says why a host is suspect or lost.
type Reason int

const (
	// None: it is alive.
	None Reason = iota
	// NoResponders: the broker says that nobody listens under its id.
	NoResponders
	// Silent: it listens but says nothing.
	Silent
	// Restarted: another process has taken its id. The fleet finds this out, not liveness.
	Restarted
)

// Tick is how often [Liveness.Tick] is due.
const Tick = 50 * time.Millisecond

// Action is what is to be done: [Probe], [Tell] or [Forget].
type Action interface{ action() }

// Probe asks for the status of any id, and tells how that went.
type Probe struct{ Host string }

// Tell says that the host's health has changed.
type Tell struct {
	Host   string
	Health Health
	Reason Reason
}

// Forget says that the host was lost for so long that it is forgotten.
type Forget struct{ Host string }

func (Probe) action()  {}
func (Tell) action()   {}
func (Forget) action() {}

// host is what is known of one host.
type host struct {
	health Health
	heard  time.Duration
	// When it last answered a probe, if ever.
	answered    time.Duration
	hasAnswered bool
	busyUntil   time.Duration
	// Whether it was heard since the connection was last made: only then does its silence tell anything
	// before the connection has settled.
	heardOnLink bool
	// When nobody listened for the first time since it was last heard, and how often since. 0 times: it
	// is not deaf.
	deafSince time.Duration
	deafTimes int
	// When it is to be probed; not while a probe is under way.
	probeAt  time.Duration
	isQueued bool
}

// Liveness is the fleet's pulse. Times are of any clock that never goes back.
type Liveness struct {
	options Options
	hosts   map[string]*host
	queue   probeQueue
	// When the broker was last suspected of having lost a crowd; before the first time, less than any.
	crowdAt     time.Duration
	linkUp      bool
	settledAt   time.Duration
	probedUntil time.Duration
}

// New gives the pulse of a fleet without hosts and without a connection.
func New(options Options) *Liveness {
	return &Liveness{options: options, hosts: make(map[string]*host), crowdAt: -1}
}

// Len tells how many hosts are known, lost ones included.
func (l *Liveness) Len() int { return len(l.hosts) }

// Heartbeat takes in that a heartbeat arrived.
func (l *Liveness) Heartbeat(now time.Duration, id string) []Action { return l.heard(now, id, true) }

// Answered takes in that a probe was answered, with whatever.
func (l *Liveness) Answered(now time.Duration, id string) []Action { return l.heard(now, id, false) }

// NoResponders takes in that the broker answered a probe: nobody listens.
func (l *Liveness) NoResponders(now time.Duration, id string) []Action {
	h := l.hosts[id]
	if h == nil || h.health == Lost {
		return nil
	}
	// A host that was heard since has come back already: if nobody listens now, it has gone.
	if cameBack := l.linkUp && h.heardOnLink; !cameBack && !l.isSettled(now) {
		l.probeAgain(id, max(l.settledAt, now+l.options.DeafProbeInterval))
		return nil
	}
	if h.deafTimes == 0 {
		h.deafSince = now
	}
	h.deafTimes++
	var actions []Action
	if h.health == Alive {
		h.health = Suspect
		actions = append(actions, Tell{id, Suspect, NoResponders})
	}
	l.probeAgain(id, now+l.options.DeafProbeInterval)
	if l.isConfirmedDeaf(now, h) {
		actions = append(actions, l.lose(id, NoResponders))
	}
	return actions
}

// isConfirmedDeaf tells whether nobody listened often enough for long enough, and the broker is not to blame.
func (l *Liveness) isConfirmedDeaf(now time.Duration, h *host) bool {
	deafFor := now - h.deafSince
	if h.deafTimes < l.options.DeafTimes || deafFor < l.options.DeafFor {
		return false
	}
	if l.brokerIsSuspect(h.deafSince) {
		l.crowdAt = now
		return false
	}
	// A crowd comes back one by one: the last of it must not be judged by the first (SCHED-CONT-006).
	inCrowd := l.crowdAt >= h.deafSince
	return !inCrowd || deafFor >= l.options.Settle
}

// NoAnswer takes in that a probe has no answer.
func (l *Liveness) NoAnswer(now time.Duration, id string) []Action {
	l.probeAgain(id, now+l.options.SilentProbeInterval)
	return nil
}

// BusyUntil takes in that the host has been given starts that it may be silent over until then. It takes the
// place of what was said before.
func (l *Liveness) BusyUntil(id string, until time.Duration) []Action {
	if h := l.hosts[id]; h != nil {
		h.busyUntil = until
	}
	return nil
}

// LinkDown takes in that our own connection is gone.
func (l *Liveness) LinkDown() []Action {
	l.linkUp = false
	return nil
}

// LinkUp takes in that our own connection is made, for the first time or again.
func (l *Liveness) LinkUp(now time.Duration) []Action {
	l.linkUp = true
	l.settledAt = now + l.options.Settle
	for _, h := range l.hosts {
		h.deafTimes, h.heardOnLink = 0, false
	}
	return nil
}

// Tick takes in that time has passed.
func (l *Liveness) Tick(now time.Duration) []Action {
	if !l.linkUp {
		return nil
	}
	return append(l.lookForSilence(now), l.probe(now)...)
}

func (l *Liveness) heard(now time.Duration, id string, byHeartbeat bool) []Action {
	nextProbe := now + l.probeInterval()
	h := l.hosts[id]
	if h == nil {
		if byHeartbeat {
			l.hosts[id] = &host{health: Alive, heard: now, heardOnLink: l.linkUp}
			l.probeAgain(id, nextProbe)
		}
		return nil
	}
	// A late answer does not raise the dead: only a heartbeat does.
	if h.health == Lost && !byHeartbeat {
		return nil
	}
	was := h.health
	h.health, h.heard, h.heardOnLink, h.deafTimes = Alive, now, l.linkUp, 0
	if !byHeartbeat {
		h.answered, h.hasAnswered = now, true
	}
	// A heartbeat does not put the probe off, or a host that beats and dies is found late.
	if !byHeartbeat || was != Alive {
		l.probeAgain(id, nextProbe)
	}
	if was != Alive {
		return []Action{Tell{id, Alive, None}}
	}
	return nil
}

// brokerIsSuspect tells whether a large part of the hosts that were probed since then seem gone. It is
// more likely that a broker lost them, and that they are on their way to another, than that they all died
// at once. Heartbeats do not count here: they come from all, and probes have reached but some.
func (l *Liveness) brokerIsSuspect(since time.Duration) bool {
	deaf, well, sharePercent := 0, 0, max(1, l.options.MassVanishSharePercent)
	for _, h := range l.hosts {
		switch {
		case h.deafTimes > 0:
			deaf++
		case h.hasAnswered && h.answered >= since:
			well++
		}
	}
	return deaf >= l.options.MassVanishFrom && deaf*100/max(1, deaf+well) >= sharePercent
}

// lookForSilence suspects hosts that listen and say nothing, and gives up on them at the end of their
// time.
func (l *Liveness) lookForSilence(now time.Duration) []Action {
	var actions []Action
	for _, id := range l.silent(now) {
		h := l.hosts[id]
		switch {
		case h.health == Alive:
			h.health = Suspect
			actions = append(actions, Tell{id, Suspect, Silent})
		case h.health == Lost:
			delete(l.hosts, id)
			actions = append(actions, Forget{id})
		case h.deafTimes > 0:
			// Nobody listening is proof enough by now.
			actions = append(actions, l.lose(id, NoResponders))
		case now >= h.busyUntil:
			actions = append(actions, l.lose(id, Silent))
		}
	}
	return actions
}

// silent lists the hosts that have been silent for longer than one of their health may be, in order.
func (l *Liveness) silent(now time.Duration) []string {
	limits := [...]time.Duration{
		Alive: l.options.SuspectAfter, Suspect: l.options.LostAfter, Lost: l.options.ForgetAfter,
	}
	var ids []string
	for id, h := range l.hosts {
		if !l.isSettled(now) && !h.heardOnLink {
			continue
		}
		// Silence counts only while we could have heard something: a host that was heard has come back.
		heard := h.heard
		if !h.heardOnLink {
			heard = max(heard, l.settledAt)
		}
		if now-heard >= limits[h.health] {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (l *Liveness) lose(id string, reason Reason) Action {
	h := l.hosts[id]
	h.health, h.deafTimes, h.hasAnswered, h.isQueued = Lost, 0, false, false
	return Tell{id, Lost, reason}
}

// probe sends the probes that are due, as far as the budget goes.
func (l *Liveness) probe(now time.Duration) []Action {
	var actions []Action
	// What was not used in the last moments is not saved up: probes come evenly.
	l.probedUntil = max(l.probedUntil, now-2*Tick)
	for l.probedUntil+l.probeCost() <= now {
		id, ok := l.nextProbe(now)
		if !ok {
			break
		}
		// The next one is set when this one is answered: one at a time for each host.
		l.hosts[id].isQueued = false
		l.probedUntil += l.probeCost()
		actions = append(actions, Probe{id})
	}
	return actions
}

// nextProbe takes the host from the queue whose probe is most overdue. Entries of hosts that were lost or
// queued anew since then are skipped.
func (l *Liveness) nextProbe(now time.Duration) (id string, ok bool) {
	for {
		next, ok := l.queue.popUntil(now)
		if !ok {
			return "", false
		}
		if h := l.hosts[next.host]; h != nil && h.isQueued && h.probeAt == next.at {
			return next.host, true
		}
	}
}

func (l *Liveness) probeAgain(id string, at time.Duration) {
	h := l.hosts[id]
	if h == nil || h.health == Lost || h.isQueued && h.probeAt == at {
		return
	}
	h.probeAt, h.isQueued = at, true
	l.queue.push(queuedProbe{at, id})
}

// probeInterval is the chosen one in a small fleet, and what the budget allows in a large one.
func (l *Liveness) probeInterval() time.Duration {
	return max(l.options.ProbeInterval, l.probeCost()*time.Duration(len(l.hosts)))
}

func (l *Liveness) probeCost() time.Duration {
	return time.Second / time.Duration(max(1, l.options.ProbesPerSecond))
}

func (l *Liveness) isSettled(now time.Duration) bool { return l.linkUp && now >= l.settledAt }
