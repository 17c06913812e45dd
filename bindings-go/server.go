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
	// maxPendingRequests and maxPendingBytes bound what has arrived and is not looked at yet.
	maxPendingRequests = 8192
	maxPendingBytes    = 64 << 20

	// unsubscribePatience is how long the broker may take to see the end of the subscription, inside the
	// 1 s of HOST-DOWN-001 when it is there at all.
	unsubscribePatience = time.Second
)

// server is the shell around the table of ids: it subscribes, hands requests in, and shuts down.
type server struct {
	conn    *nats.Conn
	hostID  string
	grace   time.Duration
	every   time.Duration
	log     *slog.Logger
	runs    *runs
	heart   *heart
	replies sync.WaitGroup
}

func newServer(conn *nats.Conn, host Host, options serveOptions) (*server, error) {
	log := options.logger.With("host_id", options.hostID)
	runs := newRuns(host, log)
	heart, err := newHeart(host, runs, options.hostID, log)
	if err != nil {
		return nil, err
	}
	return &server{
		conn: conn, hostID: options.hostID, grace: options.shutdownGrace, every: options.heartbeatInterval,
		log: log, runs: runs, heart: heart,
	}, nil
}

// run serves until ctx ends or the connection is closed.
func (s *server) run(ctx context.Context) error {
	subscription, err := s.conn.Subscribe(subject.Commands(s.hostID), s.receive)
	if err != nil {
		return fmt.Errorf("%w: cannot subscribe to commands: %w", ErrConnectionClosed, err)
	}
	drained := make(chan struct{})
	hasDrained := sync.OnceFunc(func() { close(drained) })
	subscription.SetClosedHandler(func(string) { hasDrained() })
	if err := subscription.SetPendingLimits(maxPendingRequests, maxPendingBytes); err != nil {
		s.log.Warn("the queue of requests has other bounds than intended", "error", err)
	}
	// Returns when ctx ends or the connection is closed.
	s.heart.beat(ctx, s.conn, s.every)
	closed := ctx.Err() == nil
	// No heartbeat follows from here on (HOST-DOWN-004).
	s.shutDown(subscription, drained)
	if closed {
		return ErrConnectionClosed
	}
	return nil
}

// shutDown unsubscribes first, so that callers learn at once that nobody is here.
func (s *server) shutDown(subscription *nats.Subscription, drained <-chan struct{}) {
	s.log.Info("shutting down")
	if err := subscription.Drain(); err != nil {
		s.log.Debug("the connection was closed before the subscription", "error", err)
	}
	s.flush()
	s.runs.shutDown()
	waitAtMost(unsubscribePatience, drained)
	// Already done, unless the broker is away: then nothing that arrives later is looked at.
	_ = subscription.Unsubscribe()
	within, cancel := context.WithTimeout(context.Background(), s.grace)
	defer cancel()
	if !s.runs.wait(within) {
		s.log.Warn("not everything stopped within the grace period", "grace", s.grace)
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		s.replies.Wait()
	}()
	waitAtMost(unsubscribePatience, answered)
	s.flush()
}

func (s *server) flush() {
	if s.conn.IsConnected() {
		// An error says that the broker is gone or slow; either way there is nothing left to do.
		_ = s.conn.FlushTimeout(unsubscribePatience)
	}
}

func waitAtMost(patience time.Duration, done <-chan struct{}) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// receive takes a request in, in the order of arrival: a stop must not overtake the start before it.
// Nothing here waits for the host.
func (s *server) receive(msg *nats.Msg) {
	request := readRequest(s.hostID, msg)
	answer := func(status reply.Status) { s.reply(msg.Reply, status) }
	switch request.command {
	case subject.Heartbeat:
		if msg.Reply != "" {
			s.replies.Go(func() { s.replyHeartbeat(msg.Reply) })
		}
	case subject.Start:
		s.runs.start(request.id, request.workload, answer)
	case subject.Stop:
		s.runs.ask(answer, func(table *lifecycle.Table, r lifecycle.RequestID) []lifecycle.Action {
			return table.Stop(r, request.id)
		})
	case subject.Status:
		s.runs.ask(answer, func(table *lifecycle.Table, r lifecycle.RequestID) []lifecycle.Action {
			return table.Status(r, request.id)
		})
	default:
		answer(request.refusal)
	}
}

func (s *server) reply(to string, status reply.Status) {
	if to == "" {
		return
	}
	body, fits := status.Body(int(s.conn.MaxPayload()))
	if !fits {
		s.log.Error("the broker takes no message as long as this reply must be")
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
	if body, ok := s.heart.message(); ok {
		s.publish(&nats.Msg{Subject: to, Data: body})
	}
}

func (s *server) publish(msg *nats.Msg) {
	// A caller could have us command another host in our name (HOST-WIRE-015).
	if subject.IsOfTheProtocol(msg.Subject) {
		s.log.Warn("no reply is sent to a subject of the protocol itself", "subject", msg.Subject)
		return
	}
	if err := s.conn.PublishMsg(msg); err != nil {
		s.log.Warn("a reply could not be sent", "error", err)
	}
}
