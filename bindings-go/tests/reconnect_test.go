package tests

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"

	berth "berth.dev/go"
)

// listen accepts connections until the test ends and passes each to the function.
func listen(t *testing.T, address string, serve func(net.Conn)) (url string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("cannot listen on %s: %v", address, err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
	})
	return "nats://" + listener.Addr().String()
}

// handshake plays the part of a broker up to the first PONG.
func handshake(conn net.Conn) error {
	if _, err := conn.Write([]byte("INFO {\"server_id\":\"x\",\"version\":\"2.10.0\",\"proto\":1,\"headers\":true,\"max_payload\":1048576}\r\n")); err != nil {
		return err
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if lines.Text() == "PING" {
			_, err := conn.Write([]byte("PONG\r\n"))
			return err
		}
	}
	return lines.Err()
}

func TestServerThatHangsUpAfterHandshakeIsNotFlooded(t *testing.T) {
	for name, servers := range map[string]int{"one server": 1, "three servers": 3} {
		t.Run(name, func(t *testing.T) {
			var connects atomic.Int64
			var urls []string
			for range servers {
				urls = append(urls, listen(t, "127.0.0.1:0", func(conn net.Conn) {
					connects.Add(1)
					_ = handshake(conn)
				}))
			}
			var logged lockedBuffer
			conn, err := berth.Connect(t.Context(), berth.ConnectOptions{
				Servers: urls, Logger: slog.New(slog.NewTextHandler(&logged, nil)),
			})
			if err != nil {
				t.Fatal(err)
			}
			<-time.After(3 * time.Second)
			closeAndWait(conn)
			// The delay doubles from 20 ms, so there are about nine rounds in 3 s.
			if n := connects.Load(); n > int64(14*servers) || n < int64(3*servers) {
				t.Errorf("%d connects to %d servers in 3 s", n, servers)
			}
			if lines := strings.Count(logged.String(), "\n"); lines > 25 {
				t.Errorf("%d log lines:\n%s", lines, logged.String())
			}
		})
	}
}

// lockedBuffer is a buffer for concurrent writers.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(text)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func TestConnectLeavesNoGoroutineWhenContextEnds(t *testing.T) {
	silent := func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1)) } // accepts, and sends nothing
	silentURL := listen(t, "127.0.0.1:0", silent)
	infoOnly := listen(t, "127.0.0.1:0", func(conn net.Conn) {
		_, _ = conn.Write([]byte("INFO {\"server_id\":\"x\",\"version\":\"2.10.0\",\"tls_required\":true}\r\n"))
		for {
			if _, err := conn.Read(make([]byte, 512)); err != nil {
				return
			}
		}
	})
	earlier := goleak.IgnoreCurrent()
	for name, servers := range map[string][]string{
		"silent": {silentURL}, "two silent": {silentURL, infoOnly}, "TLS": {infoOnly},
		"unreachable": {"nats://192.0.2.1:4222"}, "unresolvable": {"nats://no-such-host.invalid:4222"},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("cause")
		time.AfterFunc(200*time.Millisecond, func() { cancel(cause) })
		began := time.Now()
		conn, err := berth.Connect(ctx, berth.ConnectOptions{Servers: servers, ConnectTimeout: testTimeout})
		if err == nil {
			closeAndWait(conn)
			t.Errorf("%s: connected", name)
		}
		if time.Since(began) > testTimeout/2 {
			t.Errorf("%s: Connect returned after %v", name, time.Since(began))
		}
		if name != "unresolvable" && name != "unreachable" && (!errors.Is(err, context.Canceled) || !errors.Is(err, cause)) {
			t.Errorf("%s: error = %v, want the error and the cause of the context", name, err)
		}
		cancel(nil)
	}
	// The servers of the test end their connections when the client has closed its side.
	if err := goleak.Find(earlier); err != nil {
		t.Error(err)
	}
}

func TestContextOfConnectDoesNotEndConnection(t *testing.T) {
	b := newBroker(t)
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := berth.Connect(ctx, berth.ConnectOptions{Servers: []string{b.url()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAndWait(conn) })
	cancel()
	if err := conn.FlushTimeout(testTimeout); err != nil || conn.Stats().Reconnects > 0 {
		t.Errorf("the context of Connect ends the connection: %v", err)
	}
	b.stop()
	b.start()
	eventually(t, "reconnect", conn.IsConnected)
}

func TestNoGoroutineOutlivesServeAndFleet(t *testing.T) {
	b := newBroker(t)
	conn, caller := b.connect(), b.connect()
	// The first request of a connection subscribes to replies, until the connection is closed.
	if _, err := caller.Request("nobody", nil, testTimeout); !errors.Is(err, nats.ErrNoResponders) {
		t.Fatal(err)
	}
	earlier := goleak.IgnoreCurrent()
	for range 3 {
		host := newFakeHost("fake")
		stop := serve(t, conn, host, berth.WithHostID("h1"), berth.WithHeartbeatInterval(time.Second))
		fleet, err := berth.WatchFleet(t.Context(), caller, berth.WithLiveness(fastLiveness))
		if err != nil {
			t.Fatal(err)
		}
		fleet.Events(t.Context())
		eventually(t, "the host", func() bool { _, known := fleet.Host("h1"); return known })
		client, err := fleet.Client("h1")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			if _, err := client.Start(t.Context(), fmt.Sprint(i), workloadNamed("one")); err != nil {
				t.Error(err)
			}
			if _, err := client.Heartbeat(t.Context()); err != nil {
				t.Error(err)
			}
		}
		go func() { _, _ = client.Start(context.Background(), "slow", workloadNamed("slow")) }()
		eventually(t, "the slow start", func() bool { return host.count(&host.started) == 11 })
		if err := stop(); err != nil {
			t.Error(err)
		}
		fleet.Close()
	}
	if err := goleak.Find(earlier); err != nil {
		t.Error(err)
	}
}

// rotate replaces the content of a file, as a rotation does.
func rotate(t *testing.T, path string, content []byte) {
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func newNkey(t *testing.T) (publicKey string, seed []byte) {
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	publicKey, _ = user.PublicKey()
	seed, _ = user.Seed()
	return publicKey, seed
}

func TestRotatedNkeyIsUsedAtReconnect(t *testing.T) {
	oldKey, oldSeed := newNkey(t)
	newKey, newSeed := newNkey(t)
	b := newBroker(t, func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: oldKey}} })
	seedFile := write(t, "user.nk", oldSeed)
	var logged lockedBuffer
	options := berth.ConnectOptions{
		Servers: []string{b.url()}, NkeySeedFile: seedFile, Logger: slog.New(slog.NewTextHandler(&logged, nil)),
	}
	connect := map[string]func() (*nats.Conn, error){
		"Connect":          func() (*nats.Conn, error) { return berth.Connect(t.Context(), options) },
		"ConnectWithRetry": func() (*nats.Conn, error) { return berth.ConnectWithRetry(options) },
	}
	var conns []*nats.Conn
	for name, connect := range connect {
		conn, err := connect()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Cleanup(func() { closeAndWait(conn) })
		conns = append(conns, conn)
	}
	b.stop()
	b.options.Nkeys = []*server.NkeyUser{{Nkey: newKey}}
	b.start()
	rotate(t, seedFile, []byte("")) // an attempt in the middle of a rotation fails, and is repeated
	eventually(t, "an attempt with the empty file", func() bool { return strings.Contains(logged.String(), seedFile) })
	rotate(t, seedFile, newSeed)
	for _, conn := range conns {
		eventually(t, "reconnect with the new nkey", conn.IsConnected)
	}
}

func TestRotatedCredentialsAreUsedAtReconnect(t *testing.T) {
	configure, issue := newAccount(t)
	_, oldCreds := issue()
	newKey, newCreds := issue()
	b := newBroker(t, configure)
	file := write(t, "user.creds", oldCreds)
	conn, err := berth.Connect(t.Context(), berth.ConnectOptions{Servers: []string{b.url()}, CredentialsFile: file})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAndWait(conn) })
	b.stop()
	eventually(t, "disconnect", func() bool { return !conn.IsConnected() })
	rotate(t, file, newCreds)
	b.start()
	eventually(t, "reconnect", conn.IsConnected)
	connections, err := b.server.Connz(&server.ConnzOptions{Username: true})
	if err != nil || len(connections.Conns) != 1 || connections.Conns[0].AuthorizedUser != newKey {
		t.Errorf("connected as %+v, want %s", connections.Conns, newKey)
	}
}

func TestRotatedTLSFilesAreUsedAtReconnect(t *testing.T) {
	oldCA, newCA := newAuthority(t), newAuthority(t)
	certificate, key := oldCA.issue("127.0.0.1")
	b := newBroker(t, oldCA.mutualTLS(certificate, key))
	clientCertificate, clientKey := oldCA.issue("client")
	var logged lockedBuffer
	conn, err := berth.Connect(t.Context(), berth.ConnectOptions{
		Servers: []string{b.url()}, TLSCAFile: oldCA.file, TLSCertFile: clientCertificate, TLSKeyFile: clientKey,
		Logger: slog.New(slog.NewTextHandler(&logged, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAndWait(conn) })
	b.stop()
	certificate, key = newCA.issue("127.0.0.1")
	newCA.mutualTLS(certificate, key)(b.options)
	b.start()
	eventually(t, "the reason in the log", func() bool { return strings.Contains(logged.String(), "unknown authority") })
	for target, source := range map[string]string{oldCA.file: newCA.file} {
		rotate(t, target, read(t, source))
	}
	newCertificate, newKey := newCA.issue("client")
	rotate(t, clientKey, read(t, newKey))
	rotate(t, clientCertificate, read(t, newCertificate))
	eventually(t, "reconnect with the new files", conn.IsConnected)
}

func read(t *testing.T, path string) []byte {
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
