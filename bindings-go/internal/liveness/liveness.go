// Package liveness decides which hosts are alive, from heartbeats, probes and the state of the connection.
//
// It has no clock, no I/O and no goroutine: the fleet passes events in and executes the returned actions.
// Times are durations since an arbitrary start.
package liveness

import (
	"slices"
	"time"
)

// Health is the health of a host, as far as the fleet can observe it.
type Health int

const (
	// Alive: a heartbeat or a reply arrived recently.
	Alive Health = iota
	// Suspect: the host may be lost.
	Suspect
	// Lost: the host is considered gone.
	Lost
)

func (h Health) String() string {
	switch h {
	case Suspect:
		return "suspect"
	case Lost:
		return "lost"
	default:
		return "alive"
	}
}

// Reason is why a host is suspect or lost.
type Reason int

const (
	// None: the host is alive.
	None Reason = iota
	// NoResponders: nobody listens under the host id.
	NoResponders
	// Silent: the host listens but sends nothing.
	Silent
	// Restarted: another process has the host id. The fleet detects this, not this package.
	Restarted
)

func (r Reason) String() string {
	switch r {
	case NoResponders:
		return "no responders"
	case Silent:
		return "silent"
	case Restarted:
		return "restarted"
	default:
		return "none"
	}
}

// Tick is the interval between calls of [Liveness.OnTick].
const Tick = 50 * time.Millisecond

// Action is an instruction to the fleet: [Probe], [SetHealth] or [Forget].
type Action interface{ action() }

// Probe requests the status of any workload id from a host. The fleet passes the outcome in as an event.
type Probe struct{ Host string }

// SetHealth changes the health of a host.
type SetHealth struct {
	Host   string
	Health Health
	Reason Reason
}

// Forget removes a host that has been lost for [Options.ForgetAfter].
type Forget struct{ Host string }

func (Probe) action()     {}
func (SetHealth) action() {}
func (Forget) action()    {}

// host is the state of one host.
type host struct {
	health   Health
	lastSeen time.Duration
	// lastReply is the time of the most recent reply to a probe, if hasReplied.
	lastReply  time.Duration
	hasReplied bool
	// busyUntil is the deadline of the starts in flight; before it, silence alone does not make the host lost.
	busyUntil time.Duration
	// seenOnConnection is whether the host was seen since the last connect. During the settling period, only
	// the silence of such a host counts.
	seenOnConnection bool
	// noRespondersSince is the first and noRespondersCount the number of no-responders replies since the
	// host was last seen.
	noRespondersSince time.Duration
	noRespondersCount int
	// nextProbeAt is the time of the next probe, if isQueued. While a probe is in flight, none is queued.
	nextProbeAt time.Duration
	isQueued    bool
}

// Liveness tracks the health of all hosts.
type Liveness struct {
	options Options
	hosts   map[string]*host
	queue   probeQueue
	// massLossAt is the time of the most recent suspected mass loss; negative before the first.
	massLossAt time.Duration
	connected  bool
	// settledAt is the end of the settling period.
	settledAt time.Duration
	// budgetUsedUntil is the time up to which the probe budget is used up.
	budgetUsedUntil time.Duration
}

// New returns a Liveness without hosts and without a connection.
func New(options Options) *Liveness {
	return &Liveness{options: options, hosts: make(map[string]*host), massLossAt: -1}
}

// Len returns the number of known hosts, including lost ones.
func (l *Liveness) Len() int { return len(l.hosts) }

// OnHeartbeat processes a heartbeat.
func (l *Liveness) OnHeartbeat(now time.Duration, id string) []Action {
	return l.markSeen(now, id, true)
}

// OnProbeReplied processes any reply of a host to a probe.
func (l *Liveness) OnProbeReplied(now time.Duration, id string) []Action {
	return l.markSeen(now, id, false)
}

// OnNoResponders processes a no-responders reply of the broker to a probe.
func (l *Liveness) OnNoResponders(now time.Duration, id string) []Action {
	h := l.hosts[id]
	if h == nil || h.health == Lost {
		return nil
	}
	// A host that was seen on this connection has reconnected already. No responders then mean that it is gone.
	if reconnected := l.connected && h.seenOnConnection; !reconnected && !l.isSettled(now) {
		l.scheduleProbe(id, max(l.settledAt, now+l.options.NoRespondersProbeInterval))
		return nil
	}
	if h.noRespondersCount == 0 {
		h.noRespondersSince = now
	}
	h.noRespondersCount++
	var actions []Action
	if h.health == Alive {
		h.health = Suspect
		actions = append(actions, SetHealth{id, Suspect, NoResponders})
	}
	l.scheduleProbe(id, now+l.options.NoRespondersProbeInterval)
	if l.confirmLoss(now, h) {
		actions = append(actions, l.markLost(id, NoResponders))
	}
	return actions
}

// confirmLoss reports whether the host has had no responders often enough and for long enough, and the
// broker is not the likely cause. If the broker is the likely cause, confirmLoss records a mass loss.
func (l *Liveness) confirmLoss(now time.Duration, h *host) bool {
	noRespondersFor := now - h.noRespondersSince
	if h.noRespondersCount < l.options.NoRespondersCount || noRespondersFor < l.options.NoRespondersFor {
		return false
	}
	if l.isMassLoss(h.noRespondersSince) {
		l.massLossAt = now
		return false
	}
	// Hosts return from a mass loss one by one. The first ones lower the share of missing hosts below the
	// threshold, but the remaining ones must not be declared lost because of that (SCHED-CONT-006).
	inMassLoss := l.massLossAt >= h.noRespondersSince
	return !inMassLoss || noRespondersFor >= l.options.SettlingPeriod
}

// OnProbeTimedOut processes a probe without a reply.
func (l *Liveness) OnProbeTimedOut(now time.Duration, id string) []Action {
	l.scheduleProbe(id, now+l.options.SilentProbeInterval)
	return nil
}

// SetBusyUntil sets the deadline of the starts in flight on a host and replaces the previous deadline. Before
// the deadline, silence alone does not make the host lost.
func (l *Liveness) SetBusyUntil(id string, until time.Duration) []Action {
	if h := l.hosts[id]; h != nil {
		h.busyUntil = until
	}
	return nil
}

// OnDisconnected processes the loss of the fleet's own connection.
func (l *Liveness) OnDisconnected() []Action {
	l.connected = false
	return nil
}

// OnConnected processes a connect or a reconnect of the fleet's own connection.
func (l *Liveness) OnConnected(now time.Duration) []Action {
	l.connected = true
	l.settledAt = now + l.options.SettlingPeriod
	for _, h := range l.hosts {
		h.noRespondersCount, h.seenOnConnection = 0, false
	}
	return nil
}

// OnTick returns the changes and probes that are due. Call it at the interval [Tick].
func (l *Liveness) OnTick(now time.Duration) []Action {
	if !l.connected {
		return nil
	}
	return append(l.checkSilence(now), l.dueProbes(now)...)
}

func (l *Liveness) markSeen(now time.Duration, id string, byHeartbeat bool) []Action {
	nextProbe := now + l.probeInterval()
	h := l.hosts[id]
	if h == nil {
		if byHeartbeat {
			l.hosts[id] = &host{health: Alive, lastSeen: now, seenOnConnection: l.connected}
			l.scheduleProbe(id, nextProbe)
		}
		return nil
	}
	// A late reply to a probe does not recover a lost host, only a heartbeat does.
	if h.health == Lost && !byHeartbeat {
		return nil
	}
	previous := h.health
	h.health, h.lastSeen, h.seenOnConnection, h.noRespondersCount = Alive, now, l.connected, 0
	if !byHeartbeat {
		h.lastReply, h.hasReplied = now, true
	}
	// A heartbeat does not postpone the probe; otherwise, a host that dies after a heartbeat would be detected
	// late.
	if !byHeartbeat || previous != Alive {
		l.scheduleProbe(id, nextProbe)
	}
	if previous != Alive {
		return []Action{SetHealth{id, Alive, None}}
	}
	return nil
}

// isMassLoss reports whether a large part of the hosts that were probed since the given time has no responders.
// It is then more likely that a broker failed and its hosts are reconnecting to another one than that all these
// hosts died at once. Heartbeats do not count: all hosts send them, whereas probes have reached only some.
func (l *Liveness) isMassLoss(since time.Duration) bool {
	missing, replied, percent := 0, 0, max(1, l.options.MassLossPercent)
	for _, h := range l.hosts {
		switch {
		case h.noRespondersCount > 0:
			missing++
		case h.hasReplied && h.lastReply >= since:
			replied++
		}
	}
	return missing >= l.options.MassLossThreshold && missing*100/max(1, missing+replied) >= percent
}

// checkSilence marks hosts that have been silent for too long as suspect, then as lost, and finally forgets
// them.
func (l *Liveness) checkSilence(now time.Duration) []Action {
	var actions []Action
	for _, id := range l.silentHosts(now) {
		h := l.hosts[id]
		switch {
		case h.health == Alive:
			h.health = Suspect
			actions = append(actions, SetHealth{id, Suspect, Silent})
		case h.health == Lost:
			delete(l.hosts, id)
			actions = append(actions, Forget{id})
		case h.noRespondersCount > 0:
			// After this long a silence, a single no-responders reply proves the loss.
			actions = append(actions, l.markLost(id, NoResponders))
		case now >= h.busyUntil:
			actions = append(actions, l.markLost(id, Silent))
		}
	}
	return actions
}

// silentHosts returns the hosts that have been silent for longer than their health allows, sorted by id.
func (l *Liveness) silentHosts(now time.Duration) []string {
	limits := [...]time.Duration{
		Alive: l.options.SuspectAfter, Suspect: l.options.LostAfter, Lost: l.options.ForgetAfter,
	}
	var ids []string
	for id, h := range l.hosts {
		if !l.isSettled(now) && !h.seenOnConnection {
			continue
		}
		// Silence counts from the end of the settling period, unless the host was seen on this connection.
		since := h.lastSeen
		if !h.seenOnConnection {
			since = max(since, l.settledAt)
		}
		if now-since >= limits[h.health] {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (l *Liveness) markLost(id string, reason Reason) Action {
	h := l.hosts[id]
	h.health, h.noRespondersCount, h.hasReplied, h.isQueued = Lost, 0, false, false
	return SetHealth{id, Lost, reason}
}

// dueProbes returns the probes that are due, within the budget.
func (l *Liveness) dueProbes(now time.Duration) []Action {
	var actions []Action
	// Unused budget is not saved, so that probes are spread evenly.
	l.budgetUsedUntil = max(l.budgetUsedUntil, now-2*Tick)
	for l.budgetUsedUntil+l.probeCost() <= now {
		id, ok := l.popDueProbe(now)
		if !ok {
			break
		}
		// The outcome of this probe schedules the next one: each host has one probe in flight at most.
		l.hosts[id].isQueued = false
		l.budgetUsedUntil += l.probeCost()
		actions = append(actions, Probe{id})
	}
	return actions
}

// popDueProbe removes the most overdue probe from the queue. It skips stale entries, whose hosts were lost or
// rescheduled after the entry was queued.
func (l *Liveness) popDueProbe(now time.Duration) (id string, ok bool) {
	for {
		next, ok := l.queue.popUntil(now)
		if !ok {
			return "", false
		}
		if h := l.hosts[next.host]; h != nil && h.isQueued && h.nextProbeAt == next.at {
			return next.host, true
		}
	}
}

func (l *Liveness) scheduleProbe(id string, at time.Duration) {
	h := l.hosts[id]
	if h == nil || h.health == Lost || h.isQueued && h.nextProbeAt == at {
		return
	}
	h.nextProbeAt, h.isQueued = at, true
	l.queue.push(queuedProbe{at, id})
}

// probeInterval returns the configured interval, or the longer interval that the budget requires in a large
// fleet.
func (l *Liveness) probeInterval() time.Duration {
	return max(l.options.ProbeInterval, l.probeCost()*time.Duration(len(l.hosts)))
}

func (l *Liveness) probeCost() time.Duration {
	return time.Second / time.Duration(max(1, l.options.ProbesPerSecond))
}

func (l *Liveness) isSettled(now time.Duration) bool { return l.connected && now >= l.settledAt }
