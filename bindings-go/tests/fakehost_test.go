package tests

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	berth "berth.dev/go"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// fakeHost is a host whose behavior depends on the name of a workload: "missing", "trapped", "secret" and "wrapped" fail, "panic" and
// "panic-in-stop" panic, "slow" waits for release, all others run.
type fakeHost struct {
	name string

	mu        sync.Mutex
	started   []string
	stopped   []string
	reporters map[string]*berth.StatusReporter
	// release, when closed, ends the starts of workloads with the name "slow".
	release chan struct{}
}

func newFakeHost(name string) *fakeHost {
	return &fakeHost{name: name, reporters: make(map[string]*berth.StatusReporter), release: make(chan struct{})}
}

func (h *fakeHost) Describe() berth.Description {
	return berth.Description{
		Hostname: "localhost", FriendlyName: h.name, Version: "1.2.3",
		Labels: map[string]string{"hostgroup": "test"}, SystemCPUUsage: 12.5, HTTPPort: 8000,
	}
}

func (h *fakeHost) Start(ctx context.Context, request berth.StartRequest) (berth.Instance, error) {
	h.mu.Lock()
	h.started = append(h.started, request.ID)
	h.reporters[request.ID] = request.Reporter
	h.mu.Unlock()
	switch request.Workload.Name {
	case "missing":
		return nil, berth.StartErrorf("no such image: %s", "registry.example/missing")
	case "trapped":
		return nil, berth.NonRetryable(berth.StartErrorf("trapped"))
	case "secret":
		return nil, errors.New("dial registry: bad password hunter2")
	case "wrapped":
		return nil, fmt.Errorf("hunter2: %w", berth.StartErrorf("no such image"))
	case "panic":
		panic("on purpose")
	case "slow":
		select {
		case <-h.release:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return berth.StopFunc(func(context.Context) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.stopped = append(h.stopped, request.ID)
		if request.Workload.Name == "panic-in-stop" {
			panic("on purpose")
		}
	}), nil
}

func (h *fakeHost) reporter(id string) *berth.StatusReporter {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reporters[id]
}

func (h *fakeHost) ids() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.started)
}

// count returns the length of h.started or h.stopped.
func (h *fakeHost) count(list *[]string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(*list)
}

func workloadNamed(name string) *runtimev2.Workload { return &runtimev2.Workload{Name: name} }
