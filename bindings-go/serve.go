package berth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"berth.dev/go/internal/subject"
)

var (
	// ErrDescription: what a host says of itself lacks what each heartbeat must hold, or its friendly name
	// cannot be the name of a Kubernetes object.
	ErrDescription = errors.New("the host does not describe itself well")
	// ErrHeartbeatInterval: a heartbeat interval that is not between 1 s and 30 s.
	ErrHeartbeatInterval = errors.New("not a heartbeat interval between 1 s and 30 s")
	// ErrConnectionClosed: the connection was closed by someone else.
	ErrConnectionClosed = errors.New("the connection to the broker is closed")
)

const (
	// minHeartbeatInterval: faster heartbeats would be taken for a burst (HOST-BEAT-004).
	minHeartbeatInterval = time.Second
	// maxHeartbeatInterval: slower ones would be taken for a dead host (HOST-BEAT-003).
	maxHeartbeatInterval = 30 * time.Second
)

// serveOptions say how a host is served.
type serveOptions struct {
	hostID            string
	heartbeatInterval time.Duration
	shutdownGrace     time.Duration
	logger            *slog.Logger
}

// ServeOption changes how a host is served.
type ServeOption func(*serveOptions)

// WithHostID sets the id of the host: one subject token of letters, digits, - and _, new for each process.
// By default it is a random UUID.
func WithHostID(id string) ServeOption {
	return func(o *serveOptions) { o.hostID = id }
}

// WithHeartbeatInterval sets the time between two heartbeats, from 1 s to 30 s; 15 s by default.
func WithHeartbeatInterval(interval time.Duration) ServeOption {
	return func(o *serveOptions) { o.heartbeatInterval = interval }
}

// WithShutdownGrace sets how long stopping all workloads may take at shutdown; 5 s by default.
func WithShutdownGrace(grace time.Duration) ServeOption {
	return func(o *serveOptions) { o.shutdownGrace = grace }
}

// WithLogger sets what is told of trouble; [slog.Default] by default. No payload and no secret is logged.
func WithLogger(logger *slog.Logger) ServeOption {
	return func(o *serveOptions) { o.logger = logger }
}

// Serve serves the host until ctx ends, and then ends in order: it unsubscribes, answers what was already
// asked, stops all workloads within the grace period, and returns nil.
//
// The connection remains the caller's, who closes it afterwards. It may be one of [ConnectEventually] that
// is not connected yet: a broker that is away is not an error, then or later.
//
// Errors are only what no waiting can mend: [ErrHostID], [ErrHeartbeatInterval], [ErrDescription], and
// [ErrConnectionClosed], after which all workloads have been stopped, too.
func Serve(ctx context.Context, conn *nats.Conn, host Host, options ...ServeOption) error {
	o := serveOptions{
		hostID:            randomID(),
		heartbeatInterval: 15 * time.Second,
		shutdownGrace:     5 * time.Second,
		logger:            slog.Default(),
	}
	for _, option := range options {
		option(&o)
	}
	if !subject.IsHostID(o.hostID) {
		return fmt.Errorf("%q: %w", o.hostID, ErrHostID)
	}
	if o.heartbeatInterval < minHeartbeatInterval || o.heartbeatInterval > maxHeartbeatInterval {
		return fmt.Errorf("%v: %w", o.heartbeatInterval, ErrHeartbeatInterval)
	}
	server, err := newServer(conn, host, o)
	if err != nil {
		return err
	}
	return server.run(ctx)
}

// randomID gives a UUID of version 4.
func randomID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
