package berth

import (
	"testing"
	"time"
)

func TestReconnectsAreBoundedForAnyNumberOfServers(t *testing.T) {
	for _, servers := range [][]string{{"a"}, {"a", "b"}, {"a", "b", "c", "d", "e"}} {
		schedule, now := &reconnectSchedule{}, time.Unix(0, 0)
		attempts, tried := 0, make(map[int]int)
		// Each attempt ends at once, with or without a handshake.
		for now.Before(time.Unix(60, 0)) {
			server, delay := schedule.next(now, servers)
			tried[server]++
			attempts++
			now = now.Add(delay)
		}
		if limit := len(servers) * 75; attempts > limit || attempts < limit/3 {
			t.Errorf("%d attempts on %d servers in a minute, want at most %d", attempts, len(servers), limit)
		}
		for server, count := range tried {
			if count < attempts/len(servers)-1 {
				t.Errorf("server %d was tried %d times of %d", server, count, attempts)
			}
		}
	}
}

func TestReconnectIsFastAfterStableConnection(t *testing.T) {
	schedule, now := &reconnectSchedule{}, time.Unix(0, 0)
	for range 100 {
		_, delay := schedule.next(now, []string{"a"})
		now = now.Add(delay)
	}
	now = now.Add(stableAfter)
	if _, delay := schedule.next(now, []string{"a"}); delay > minReconnectDelay {
		t.Errorf("delay after a stable connection = %v", delay)
	}
	if server, delay := schedule.next(now, nil); server != -1 || delay != 0 {
		t.Errorf("server of none = %d after %v", server, delay)
	}
}

func TestReconnectTriesNewServersFirst(t *testing.T) {
	schedule, now := &reconnectSchedule{}, time.Unix(0, 0)
	var order []int
	for _, servers := range [][]string{{"a", "b"}, {"a", "b"}, {"a", "b", "c"}, {"a", "b", "c"}, {"b"}} {
		server, _ := schedule.next(now, servers)
		order = append(order, server)
	}
	for i, want := range []int{0, 1, 2, 0, 0} {
		if order[i] != want {
			t.Errorf("order = %v", order)
		}
	}
}
