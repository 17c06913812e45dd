package berth

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// minReconnectDelay is the delay before the first reconnect attempt. It doubles up to
	// maxReconnectDelay, which is short enough to reconnect within 10 s of the broker's return
	// (HOST-RESIL-001).
	minReconnectDelay = 20 * time.Millisecond
	maxReconnectDelay = 2 * time.Second

	// stableAfter is the time between two attempts after which the delay starts again at its minimum. A connection
	// that lasts for less does not count, because a server may accept connections and end each at once.
	stableAfter = 10 * time.Second
)

// reconnectSchedule decides which server is tried next, and when. The delays of nats.go are not an alternative: they
// start again at the minimum after each handshake, and with several servers they do not apply to all attempts.
type reconnectSchedule struct {
	mu sync.Mutex
	// attempts is the number of attempts since the connection was last stable.
	attempts      int
	lastAttemptAt time.Time
	// tried is when each server was last tried, as the number of an attempt.
	tried map[string]uint64
	total uint64
}

// next returns the server that was not tried for the longest time, and the delay before the attempt: none for all
// servers but the last in each round, as in nats.go, and then a delay that doubles with each round.
func (s *reconnectSchedule) next(now time.Time, servers []string) (server int, delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(servers) == 0 {
		return -1, 0
	}
	if now.Sub(s.lastAttemptAt) >= stableAfter {
		s.attempts = 0
	}
	if s.attempts++; s.attempts%len(servers) == 0 {
		delay = reconnectDelay(s.attempts / len(servers))
	}
	s.lastAttemptAt = now.Add(delay)
	for i, url := range servers {
		if s.tried[url] < s.tried[servers[server]] {
			server = i
		}
	}
	s.total++
	tried := map[string]uint64{servers[server]: s.total}
	for _, url := range servers {
		if at := s.tried[url]; tried[url] == 0 && at != 0 {
			tried[url] = at
		}
	}
	s.tried = tried // without the servers that have left the cluster
	return server, delay
}

// handle implements [nats.ReconnectToServerHandler].
func (s *reconnectSchedule) handle(servers []nats.Server, _ nats.ServerInfo) (*nats.Server, time.Duration) {
	servers = slices.DeleteFunc(servers, func(server nats.Server) bool { return server.URL == nil })
	urls := make([]string, len(servers))
	for i, server := range servers {
		urls[i] = server.URL.String()
	}
	next, delay := s.next(time.Now(), urls)
	if next < 0 {
		return nil, 0
	}
	return &servers[next], delay
}

// reconnectDelay doubles with each round, with jitter so that a fleet does not reconnect all at once.
func reconnectDelay(round int) time.Duration {
	delay := maxReconnectDelay
	if doublings := round - 1; doublings < 8 {
		delay = min(delay, minReconnectDelay<<max(0, doublings))
	}
	return delay/2 + rand.N(delay/2)
}
