package berth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
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
)

// ConnectOptions configure a connection to the broker. The zero value connects to [DefaultServer] without
// TLS or credentials. Files are read when a connection is opened, and again at each reconnect, so that they can be
// rotated.
//
// At most one of Token, User, NkeySeedFile and CredentialsFile may be set. fmt and slog print the options
// without secrets.
type ConnectOptions struct {
	// Servers are the URLs of one cluster's servers, nats://host:port or tls://host:port. Each element may
	// be a comma-separated list. As in nats.go, user:password@ or token@ in a URL replaces Token, User and
	// NkeySeedFile for that server; with CredentialsFile, both are sent, and the broker chooses.
	Servers []string
	// Name is the name of this connection in the broker's list of connections.
	Name string

	// Token is the token that all clients share.
	Token Secret
	// User and Password are the credentials of a user.
	User     string
	Password Secret
	// NkeySeedFile holds the seed of an nkey (SU…).
	NkeySeedFile string
	// CredentialsFile holds a user JWT and its nkey seed, as nsc writes them.
	CredentialsFile string

	// TLSCAFile is a PEM file of CA certificates, which replace the system roots. Like TLSCertFile, it rejects
	// brokers without TLS.
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
	// Logger receives the changes of the connection; nil means [slog.Default]. At most five lines with the same text
	// are logged in each minute, and the number of the others.
	Logger *slog.Logger
	// NATS are additional options of the NATS client. They are applied last and override the other fields.
	NATS []nats.Option
}

// Connect connects to the broker, or returns an error if it cannot or if ctx ends first. After the first connect, the
// connection reconnects forever, at most once in 1 s for each server, even if the broker ends each connection at once.
//
// The caller closes the connection. The other functions of this package accept any [nats.Conn] that never
// stops reconnecting; by default, nats.go gives up after a few minutes.
func Connect(ctx context.Context, options ConnectOptions) (*nats.Conn, error) {
	conn, err := options.connect(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("berth: cannot connect to NATS at %s: %w", options.redactedServers(), withContext(err, ctx))
	}
	if err != nil {
		return nil, fmt.Errorf("berth: cannot connect to NATS at %s: %w", options.redactedServers(), err)
	}
	return conn, nil
}

// ConnectWithRetry connects in the background and retries forever, as [nats.RetryOnFailedConnect] does. It
// fails only where a retry cannot help: on an unreadable or malformed file or an invalid address.
//
// Hosts connect this way, because a host may start before its broker (HOST-RESIL-005).
func ConnectWithRetry(options ConnectOptions) (*nats.Conn, error) {
	conn, err := options.connect(context.Background(), nats.RetryOnFailedConnect(true))
	if err != nil {
		return nil, fmt.Errorf("berth: cannot connect to NATS at %s: %w", options.redactedServers(), err)
	}
	return conn, nil
}

func (o ConnectOptions) connect(ctx context.Context, more ...nats.Option) (*nats.Conn, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	credentials, err := o.credentials()
	if err != nil {
		return nil, err
	}
	tlsOptions, err := o.tls()
	if err != nil {
		return nil, err
	}
	events, schedule, dialer := newConnectionLog(o), &reconnectSchedule{}, (*dialer)(nil)
	options := append(events.handlers(),
		nats.Name(o.Name),
		nats.Timeout(cmp.Or(max(0, o.ConnectTimeout), defaultConnectTimeout)),
		nats.SkipHostLookup(), // the dialer resolves names, and tries the addresses of both families
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // the credentials may become valid later
		nats.PingInterval(pingInterval),
		nats.FlusherTimeout(writeTimeout),
	)
	if o.InboxPrefix != "" {
		options = append(options, nats.CustomInboxPrefix(o.InboxPrefix))
	}
	options = slices.Concat(options, credentials, tlsOptions, more, o.NATS, []nats.Option{func(all *nats.Options) error {
		if all.ReconnectToServerCB == nil && all.CustomReconnectDelayCB == nil {
			all.ReconnectToServerCB = func(servers []nats.Server, info nats.ServerInfo) (*nats.Server, time.Duration) {
				events.reportHandshake(dialer.connection())
				return schedule.handle(servers, info)
			}
		}
		dialer = newDialer(ctx, all, o.nkeySeedFile(all))
		all.CustomDialer = dialer
		return nil
	}})
	conn, err := nats.Connect(strings.Join(o.serverList(), ","), options...)
	if err != nil {
		if dialer != nil {
			err = o.explain(err, dialer.failed())
		}
		return nil, err
	}
	if !dialer.connected(conn) {
		conn.Close()
		return nil, nats.ErrConnectionClosed
	}
	return conn, nil
}

// nkeySeedFile returns the seed file, unless an option of the user replaces the nkey.
func (o ConnectOptions) nkeySeedFile(all *nats.Options) string {
	if o.NkeySeedFile == "" {
		return ""
	}
	if nkey, err := readNkey(o.NkeySeedFile); err != nil || nkey.Nkey != all.Nkey {
		return ""
	}
	return o.NkeySeedFile
}

// explain adds what nats.go leaves out: the errors of the dials, and the file of CA certificates.
func (o ConnectOptions) explain(err, dials error) error {
	if dials != nil && errors.Is(err, nats.ErrNoServers) {
		err = fmt.Errorf("%w: %w", err, dials)
	}
	if o.TLSCAFile != "" && errors.Is(err, nats.ErrTLS) {
		err = fmt.Errorf("%w (CA certificates from %s)", err, o.TLSCAFile)
	}
	return err
}

// check returns an error for a mistake that a retry cannot fix. The error shows no secrets.
func (o ConnectOptions) check() error {
	for _, server := range o.serverList() {
		if !isServerURL(server) {
			return fmt.Errorf("invalid NATS server address %q, want nats://host:port", withoutUserinfo(server))
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
		return errors.New("only one of TLSCertFile and TLSKeyFile is set")
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
