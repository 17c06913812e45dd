package berth

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"runtime/debug"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"berth.dev/go/internal/loglimit"
	"berth.dev/go/internal/reply"
	"berth.dev/go/internal/subject"
	"berth.dev/go/internal/wire"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

const (
	// repeatDelay is the delay before a heartbeat that was interrupted by a reconnect is repeated. It is more
	// than a second, because two heartbeats within a second are a burst (HOST-BEAT-004), and less than two
	// seconds, because a later heartbeat is too late after a reconnect (HOST-RESIL-002).
	repeatDelay = 1300 * time.Millisecond

	// flushTimeout bounds the flush of a heartbeat. It is long, because a broken connection is detected sooner.
	flushTimeout = time.Minute
)

// heartbeatPublisher builds and publishes the heartbeats of a host.
type heartbeatPublisher struct {
	host      Host
	executor  *executor
	hostID    string
	startedAt *timestamppb.Timestamp
	log       *slog.Logger
	logLimit  *loglimit.Handler
	// identity is the first description; its identifying fields stay constant for the life of the process
	// (HOST-BEAT-007).
	identity Description
}

func newHeartbeatPublisher(
	host Host, executor *executor, hostID string, log *slog.Logger, logLimit *loglimit.Handler,
) (*heartbeatPublisher, error) {
	identity := host.Describe()
	if identity.Hostname == "" || identity.Version == "" {
		return nil, fmt.Errorf("%w: Hostname or Version is empty", ErrInvalidDescription)
	}
	if !isDNS1123Subdomain(identity.FriendlyName) {
		return nil, fmt.Errorf("%w: FriendlyName %q of %d bytes is not a DNS-1123 subdomain of at most 253",
			ErrInvalidDescription, reply.Shorten(identity.FriendlyName, 64), len(identity.FriendlyName))
	}
	startedAt := timestamppb.New(time.Now().Truncate(time.Millisecond))
	return &heartbeatPublisher{host, executor, hostID, startedAt, log, logLimit, identity}, nil
}

// run publishes a heartbeat at once, at each interval and after each reconnect, until ctx ends or the
// connection is closed. It publishes nothing while disconnected, so that a reconnect is not followed by a
// burst (HOST-RESIL-004).
func (p *heartbeatPublisher) run(ctx context.Context, conn *nats.Conn, interval time.Duration) {
	for waitForConnection(ctx, conn, isConnected) {
		before, began := connectionStateOf(conn), time.Now()
		flushed := p.publish(ctx, conn)
		after := connectionStateOf(conn)
		if !flushed || after.generation != before.generation {
			// The connection broke during this heartbeat, which may or may not have arrived. Repeat it soon,
			// but not so soon that the two are a burst.
			if !waitForConnection(ctx, conn, isConnected) {
				return
			}
			p.sleep(ctx, conn, time.Now().Add(repeatDelay), connectionStateOf(conn))
			continue
		}
		p.sleep(ctx, conn, began.Add(interval), after)
	}
}

func isConnected(state connectionState) bool { return state.connected }

// sleep waits until a deadline, or until the connection has reconnected since the previous state.
func (p *heartbeatPublisher) sleep(ctx context.Context, conn *nats.Conn, until time.Time, previous connectionState) {
	deadline, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	waitForConnection(deadline, conn, func(current connectionState) bool {
		return current.connected && current.generation != previous.generation
	})
}

// publish sends a heartbeat and flushes it. The command subscription was sent earlier on the same connection,
// so the broker has processed it before the heartbeat (HOST-WIRE-014).
func (p *heartbeatPublisher) publish(ctx context.Context, conn *nats.Conn) (flushed bool) {
	p.logLimit.Flush(time.Now())
	payload, ok := p.payload()
	if !ok {
		return true
	}
	if err := conn.Publish(subject.ForHeartbeats(p.hostID), payload); err != nil {
		p.log.Warn("cannot send heartbeat", "error", err)
		return true
	}
	flush, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	return conn.FlushWithContext(flush) == nil
}

// payload returns the current heartbeat as JSON. It returns false if the host cannot describe itself.
func (p *heartbeatPublisher) payload() (payload []byte, ok bool) {
	defer func() {
		if panicked := recover(); panicked != nil {
			p.log.Error("panic in Describe", "panic", panicked, "stack", string(debug.Stack()))
		}
	}()
	payload, err := wire.Encode(p.heartbeat(p.host.Describe()))
	if err != nil {
		p.log.Error("cannot encode heartbeat", "error", err)
		return nil, false
	}
	return payload, true
}

func (p *heartbeatPublisher) heartbeat(current Description) *runtimev2.HostHeartbeat {
	cpu := current.SystemCPUUsage
	if math.IsNaN(float64(cpu)) || math.IsInf(float64(cpu), 0) {
		cpu = 0 // JSON cannot represent these values, and null is not allowed
	}
	labels := maps.Clone(current.Labels)
	if labels == nil {
		labels = make(map[string]string)
	}
	labels[discoverLabel] = "true"
	return &runtimev2.HostHeartbeat{
		Id:                p.hostID,
		Hostname:          p.identity.Hostname,
		FriendlyName:      p.identity.FriendlyName,
		Version:           p.identity.Version,
		Labels:            labels,
		StartedAt:         p.startedAt,
		OsArch:            current.OSArch,
		OsName:            current.OSName,
		OsKernel:          current.OSKernel,
		SystemCpuUsage:    cpu,
		SystemMemoryTotal: current.SystemMemoryTotal,
		SystemMemoryFree:  current.SystemMemoryFree,
		ComponentCount:    current.ComponentCount,
		WorkloadCount:     p.executor.workloadCount(),
		Imports:           current.Imports,
		Exports:           current.Exports,
		HttpPort:          uint32(current.HTTPPort),
		Environment:       p.identity.Environment,
	}
}

// isDNS1123Subdomain reports whether a name is valid as the name of a Kubernetes object (HOST-BEAT-006).
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
