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

// DefaultServer is the default address of nats-server.
const DefaultServer = nats.DefaultURL

const (
	// defaultConnectTimeout bounds one attempt to connect to one server.
	defaultConnectTimeout = 5 * time.Second

	// pingInterval is the time between two keep-alive pings. After three unanswered pings, the connection is
	// considered broken: well within the 3 minutes of HOST-RESIL-010, and before a second heartbeat is lost on it.
	pingInterval = 4 * time.Second

	// writeTimeout is how long a write may block before the connection is considered broken.
	writeTimeout = 10 * time.Second

	// minReconnectDelay is the delay before the first reconnect attempt. It doubles up to
	// maxReconnectDelay, which is short enough to reconnect within 10 s of the broker's return
	// (HOST-RESIL-001).
	minReconnectDelay = 20 * time.Millisecond
	maxReconnectDelay = 2 * time.Second
)

// ConnectOptions configure a connection to the broker. The zero value connects to [DefaultServer] without
// TLS or credentials. Files are first read when a connection is opened.
//
// At most one of Token, User, NkeySeedFile and CredentialsFile may be set. fmt and slog print the options
// without secrets.
type ConnectOptions struct {
	// Servers are the URLs of one cluster's servers, nats://host:port or tls://host:port. Each element may
	// be a comma-separated list. user:password@ or token@ in a URL applies when no other credentials are
	// set.
	Servers []string
	// Name is the name of this connection in the broker's list of connections.
	Name string

	// Token is the token that all clients share.
	Token Secret
	// User and Password are the credentials of a user.
	User     string
	Password Secret
	// NkeySeedFile holds the seed of an nkey (SU…). It is read again at each reconnect.
	NkeySeedFile string
	// CredentialsFile holds a user JWT and its nkey seed, as nsc writes them. It is read again at each
	// reconnect, so that it can be rotated.
	CredentialsFile string

	// TLSCAFile is a PEM file of CA certificates, which replace the system roots.
	TLSCAFile string
	// TLSCertFile and TLSKeyFile are PEM files with the client certificate and its key, for mutual TLS.
	TLSCertFile string
	TLSKeyFile  string
	// TLSRequired rejects brokers without TLS, as does tls:// in a URL.
	TLSRequired bool
	// TLSFirst starts the TLS handshake before the broker's INFO, for brokers with handshake_first.
	TLSFirst bool

	// InboxPrefix replaces _INBOX in reply subjects, if the permissions require a different prefix.
	InboxPrefix string
	// ConnectTimeout bounds one attempt to connect to one server; 0 means 5 s.
	ConnectTimeout time.Duration
	// Logger receives the changes of the connection; nil means [slog.Default].
	Logger *slog.Logger
	// NATS are additional options of the NATS client. They are applied last and override the other fields.
	NATS []nats.Option
}

// Connect connects to the broker, or returns an error if it cannot. After the first connect, the
// connection reconnects forever.
//
// The caller closes the connection. The other functions of this package accept any [nats.Conn] that never
// stops reconnecting; by default, nats.go gives up after a few minutes.
func Connect(ctx context.Context, options ConnectOptions) (*nats.Conn, error) {
	type result struct {
		conn *nats.Conn
		err  error
	}
	results := make(chan result, 1)
	go func() {
		conn, err := options.connect()
		results <- result{conn, err}
	}()
	select {
	case connected := <-results:
		return connected.conn, connected.err
	case <-ctx.Done():
		go func() {
			if late := <-results; late.conn != nil {
				late.conn.Close()
			}
		}()
		return nil, fmt.Errorf("berth: cannot connect to NATS at %s: %w", options.redactedServers(), ctx.Err())
	}
}

// ConnectWithRetry connects in the background and retries forever, as [nats.RetryOnFailedConnect] does. It
// fails only where a retry cannot help: on an unreadable file or an invalid address.
//
// Hosts connect this way, because a host may start before its broker (HOST-RESIL-005).
func ConnectWithRetry(options ConnectOptions) (*nats.Conn, error) {
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
	errorFilter := &repeatFilter{}
	options := []nats.Option{
		nats.Name(o.Name),
		nats.Timeout(defaultConnectTimeout),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // the credentials may become valid later
		nats.CustomReconnectDelay(reconnectDelay),
		nats.PingInterval(pingInterval),
		nats.FlusherTimeout(writeTimeout),
		nats.ConnectHandler(func(*nats.Conn) {
			errorFilter.reset()
			logger.Info("connected to the broker")
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			errorFilter.reset()
			logger.Info("reconnected to the broker")
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			if errorFilter.record(err.Error()) {
				logger.Warn("cannot connect to the broker, retrying", "servers", o.redactedServers(), "error", err)
			}
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				logger.Warn("disconnected from the broker", "error", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			logger.Warn("error on the connection to the broker", "error", err)
		}),
	}
	if o.ConnectTimeout > 0 {
		options = append(options, nats.Timeout(o.ConnectTimeout))
	}
	if o.InboxPrefix != "" {
		options = append(options, nats.CustomInboxPrefix(o.InboxPrefix))
	}
	options = append(append(append(options, o.credentials()...), o.tls()...), more...)
	conn, err := nats.Connect(strings.Join(o.serverList(), ","), append(options, o.NATS...)...)
	if err != nil {
		return nil, fmt.Errorf("berth: cannot connect to NATS at %s: %w", o.redactedServers(), err)
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

// check returns an error for a mistake that a retry cannot fix. The error shows no secrets.
func (o ConnectOptions) check() error {
	for _, server := range o.serverList() {
		if !isServerURL(server) {
			return fmt.Errorf("berth: invalid NATS server address %q, want nats://host:port", withoutUserinfo(server))
		}
	}
	credentials := 0
	for _, set := range []bool{o.Token != "", o.User != "", o.NkeySeedFile != "", o.CredentialsFile != ""} {
		if set {
			credentials++
		}
	}
	if credentials > 1 {
		return errors.New("berth: more than one of Token, User, NkeySeedFile and CredentialsFile is set")
	}
	if (o.TLSCertFile == "") != (o.TLSKeyFile == "") {
		return errors.New("berth: only one of TLSCertFile and TLSKeyFile is set")
	}
	for _, file := range []string{o.NkeySeedFile, o.CredentialsFile, o.TLSCAFile, o.TLSCertFile, o.TLSKeyFile} {
		if file == "" {
			continue
		}
		if _, err := os.ReadFile(file); err != nil {
			return fmt.Errorf("berth: cannot read credentials or certificates: %w", err)
		}
	}
	return nil
}

// serverList returns the servers, one URL each.
func (o ConnectOptions) serverList() (servers []string) {
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

// redactedServers returns the servers for errors and logs.
func (o ConnectOptions) redactedServers() string {
	return withoutUserinfo(strings.Join(o.serverList(), ","))
}

// String returns the servers and the kinds of credentials, without secrets.
func (o ConnectOptions) String() string {
	var features []string
	for _, feature := range []struct {
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
		if feature.used {
			features = append(features, feature.name)
		}
	}
	if len(features) == 0 {
		return o.redactedServers()
	}
	return o.redactedServers() + " with " + strings.Join(features, ", ")
}

// GoString returns [ConnectOptions.String], because %#v would otherwise print a password in a URL.
func (o ConnectOptions) GoString() string { return o.String() }

// LogValue returns [ConnectOptions.String].
func (o ConnectOptions) LogValue() slog.Value { return slog.StringValue(o.String()) }

// Secret is text that prints as ***.
type Secret string

func (Secret) String() string { return redacted }

// GoString hides the text from %#v.
func (Secret) GoString() string { return redacted }

// LogValue hides the text from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the text from encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

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

func isServerURL(server string) bool {
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

// withoutUserinfo replaces the text between // and @ in a comma-separated list of servers.
func withoutUserinfo(servers string) string {
	redactedList := strings.Split(servers, ",")
	for i, server := range redactedList {
		scheme, rest, found := strings.Cut(server, "://")
		if !found {
			scheme, rest = "", server
		}
		at := strings.LastIndex(rest, "@")
		if at < 0 {
			continue
		}
		if redactedList[i] = redacted + rest[at:]; found {
			redactedList[i] = scheme + "://" + redactedList[i]
		}
	}
	return strings.Join(redactedList, ",")
}

// reconnectDelay doubles with each attempt, with jitter so that a fleet does not reconnect all at once.
func reconnectDelay(attempts int) time.Duration {
	delay := maxReconnectDelay
	if doublings := attempts - 1; doublings < 8 {
		delay = min(delay, minReconnectDelay<<max(0, doublings))
	}
	return delay/2 + rand.N(delay/2)
}
