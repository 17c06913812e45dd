package liveness

import (
	"container/heap"
	"time"
)

// queuedProbe is the time of the next probe of a host.
type queuedProbe struct {
	at   time.Duration
	host string
}

// probeQueue orders probes by time, and probes of the same time by host id.
type probeQueue struct{ heap probeHeap }

func (q *probeQueue) push(probe queuedProbe) { heap.Push(&q.heap, probe) }

// popUntil removes and returns the first probe, if it is due.
func (q *probeQueue) popUntil(now time.Duration) (probe queuedProbe, ok bool) {
	if len(q.heap) == 0 || q.heap[0].at > now {
		return probe, false
	}
	return heap.Pop(&q.heap).(queuedProbe), true
}

type probeHeap []queuedProbe

func (h probeHeap) Len() int { return len(h) }
func (h probeHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].host < h[j].host
}
func (h probeHeap) Swap(i, j int)   { h[i], h[j] = h[j], h[i] }
func (h *probeHeap) Push(probe any) { *h = append(*h, probe.(queuedProbe)) }
func (h *probeHeap) Pop() any {
	last := len(*h) - 1
	probe := (*h)[last]
	*h = (*h)[:last]
	return probe
}
