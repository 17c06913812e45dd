package berth

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"berth.dev/go/internal/lifecycle"
	"berth.dev/go/internal/reply"
	"berth.dev/go/internal/subject"
)

const (
	// maxPendingRequests and maxPendingBytes bound the requests that have arrived and are not processed yet;
	// nats.go drops the excess.
	maxPendingRequests = 8192
	maxPendingBytes    = 64 << 20

	// drainTimeout bounds each wait for the broker at shutdown. A connected broker processes the unsubscribe
	// within the 1 s of HOST-DOWN-001.
	drainTimeout = time.Second
)

// server connects a host to the bus: it subscribes, dispatches requests and shuts down.
type server struct {
	conn              *nats.Conn
	hostID            string
	grace             time.Duration
	heartbeatInterval time.Duration
	log               *slog.Logger
	executor          *executor
	heartbeats        *heartbeatPublisher
	replies           sync.WaitGroup
}

func newServer(conn *nats.Conn, host Host, options serveOptions) (*server, error) {
	log := options.logger.With("host_id", options.hostID)
	executor := newExecutor(host, log)
	heartbeats, err := newHeartbeatPublisher(host, executor, options.hostID, log)
	if err != nil {
		return nil, err
	}
	return &server{
		conn: conn, hostID: options.hostID, grace: options.shutdownGrace,
		heartbeatInterval: options.heartbeatInterval, log: log, executor: executor, heartbeats: heartbeats,
	}, nil
}

// run serves until ctx ends or the connection is closed.
func (s *server) run(ctx context.Context) error {
	subscription, err := s.conn.Subscribe(subject.AllCommands(s.hostID), s.receive)
	if err != nil {
		return fmt.Errorf("%w: cannot subscribe to commands: %w", ErrConnectionClosed, err)
	}
	drained := make(chan struct{})
	closeDrained := sync.OnceFunc(func() { close(drained) })
	subscription.SetClosedHandler(func(string) { closeDrained() })
	if err := subscription.SetPendingLimits(maxPendingRequests, maxPendingBytes); err != nil {
		s.log.Warn("cannot limit the request queue", "error", err)
	}
	// heartbeats.run returns when ctx ends or the connection is closed.
	s.heartbeats.run(ctx, s.conn, s.heartbeatInterval)
	closed := ctx.Err() == nil
	// HOST-DOWN-004: no heartbeat is sent from here on.
	s.shutDown(subscription, drained)
	if closed {
		return ErrConnectionClosed
	}
	return nil
}

// shutDown unsubscribes first, so that schedulers receive "no responders" at once.
func (s *server) shutDown(subscription *nats.Subscription, drained <-chan struct{}) {
	s.log.Info("shutting down")
	if err := subscription.Drain(); err != nil {
		s.log.Debug("the connection was closed before the subscription", "error", err)
	}
	s.flush()
	s.executor.shutDown()
	waitAtMost(drainTimeout, drained)
	// The subscription has ended already, unless the broker is unreachable. In that case, Unsubscribe discards
	// later requests.
	_ = subscription.Unsubscribe()
	grace, cancel := context.WithTimeout(context.Background(), s.grace)
	defer cancel()
	if !s.executor.wait(grace) {
		s.log.Warn("not all workloads stopped within the grace period", "grace", s.grace)
	}
	replied := make(chan struct{})
	go func() {
		defer close(replied)
		s.replies.Wait()
	}()
	waitAtMost(drainTimeout, replied)
	s.flush()
}

func (s *server) flush() {
	if s.conn.IsConnected() {
		// An error means that the broker is unreachable or slow; shutdown goes on regardless.
		_ = s.conn.FlushTimeout(drainTimeout)
	}
}

func waitAtMost(timeout time.Duration, done <-chan struct{}) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// receive dispatches requests in the order of arrival, because a stop must not overtake the start before it.
// receive never waits for the host.
func (s *server) receive(msg *nats.Msg) {
	request := parseRequest(s.hostID, msg)
	send := func(status reply.Status) { s.reply(msg.Reply, status) }
	switch request.command {
	case subject.Heartbeat:
		if msg.Reply != "" {
			s.replies.Go(func() { s.replyHeartbeat(msg.Reply) })
		}
	case subject.Start:
		s.executor.start(request.id, request.workload, send)
	case subject.Stop:
		s.executor.handle(send, func(l *lifecycle.Lifecycle, r lifecycle.RequestID) []lifecycle.Action {
			return l.OnStopRequest(r, request.id)
		})
	case subject.Status:
		s.executor.handle(send, func(l *lifecycle.Lifecycle, r lifecycle.RequestID) []lifecycle.Action {
			return l.OnStatusRequest(r, request.id)
		})
	default:
		send(request.refusal)
	}
}

func (s *server) reply(to string, status reply.Status) {
	if to == "" {
		return
	}
	body, fits := status.Body(int(s.conn.MaxPayload()))
	if !fits {
		s.log.Error("cannot send reply: it exceeds the broker's maximum payload")
		return
	}
	msg := &nats.Msg{Subject: to, Data: body}
	if status.Code != 0 {
		msg.Header = nats.Header{
			reply.HeaderCode: {strconv.Itoa(int(status.Code))},
			reply.HeaderText: {status.HeaderLine()},
		}
	}
	s.publish(msg)
}

func (s *server) replyHeartbeat(to string) {
	if payload, ok := s.heartbeats.payload(); ok {
		s.publish(&nats.Msg{Subject: to, Data: payload})
	}
}

func (s *server) publish(msg *nats.Msg) {
	// HOST-WIRE-015: a forged reply subject must not make this host command another host.
	if subject.IsProtocol(msg.Subject) {
		s.log.Warn("reply subject belongs to the protocol, sending no reply", "subject", msg.Subject)
		return
	}
	if err := s.conn.PublishMsg(msg); err != nil {
		s.log.Warn("cannot send reply", "error", err)
	}
}
