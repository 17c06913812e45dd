package berth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// DefaultServer is where nats-server listens when nobody says otherwise.
const DefaultServer = nats.DefaultURL

const (
	// defaultConnectTimeout bounds one attempt to connect to one server.
	defaultConnectTimeout = 5 * time.Second

	// pingInterval is how often the connection is tested. A dead one is given up after three of them: well
	// inside the 3 minutes of HOST-RESIL-010, and before a second heartbeat is lost in it.
	pingInterval = 4 * time.Second

	// writeTimeout gives a connection up into which nothing can be written any more.
	writeTimeout = 10 * time.Second

	// minReconnectDelay is the first delay between two attempts to connect; it doubles up to
	// maxReconnectDelay, which is short enough to be back within 10 s of the broker's return
	// (HOST-RESIL-001).
	minReconnectDelay = 20 * time.Millisecond
	maxReconnectDelay = 2 * time.Second
)

// ConnectOptions say how to reach and convince the brokers of a real deployment. The zero value means
// [DefaultServer] without TLS and credentials. Nothing is read or opened before a connection is made.
//
// At most one of Token, User, NkeySeedFile and CredentialsFile may be set. No secret is printed by
// fmt or slog.
type ConnectOptions struct {
	// Servers of one cluster, nats://host:port or tls://host:port; each may itself be a list separated by
	// commas. user:password@ or token@ in them counts when no other credentials are set.
	Servers []string
	// Name under which the brokers list this connection.
	Name string

	// Token that all clients share.
	Token Secret
	// User and Password.
	User     string
	Password Secret
	// NkeySeedFile holds the seed of an nkey (SU…). It is read again for each connection.
	NkeySeedFile string
	// CredentialsFile holds a user JWT and the seed that signs for it, as nsc writes it. It is read again
	// for each connection, so that it can be rotated.
	CredentialsFile string

	// TLSCAFile is a PEM file of the authorities to trust instead of those of the system.
	TLSCAFile string
	// TLSCertFile and TLSKeyFile are PEM files with our certificate and its key, for mutual TLS.
	TLSCertFile string
	TLSKeyFile  string
	// TLSRequired refuses to talk to a broker without TLS. tls:// in a URL does the same.
	TLSRequired bool
	// TLSFirst begins with TLS before the broker's greeting, for brokers with handshake_first.
	TLSFirst bool

	// InboxPrefix is what replies are addressed to, where permissions ask for another than _INBOX.
	InboxPrefix string
	// ConnectTimeout bounds one attempt to connect to one server; 5 s when it is 0.
	ConnectTimeout time.Duration
	// Logger is told of lost and new connections; [slog.Default] when it is nil.
	Logger *slog.Logger
	// NATS are further options of the NATS client. They are applied last and win.
	NATS []nats.Option
}

// Connect connects now, or says why it cannot. The connection then reconnects for ever by itself.
//
// The caller closes it. Any other [nats.Conn] does for this package, too, as long as it does not give up
// reconnecting: nats.go does so after a few minutes unless told otherwise.
func Connect(ctx context.Context, options ConnectOptions) (*nats.Conn, error) {
	type outcome struct {
		conn *nats.Conn
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		conn, err := options.connect()
		done <- outcome{conn, err}
	}()
	select {
	case made := <-done:
		return made.conn, made.err
	case <-ctx.Done():
		go func() {
			if made := <-done; made.conn != nil {
				made.conn.Close()
			}
		}()
		return nil, fmt.Errorf("connect to NATS at %s: %w", options.servers(), ctx.Err())
	}
}

// ConnectEventually connects in the background and goes on trying for ever. It fails only for what no
// waiting can mend: a file that cannot be read, an address that is none.
//
// This is how a host connects: it may be started before its broker (HOST-RESIL-005).
func ConnectEventually(options ConnectOptions) (*nats.Conn, error) {
	return options.connect(nats.RetryOnFailedConnect(true))
}

func (o ConnectOptions) connect(more ...nats.Option) (*nats.Conn, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	logger := o.Logger
	if logger == nil {
		logger = slog.Default()
	}
	said := &once{}
	options := []nats.Option{
		nats.Name(o.Name),
		nats.Timeout(defaultConnectTimeout),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // credentials may be on their way
		nats.CustomReconnectDelay(reconnectDelay),
		nats.PingInterval(pingInterval),
		nats.FlusherTimeout(writeTimeout),
		nats.ConnectHandler(func(*nats.Conn) {
			said.forget()
			logger.Info("connected to the broker")
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			said.forget()
			logger.Info("connected to the broker again")
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			if said.isNew(err.Error()) {
				logger.Warn("cannot connect to the broker; trying on", "servers", o.servers(), "error", err)
			}
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				logger.Warn("the connection to the broker is gone", "error", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			logger.Warn("the connection to the broker has trouble", "error", err)
		}),
	}
	if o.ConnectTimeout > 0 {
		options = append(options, nats.Timeout(o.ConnectTimeout))
	}
	if o.InboxPrefix != "" {
		options = append(options, nats.CustomInboxPrefix(o.InboxPrefix))
	}
	options = append(append(append(options, o.credentials()...), o.tls()...), more...)
	conn, err := nats.Connect(strings.Join(o.list(), ","), append(options, o.NATS...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", o.servers(), err)
	}
	return conn, nil
}

func (o ConnectOptions) credentials() []nats.Option {
	switch {
	case o.CredentialsFile != "":
		return []nats.Option{nats.UserCredentials(o.CredentialsFile)}
	case o.NkeySeedFile != "":
		return []nats.Option{func(options *nats.Options) error {
			nkey, err := nats.NkeyOptionFromSeed(o.NkeySeedFile)
			if err != nil {
				return err
			}
			return nkey(options)
		}}
	case o.Token != "":
		return []nats.Option{nats.Token(string(o.Token))}
	case o.User != "":
		return []nats.Option{nats.UserInfo(o.User, string(o.Password))}
	}
	return nil
}

func (o ConnectOptions) tls() (options []nats.Option) {
	if o.TLSRequired {
		options = append(options, nats.Secure())
	}
	if o.TLSFirst {
		options = append(options, nats.TLSHandshakeFirst())
	}
	if o.TLSCAFile != "" {
		options = append(options, nats.RootCAs(o.TLSCAFile))
	}
	if o.TLSCertFile != "" {
		options = append(options, nats.ClientCert(o.TLSCertFile, o.TLSKeyFile))
	}
	return options
}

// check finds what no waiting can mend, in errors that show no secret.
func (o ConnectOptions) check() error {
	for _, server := range o.list() {
		if !isServer(server) {
			return fmt.Errorf("%q is not the address of a NATS server (nats://host:port)", withoutUserinfo(server))
		}
	}
	credentials := 0
	for _, set := range []bool{o.Token != "", o.User != "", o.NkeySeedFile != "", o.CredentialsFile != ""} {
		if set {
			credentials++
		}
	}
	if credentials > 1 {
		return errors.New("more than one of Token, User, NkeySeedFile and CredentialsFile is set")
	}
	if (o.TLSCertFile == "") != (o.TLSKeyFile == "") {
		return errors.New("a client certificate needs both its file and the file of its key")
	}
	for _, file := range []string{o.NkeySeedFile, o.CredentialsFile, o.TLSCAFile, o.TLSCertFile, o.TLSKeyFile} {
		if file == "" {
			continue
		}
		if _, err := os.ReadFile(file); err != nil {
			return err
		}
	}
	return nil
}

// list gives the servers one by one.
func (o ConnectOptions) list() (servers []string) {
	for _, list := range o.Servers {
		for server := range strings.SplitSeq(list, ",") {
			if server = strings.TrimSpace(server); server != "" {
				servers = append(servers, server)
			}
		}
	}
	if len(servers) == 0 {
		servers = []string{DefaultServer}
	}
	return servers
}

// servers gives the list as errors and logs may show it.
func (o ConnectOptions) servers() string { return withoutUserinfo(strings.Join(o.list(), ",")) }

// String shows where to connect and how, and no secret.
func (o ConnectOptions) String() string {
	var ways []string
	for _, way := range []struct {
		name string
		used bool
	}{
		{"token", o.Token != ""},
		{"user", o.User != ""},
		{"nkey", o.NkeySeedFile != ""},
		{"credentials", o.CredentialsFile != ""},
		{"TLS", o.TLSRequired || o.TLSFirst || o.TLSCAFile != ""},
		{"client certificate", o.TLSCertFile != ""},
	} {
		if way.used {
			ways = append(ways, way.name)
		}
	}
	if len(ways) == 0 {
		return o.servers()
	}
	return o.servers() + " with " + strings.Join(ways, ", ")
}

// GoString is String: %#v would show a password that stands in a URL.
func (o ConnectOptions) GoString() string { return o.String() }

// LogValue is String.
func (o ConnectOptions) LogValue() slog.Value { return slog.StringValue(o.String()) }

// Secret is text that is shown to nobody: it prints as ***.
type Secret string

func (Secret) String() string { return redacted }

// GoString hides the text from %#v.
func (Secret) GoString() string { return redacted }

// LogValue hides the text from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the text from encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// once keeps a log from saying the same at each attempt.
type once struct {
	mu   sync.Mutex
	last string
}

func (o *once) isNew(text string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	isNew := text != o.last
	o.last = text
	return isNew
}

func (o *once) forget() { o.isNew("") }

func isServer(server string) bool {
	if !strings.Contains(server, "://") {
		server = "nats://" + server
	}
	address, err := url.Parse(server)
	if err != nil {
		return false
	}
	switch address.Scheme {
	case "nats", "tls", "ws", "wss":
		return address.Hostname() != ""
	}
	return false
}

// withoutUserinfo hides everything between // and @ in a list of servers.
func withoutUserinfo(servers string) string {
	shown := strings.Split(servers, ",")
	for i, server := range shown {
		scheme, rest, found := strings.Cut(server, "://")
		if !found {
			scheme, rest = "", server
		}
		at := strings.LastIndex(rest, "@")
		if at < 0 {
			continue
		}
		if shown[i] = redacted + rest[at:]; found {
			shown[i] = scheme + "://" + shown[i]
		}
	}
	return strings.Join(shown, ",")
}

// reconnectDelay doubles with each attempt, with jitter so that a fleet does not come back in one moment.
func reconnectDelay(attempts int) time.Duration {
	delay := maxReconnectDelay
	if doublings := attempts - 1; doublings < 8 {
		delay = min(delay, minReconnectDelay<<max(0, doublings))
	}
	return delay/2 + rand.N(delay/2)
}
