package berth

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/nats-io/nats.go"
)

// dialer opens the network connections of one [nats.Conn]. nats.go calls it with the lock of the connection held, right
// before it reads the credentials.
type dialer struct {
	net nats.CustomDialer
	// nkeySeedFile is read again before each connection, because nats.go reads only the seed again and keeps the
	// public key.
	nkeySeedFile string

	mu sync.Mutex
	// conn is nil until the first connect has ended.
	conn *nats.Conn
	// ctx is the context of the first connect.
	ctx context.Context
	// stops end the closing of network connections by ctx. Each reports whether ctx has not closed its one.
	stops []func() bool
	// failures are the errors of the dials of the first connect; nats.go hides some of them.
	failures []error
}

func newDialer(ctx context.Context, options *nats.Options, nkeySeedFile string) *dialer {
	d := &dialer{net: options.CustomDialer, nkeySeedFile: nkeySeedFile, ctx: ctx}
	switch {
	case d.net != nil:
	case options.Dialer != nil:
		d.net = contextDialer{*options.Dialer, d}
	default:
		d.net = contextDialer{net.Dialer{Timeout: options.Timeout}, d}
	}
	return d
}

// Dial opens a network connection. During the first connect, it is closed when the context of the connect ends, so
// that nothing waits for a broker that accepts connections and sends nothing.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	if err := d.refreshNkey(); err != nil {
		return nil, err
	}
	conn, err := d.net.Dial(network, address)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.conn != nil:
	case err != nil:
		d.failures = append(d.failures, err)
	case d.ctx != nil:
		d.stops = append(d.stops, context.AfterFunc(d.ctx, func() { _ = conn.Close() }))
	}
	return conn, err
}

// SkipTLSHandshake reports whether a dialer of the user makes the TLS connection itself.
func (d *dialer) SkipTLSHandshake() bool {
	skipper, ok := d.net.(interface{ SkipTLSHandshake() bool })
	return ok && skipper.SkipTLSHandshake()
}

// refreshNkey sets the public key and the signature for the connection that is about to be opened.
func (d *dialer) refreshNkey() error {
	conn := d.connection()
	if conn == nil || d.nkeySeedFile == "" {
		return nil
	}
	nkey, err := readNkey(d.nkeySeedFile)
	if err != nil {
		return err
	}
	// The caller holds the lock of the connection, under which nats.go reads both fields next.
	conn.Opts.Nkey, conn.Opts.SignatureCB = nkey.Nkey, nkey.SignatureCB
	return nil
}

func (d *dialer) connection() *nats.Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conn
}

func (d *dialer) firstContext() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil || d.ctx == nil {
		return context.Background()
	}
	return d.ctx
}

// connected ends the first connect. It reports whether ctx has not closed the connection.
func (d *dialer) connected(conn *nats.Conn) (isOpen bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conn, isOpen = conn, true
	for i, stop := range d.stops {
		// Only the last network connection is in use.
		isOpen = stop() || i < len(d.stops)-1
	}
	return isOpen
}

// failed ends a failed first connect and returns the errors of its dials.
func (d *dialer) failed() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, stop := range d.stops {
		stop()
	}
	return errors.Join(d.failures...)
}

// contextDialer dials with the context of the first connect. It resolves names itself, so that it tries the addresses
// of both families within one timeout.
type contextDialer struct {
	dialer net.Dialer
	owner  *dialer
}

func (d contextDialer) Dial(network, address string) (net.Conn, error) {
	return d.dialer.DialContext(d.owner.firstContext(), network, address)
}
