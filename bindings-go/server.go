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
	"berth.dev/go/internal/loglimit"
	"berth.dev/go/internal/reply"
	"berth.dev/go/internal/subject"
)

const (
	// maxPendingRequests and maxPendingBytes bound the requests that have arrived and are not processed yet;
	// nats.go drops the excess. The number is high, because a host must drop no request (HOST-RESIL-008); the bytes
	// bound the memory.
	maxPendingRequests = 65_536
	maxPendingBytes    = 64 << 20

	// maxHeartbeatRequests is how many heartbeat requests may wait for a heartbeat; requests beyond it are refused with
	// 503. One heartbeat answers all requests that wait for it, so more wait only while [Host.Describe] is slow.
	maxHeartbeatRequests = 1024

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
	logLimit          *loglimit.Handler
	// heartbeatRequests has the reply subjects of the heartbeat requests that wait.
	heartbeatRequests chan string
}

func newServer(conn *nats.Conn, host Host, options serveOptions) (*server, error) {
	log, logLimit := loglimit.New(options.logger.With("host_id", options.hostID))
	executor := newExecutor(host, log)
	heartbeats, err := newHeartbeatPublisher(host, executor, options.hostID, log, logLimit)
	if err != nil {
		return nil, err
	}
	return &server{
		conn: conn, hostID: options.hostID, grace: options.shutdownGrace,
		heartbeatInterval: options.heartbeatInterval, log: log, executor: executor, heartbeats: heartbeats,
		logLimit: logLimit, heartbeatRequests: make(chan string, maxHeartbeatRequests),
	}, nil
}

// run serves until ctx ends or the connection is closed.
func (s *server) run(ctx context.Context) error {
	defer func() { s.logLimit.Close(time.Now()) }()
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
	stopReplying, replied := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(replied)
		s.replyHeartbeats(stopReplying)
	}()
	stopDiscovery := s.respondToDiscovery()
	// heartbeats.run returns when ctx ends or the connection is closed.
	s.heartbeats.run(ctx, s.conn, s.heartbeatInterval)
	closed := ctx.Err() == nil
	// HOST-DOWN-004: no heartbeat is sent from here on.
	stopDiscovery()
	s.shutDown(subscription, drained)
	close(stopReplying)
	waitAtMost(drainTimeout, replied) // longer only if Describe hangs
	s.flush()
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
		s.requestHeartbeat(msg.Reply)
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

// requestHeartbeat passes a heartbeat request on to replyHeartbeats.
func (s *server) requestHeartbeat(to string) {
	if to == "" {
		return
	}
	select {
	case s.heartbeatRequests <- to:
	default:
		message := fmt.Sprintf("the host has %d heartbeat requests in flight", maxHeartbeatRequests)
		s.reply(to, reply.Refused("", reply.Unavailable, message))
	}
}

// replyHeartbeats answers heartbeat requests until stop is closed and no request is left. Each heartbeat is taken after
// the requests that it answers have arrived.
func (s *server) replyHeartbeats(stop <-chan struct{}) {
	for {
		select {
		case first := <-s.heartbeatRequests:
			s.replyHeartbeat(first)
		case <-stop:
			select {
			case first := <-s.heartbeatRequests:
				s.replyHeartbeat(first)
			default:
				return
			}
		}
	}
}

// replyHeartbeat answers a heartbeat request and all that wait with it.
func (s *server) replyHeartbeat(first string) {
	waiting := []string{first}
	for range len(s.heartbeatRequests) {
		waiting = append(waiting, <-s.heartbeatRequests) // there is no other reader
	}
	payload, ok := s.heartbeats.payload()
	if !ok {
		return
	}
	for _, to := range waiting {
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
