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
	// ErrInvalidDescription is returned when [Host.Describe] lacks a required field, or when the friendly
	// name is invalid as the name of a Kubernetes object.
	ErrInvalidDescription = errors.New("berth: invalid host description")
	// ErrInvalidHeartbeatInterval is returned when a heartbeat interval is not between 1 s and 30 s.
	ErrInvalidHeartbeatInterval = errors.New("berth: heartbeat interval is not between 1 s and 30 s")
	// ErrConnectionClosed is returned when the connection has been closed by its owner.
	ErrConnectionClosed = errors.New("berth: connection is closed")
)

const (
	// minHeartbeatInterval: heartbeats at a shorter interval would be a burst (HOST-BEAT-004).
	minHeartbeatInterval = time.Second
	// maxHeartbeatInterval: with a longer interval, schedulers would consider the host lost (HOST-BEAT-003).
	maxHeartbeatInterval = 30 * time.Second
)

type serveOptions struct {
	hostID            string
	heartbeatInterval time.Duration
	shutdownGrace     time.Duration
	logger            *slog.Logger
}

// ServeOption configures [Serve].
type ServeOption func(*serveOptions)

// WithHostID sets the id of the host: one subject token of letters, digits, - and _, which no other host
// process uses. The default is a random UUID.
func WithHostID(id string) ServeOption {
	return func(o *serveOptions) { o.hostID = id }
}

// WithHeartbeatInterval sets the heartbeat interval, 1 s to 30 s; the default is 15 s.
func WithHeartbeatInterval(interval time.Duration) ServeOption {
	return func(o *serveOptions) { o.heartbeatInterval = interval }
}

// WithShutdownGrace sets the grace period in which all workloads must stop at shutdown; the default is 5 s.
func WithShutdownGrace(grace time.Duration) ServeOption {
	return func(o *serveOptions) { o.shutdownGrace = grace }
}

// WithLogger sets the logger; the default, and nil, is [slog.Default]. No payload is logged. The text of an error that
// [Host.Start] returns is logged unless it is a [*StartError]. Of the problems that a peer can cause, at most five
// lines with the same text are logged in each minute, and the number of the others.
func WithLogger(logger *slog.Logger) ServeOption {
	return func(o *serveOptions) { o.logger = logger }
}

// Serve serves the host until ctx ends. It then shuts down gracefully and returns nil: it unsubscribes,
// replies to the requests that have arrived, and stops all workloads within the grace period.
//
// The caller closes the connection afterwards. The connection may come from [ConnectWithRetry] and may not
// be established yet: Serve waits for the broker at first and after each disconnect.
//
// Serve fails only where waiting does not help: with [ErrInvalidHostID], [ErrInvalidHeartbeatInterval] or
// [ErrInvalidDescription], or with [ErrConnectionClosed], after it has stopped all workloads.
func Serve(ctx context.Context, conn *nats.Conn, host Host, options ...ServeOption) error {
	o := serveOptions{
		hostID:            randomID(),
		heartbeatInterval: 15 * time.Second,
		shutdownGrace:     5 * time.Second,
	}
	for _, option := range options {
		if option != nil {
			option(&o)
		}
	}
	if o.logger == nil {
		o.logger = slog.Default()
	}
	if !subject.IsHostID(o.hostID) {
		return fmt.Errorf("%w %q", ErrInvalidHostID, o.hostID)
	}
	if o.heartbeatInterval < minHeartbeatInterval || o.heartbeatInterval > maxHeartbeatInterval {
		return fmt.Errorf("%w: %v", ErrInvalidHeartbeatInterval, o.heartbeatInterval)
	}
	server, err := newServer(conn, host, o)
	if err != nil {
		return err
	}
	return server.run(ctx)
}

// randomID returns a UUID of version 4.
func randomID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
