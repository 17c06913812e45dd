package main

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	berth "berth.dev/go"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

func TestMissedEventsLoseAllLostHosts(t *testing.T) {
	view := func(id string, health berth.Health) berth.HostView {
		return berth.HostView{Heartbeat: &runtimev2.HostHeartbeat{Id: id}, Health: health}
	}
	hosts := func() []berth.HostView {
		return []berth.HostView{
			view("a", berth.HealthLost), view("b", berth.HealthAlive), view("c", berth.HealthSuspect), view("d", berth.HealthLost),
		}
	}
	for _, c := range []struct {
		event berth.FleetEvent
		want  []string
	}{
		{berth.HostLost{HostID: "b"}, []string{"b"}},
		{berth.EventsMissed{Count: 1}, []string{"a", "d"}},
		{berth.HostSuspect{HostID: "a"}, nil},
		{berth.HostJoined{Host: view("b", berth.HealthAlive)}, nil},
	} {
		if got := lostHosts(c.event, hosts); !slices.Equal(got, c.want) {
			t.Errorf("lost hosts after %T = %v, want %v", c.event, got, c.want)
		}
	}
}

func TestSecondSchedulerSaysThatItWaitsForLock(t *testing.T) {
	var logged bytes.Buffer
	previous := slog.Default()
	defer slog.SetDefault(previous)
	slog.SetDefault(slog.New(slog.NewTextHandler(&logged, nil)))
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if logged.Len() > 0 {
		t.Errorf("logged %s", &logged)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := lock(ctx, path); err == nil {
		t.Error("two schedulers hold the lock, or the second does not report that it does not")
	}
	if text := logged.String(); strings.Count(text, "waiting for the lock") != 1 || !strings.Contains(text, path) {
		t.Errorf("logged %q, want one line with the path", text)
	}
	unlock()
	again, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	again()
}
