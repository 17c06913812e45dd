package tests

import (
	"context"
	"errors"
	"slices"
	"sync"

	berth "berth.dev/go"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// toy is a host that does as the name of a workload says.
type toy struct {
	name string

	mu      sync.Mutex
	started []string
	stopped []string
	reports map[string]*berth.Reporter
	// gate, when it is not nil, holds starts of the workload "slow" until it is closed.
	gate chan struct{}
}

func newToy(name string) *toy {
	return &toy{name: name, reports: make(map[string]*berth.Reporter), gate: make(chan struct{})}
}

func (h *toy) Describe() berth.Description {
	return berth.Description{
		Hostname: "localhost", FriendlyName: h.name, Version: "1.2.3",
		Labels: map[string]string{"hostgroup": "test"}, SystemCPUUsage: 12.5, HTTPPort: 8000,
	}
}

func (h *toy) Start(ctx context.Context, start berth.Start) (berth.Instance, error) {
	h.mu.Lock()
	h.started = append(h.started, start.ID)
	h.reports[start.ID] = start.Reporter
	h.mu.Unlock()
	switch start.Workload.Name {
	case "missing":
		return nil, errors.New("no such image: registry.example/missing")
	case "trapped":
		return nil, berth.AfterGuestRan(errors.New("trapped"))
	case "panic":
		panic("on purpose")
	case "slow":
		select {
		case <-h.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return berth.StopFunc(func(context.Context) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.stopped = append(h.stopped, start.ID)
		if start.Workload.Name == "panics-at-the-end" {
			panic("on purpose")
		}
	}), nil
}

func (h *toy) reporter(id string) *berth.Reporter {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reports[id]
}

func (h *toy) ids() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.started)
}

func (h *toy) count(of *[]string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(*of)
}

func named(name string) *runtimev2.Workload { return &runtimev2.Workload{Name: name} }
