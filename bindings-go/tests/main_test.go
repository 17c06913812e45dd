// Package tests holds the tests that need a broker, in a module of its own, so that users of berth.dev/go do not
// depend on nats-server.
package tests

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	berth "berth.dev/go"
)

// testTimeout is far longer than any expected wait.
const testTimeout = 30 * time.Second

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	goleak.VerifyTestMain(m)
}

// broker is a nats-server in this process that can be stopped and restarted.
type broker struct {
	t       *testing.T
	options *server.Options
	server  *server.Server
}

func newBroker(t *testing.T, change ...func(*server.Options)) *broker {
	b := &broker{t: t, options: &server.Options{Host: "127.0.0.1", Port: freePort(t), NoSigs: true, NoLog: true}}
	for _, each := range change {
		each(b.options)
	}
	b.start()
	t.Cleanup(b.stop)
	return b
}

func (b *broker) start() {
	b.t.Helper()
	s, err := server.NewServer(b.options.Clone())
	if err != nil {
		b.t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(testTimeout) {
		b.t.Fatal("the broker does not start")
	}
	b.server = s
}

func (b *broker) stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

func (b *broker) url() string { return b.server.ClientURL() }

// connect returns a connection as a user of the package creates it.
func (b *broker) connect() *nats.Conn {
	b.t.Helper()
	conn, err := berth.Connect(b.t.Context(), berth.ConnectOptions{Servers: []string{b.url()}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { closeAndWait(conn) })
	return conn
}

// closeAndWait closes a connection and waits until its goroutines have ended.
func closeAndWait(conn *nats.Conn) {
	done := make(chan struct{})
	conn.SetClosedHandler(func(*nats.Conn) { close(done) })
	if conn.IsClosed() {
		return
	}
	conn.Close()
	<-done
}

func freePort(t *testing.T) int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// eventually waits until a condition holds.
func eventually(t *testing.T, condition string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(testTimeout)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for %s", condition)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// receive returns the next value from a channel.
func receive[T any](t *testing.T, awaited string, from <-chan T) T {
	t.Helper()
	select {
	case value, open := <-from:
		if !open {
			t.Fatalf("channel closed while waiting for %s", awaited)
		}
		return value
	case <-time.After(testTimeout):
		t.Fatalf("timed out waiting for %s", awaited)
	}
	panic("unreachable")
}

// serve serves a host until the test ends or stop is called. stop returns the result of Serve.
func serve(t *testing.T, conn *nats.Conn, host berth.Host, options ...berth.ServeOption) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- berth.Serve(ctx, conn, host, options...) }()
	stopped := false
	stop = func() error {
		cancel()
		stopped = true
		return receive(t, "return of Serve", served)
	}
	t.Cleanup(func() {
		if !stopped {
			if err := stop(); err != nil {
				t.Errorf("Serve returned %v", err)
			}
		}
	})
	return stop
}
