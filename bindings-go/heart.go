package berth

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"berth.dev/go/internal/subject"
	"berth.dev/go/internal/wire"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

const (
	// apart is how far a heartbeat is from one that may have gone out on a broken connection: two within a
	// second are a burst (HOST-BEAT-004), and a late one after a reconnect is missed after two
	// (HOST-RESIL-002).
	apart = 1300 * time.Millisecond

	// leavePatience bounds how long a heartbeat may take to leave. A connection that takes longer is
	// about to be given up.
	leavePatience = time.Minute
)

// heart says that the host is there: what, and when.
type heart struct {
	host      Host
	runs      *runs
	hostID    string
	startedAt *timestamppb.Timestamp
	log       *slog.Logger
	// identity is as first described: it is constant for the life of the process (HOST-BEAT-007).
	identity Description
}

func newHeart(host Host, runs *runs, hostID string, log *slog.Logger) (*heart, error) {
	identity := host.Describe()
	if identity.Hostname == "" || identity.Version == "" {
		return nil, fmt.Errorf("%w: Hostname or Version is empty", ErrDescription)
	}
	if !isDNS1123Subdomain(identity.FriendlyName) {
		return nil, fmt.Errorf("%w: FriendlyName %q is not a DNS-1123 subdomain of at most 253 characters",
			ErrDescription, identity.FriendlyName)
	}
	startedAt := timestamppb.New(time.Now().Truncate(time.Millisecond))
	return &heart{host, runs, hostID, startedAt, log, identity}, nil
}

// beat publishes a heartbeat at once, then at each interval and after each reconnect, until ctx ends or the
// connection is closed. While there is no connection nothing is published, so that no burst follows
// (HOST-RESIL-004).
func (h *heart) beat(ctx context.Context, conn *nats.Conn, interval time.Duration) {
	for waitForLink(ctx, conn, func(l link) bool { return l.connected }) {
		before, began := linkOf(conn), time.Now()
		left := h.publish(ctx, conn)
		after := linkOf(conn)
		if !left || after.connects != before.connects {
			// The connection broke under this heartbeat: it may go out on the new one, or not at all.
			// Another soon, but not so soon as to be a burst.
			if !waitForLink(ctx, conn, func(l link) bool { return l.connected }) {
				return
			}
			h.pause(ctx, conn, time.Now().Add(apart), linkOf(conn))
			continue
		}
		h.pause(ctx, conn, began.Add(interval), after)
	}
}

// pause waits until a time, or until the connection has been made again.
func (h *heart) pause(ctx context.Context, conn *nats.Conn, until time.Time, seen link) {
	within, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	waitForLink(within, conn, func(l link) bool { return l.connected && l.connects != seen.connects })
}

// publish sends a heartbeat and waits until it has left. The subscription, handed over earlier on this
// connection, is in effect before (HOST-WIRE-014).
func (h *heart) publish(ctx context.Context, conn *nats.Conn) (left bool) {
	message, ok := h.message()
	if !ok {
		return true
	}
	if err := conn.Publish(subject.HeartbeatOf(h.hostID), message); err != nil {
		h.log.Warn("a heartbeat could not be sent", "error", err)
		return true
	}
	within, cancel := context.WithTimeout(ctx, leavePatience)
	defer cancel()
	return conn.FlushWithContext(within) == nil
}

// message gives the heartbeat as of now; false when the host cannot describe itself.
func (h *heart) message() (message []byte, ok bool) {
	defer func() {
		if panicked := recover(); panicked != nil {
			h.log.Error("the host panicked while it described itself", "panic", panicked, "stack", string(debug.Stack()))
		}
	}()
	message, err := wire.Write(h.heartbeat(h.host.Describe()))
	if err != nil {
		h.log.Error("the heartbeat cannot be written", "error", err)
		return nil, false
	}
	return message, true
}

func (h *heart) heartbeat(now Description) *runtimev2.HostHeartbeat {
	cpu := now.SystemCPUUsage
	if math.IsNaN(float64(cpu)) || math.IsInf(float64(cpu), 0) {
		cpu = 0 // JSON has no number for it, and null is not allowed
	}
	return &runtimev2.HostHeartbeat{
		Id:                h.hostID,
		Hostname:          h.identity.Hostname,
		FriendlyName:      h.identity.FriendlyName,
		Version:           h.identity.Version,
		Labels:            now.Labels,
		StartedAt:         h.startedAt,
		OsArch:            now.OSArch,
		OsName:            now.OSName,
		OsKernel:          now.OSKernel,
		SystemCpuUsage:    cpu,
		SystemMemoryTotal: now.SystemMemoryTotal,
		SystemMemoryFree:  now.SystemMemoryFree,
		ComponentCount:    now.ComponentCount,
		WorkloadCount:     h.runs.workloadCount(),
		Imports:           now.Imports,
		Exports:           now.Exports,
		HttpPort:          uint32(now.HTTPPort),
		Environment:       h.identity.Environment,
	}
}

// isDNS1123Subdomain: the name becomes that of a Kubernetes object (HOST-BEAT-006).
func isDNS1123Subdomain(name string) bool {
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "-") != label {
			return false
		}
		forbidden := func(r rune) bool { return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') }
		if strings.ContainsFunc(label, forbidden) {
			return false
		}
	}
	return true
}
