package berth

import (
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"berth.dev/go/internal/loglimit"
)

// connectionLog logs the changes of one connection.
type connectionLog struct {
	log     *slog.Logger
	options ConnectOptions
	errors  repeatFilter
}

func newConnectionLog(o ConnectOptions) *connectionLog {
	log, _ := loglimit.New(o.Logger)
	return &connectionLog{log: log, options: o}
}

func (l *connectionLog) handlers() []nats.Option {
	return []nats.Option{
		nats.ConnectHandler(func(*nats.Conn) {
			l.errors.reset()
			l.log.Info("connected to the broker")
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			l.errors.reset()
			l.log.Info("reconnected to the broker")
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { l.failed(err) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				l.log.Warn("disconnected from the broker", "error", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			l.log.Warn("error on the connection to the broker", "error", err)
		}),
	}
}

// reportHandshake logs why the previous attempt to connect failed after its dial, for example the error of the TLS
// handshake. nats.go reports only the errors of dials.
func (l *connectionLog) reportHandshake(conn *nats.Conn) {
	if conn == nil {
		return
	}
	// The caller holds the lock of the connection, which LastError needs.
	time.AfterFunc(0, func() {
		if err := conn.LastError(); err != nil && !conn.IsConnected() && !conn.IsClosed() {
			l.failed(err)
		}
	})
}

func (l *connectionLog) failed(err error) {
	if err = l.options.explain(err, nil); l.errors.record(err.Error()) {
		l.log.Warn("cannot connect to the broker, retrying", "servers", l.options.redactedServers(), "error", err)
	}
}

// repeatFilter detects text that repeats the previous one, so that a log does not repeat itself.
type repeatFilter struct {
	mu       sync.Mutex
	previous string
}

// record stores a text and reports whether it differs from the previous one.
func (f *repeatFilter) record(text string) (isNew bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	isNew = text != f.previous
	f.previous = text
	return isNew
}

func (f *repeatFilter) reset() { f.record("") }
