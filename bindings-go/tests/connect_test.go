package tests

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	berth "berth.dev/go"
)

// wantConnected checks that the broker accepts a connection with these options.
func wantConnected(t *testing.T, b *broker, options berth.ConnectOptions) {
	t.Helper()
	options.Servers = []string{b.url()}
	conn, err := berth.Connect(t.Context(), options)
	if err != nil {
		t.Errorf("%v: %v", options, err)
		return
	}
	if err := conn.Flush(); err != nil {
		t.Errorf("%v: %v", options, err)
	}
	closeAndWait(conn)
}

// wantRejected checks that a connection with these options fails, with an error that shows no secret.
func wantRejected(t *testing.T, b *broker, options berth.ConnectOptions) {
	t.Helper()
	options.Servers, options.ConnectTimeout = []string{b.url()}, time.Second
	conn, err := berth.Connect(t.Context(), options)
	if err == nil {
		closeAndWait(conn)
		t.Errorf("%v: connected, want an error", options)
	} else if strings.Contains(err.Error(), "hunter") {
		t.Errorf("the error shows a secret: %v", err)
	}
}

func TestTokenAndUser(t *testing.T) {
	b := newBroker(t, func(o *server.Options) { o.Authorization = "hunter2" })
	wantConnected(t, b, berth.ConnectOptions{Token: "hunter2"})
	wantRejected(t, b, berth.ConnectOptions{Token: "hunter3"})
	wantRejected(t, b, berth.ConnectOptions{})
	b = newBroker(t, func(o *server.Options) { o.Username, o.Password = "ann", "hunter2" })
	wantConnected(t, b, berth.ConnectOptions{User: "ann", Password: "hunter2"})
	wantRejected(t, b, berth.ConnectOptions{User: "ann", Password: "hunter3"})
	// Blanks and empty items in a list of servers are ignored.
	conn, err := berth.Connect(t.Context(), berth.ConnectOptions{
		Servers: []string{" " + strings.Replace(b.url(), "://", "://ann:hunter2@", 1) + ", "},
	})
	if err != nil {
		t.Fatal(err)
	}
	closeAndWait(conn)
}

func TestNkeyAndCredentials(t *testing.T) {
	userKey, seed := newNkey(t)
	seedFile := write(t, "user.nk", seed)
	b := newBroker(t, func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: userKey}} })
	wantConnected(t, b, berth.ConnectOptions{NkeySeedFile: seedFile})
	wantRejected(t, b, berth.ConnectOptions{})
	wantRejected(t, b, berth.ConnectOptions{NkeySeedFile: seedFile + ".gone"})

	configure, issue := newAccount(t)
	_, creds := issue()
	b = newBroker(t, configure)
	wantConnected(t, b, berth.ConnectOptions{CredentialsFile: write(t, "user.creds", creds)})
	wantRejected(t, b, berth.ConnectOptions{NkeySeedFile: seedFile})
}

// newAccount returns a function that makes a broker trust an account, and one that issues credentials of a new user.
func newAccount(t *testing.T) (configure func(*server.Options), issue func() (userKey string, creds []byte)) {
	operator, _ := nkeys.CreateOperator()
	operatorKey, _ := operator.PublicKey()
	account, _ := nkeys.CreateAccount()
	accountKey, _ := account.PublicKey()
	accountJWT, err := jwt.NewAccountClaims(accountKey).Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	configure = func(o *server.Options) {
		resolver := &server.MemAccResolver{}
		if err := resolver.Store(accountKey, accountJWT); err != nil {
			t.Fatal(err)
		}
		o.AccountResolver, o.TrustedKeys = resolver, []string{operatorKey}
	}
	issue = func() (string, []byte) {
		userKey, seed := newNkey(t)
		userJWT, err := jwt.NewUserClaims(userKey).Encode(account)
		if err != nil {
			t.Fatal(err)
		}
		creds, err := jwt.FormatUserConfig(userJWT, seed)
		if err != nil {
			t.Fatal(err)
		}
		return userKey, creds
	}
	return configure, issue
}

func TestTLS(t *testing.T) {
	ca := newAuthority(t)
	certificate, key := ca.issue("127.0.0.1")
	otherCA := newAuthority(t)
	b := newBroker(t, ca.tls(certificate, key))
	wantConnected(t, b, berth.ConnectOptions{TLSCAFile: ca.file})
	wantRejected(t, b, berth.ConnectOptions{TLSCAFile: otherCA.file})
	wantRejected(t, b, berth.ConnectOptions{})
	b = newBroker(t, ca.tls(certificate, key), func(o *server.Options) { o.TLSHandshakeFirst = true })
	wantConnected(t, b, berth.ConnectOptions{TLSCAFile: ca.file, TLSFirst: true})
	b = newBroker(t, ca.mutualTLS(certificate, key))
	clientCertificate, clientKey := ca.issue("client")
	wantConnected(t, b, berth.ConnectOptions{TLSCAFile: ca.file, TLSCertFile: clientCertificate, TLSKeyFile: clientKey})
	wantRejected(t, b, berth.ConnectOptions{TLSCAFile: ca.file})
	// TLSRequired rejects a broker without TLS.
	b = newBroker(t)
	wantRejected(t, b, berth.ConnectOptions{TLSRequired: true})
}

func TestUserinfoInURLReplacesOtherCredentials(t *testing.T) {
	userKey, seed := newNkey(t)
	seedFile := write(t, "user.nk", seed)
	b := newBroker(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "ann", Password: "hunter2"}, {Username: "bob", Password: "hunter3"}}
		o.Nkeys = []*server.NkeyUser{{Nkey: userKey}}
	})
	withUserinfo := strings.Replace(b.url(), "://", "://ann:hunter2@", 1)
	for _, options := range []berth.ConnectOptions{
		{}, {Token: "hunter4"}, {User: "bob", Password: "hunter3"}, {User: "bob", Password: "wrong"}, {NkeySeedFile: seedFile},
	} {
		options.Servers = []string{withUserinfo}
		conn, err := berth.Connect(t.Context(), options)
		if err != nil {
			t.Errorf("%v: %v", options, err)
			continue
		}
		if users := b.server.NumClients(); users != 1 {
			t.Errorf("%d clients", users)
		}
		connections, err := b.server.Connz(&server.ConnzOptions{Username: true})
		if err != nil || len(connections.Conns) != 1 || connections.Conns[0].AuthorizedUser != "ann" {
			t.Errorf("%v: connected as %+v, want ann", options, connections.Conns)
		}
		closeAndWait(conn)
		eventually(t, "disconnect", func() bool { return b.server.NumClients() == 0 })
	}
	// Credentials in the URL that the broker rejects are not replaced by valid ones.
	wantRejectedURL(t, strings.Replace(b.url(), "://", "://ann:wrong@", 1), berth.ConnectOptions{User: "bob", Password: "hunter3"})
	b = newBroker(t, func(o *server.Options) { o.Authorization = "hunter5" })
	conn, err := berth.Connect(t.Context(), berth.ConnectOptions{
		Servers: []string{strings.Replace(b.url(), "://", "://hunter5@", 1)}, Token: "other",
	})
	if err != nil {
		t.Fatal(err)
	}
	closeAndWait(conn)
}

func wantRejectedURL(t *testing.T, url string, options berth.ConnectOptions) {
	t.Helper()
	options.Servers, options.ConnectTimeout = []string{url}, time.Second
	conn, err := berth.Connect(t.Context(), options)
	if err == nil {
		closeAndWait(conn)
		t.Errorf("%v: connected, want an error", options)
	}
}

func TestConnectErrorsHaveCauseAndFile(t *testing.T) {
	ca, otherCA := newAuthority(t), newAuthority(t)
	certificate, key := ca.issue("127.0.0.1")
	_, otherKey := ca.issue("other")
	b := newBroker(t, ca.tls(certificate, key))
	otherName, otherNameKey := ca.issue("other.example")
	misnamed := newBroker(t, ca.tls(otherName, otherNameKey))
	plain := newBroker(t, func(o *server.Options) { o.Authorization = "hunter2" })
	closed := newBroker(t)
	closedURL := closed.url()
	closed.stop()
	good := read(t, ca.file)
	write := func(name, content string) string { return write(t, name, []byte(content)) }
	empty, cut := write("empty.pem", ""), write("cut.pem", string(good)+string(good[:len(good)/2]))
	onlyKey, broken := write("key.pem", string(read(t, key))), write("broken.pem", string(pemOf("CERTIFICATE", []byte("x"))))
	emptyCreds, emptySeed := write("empty.creds", ""), write("empty.nk", "")
	noJWT := write("user.creds", "not.a.jwt")
	for _, c := range []struct {
		url     string
		options berth.ConnectOptions
		want    []string
	}{
		{b.url(), berth.ConnectOptions{TLSCAFile: otherCA.file}, []string{otherCA.file, "unknown authority", b.url()}},
		{b.url(), berth.ConnectOptions{}, []string{"unknown authority"}},
		{misnamed.url(), berth.ConnectOptions{TLSCAFile: ca.file}, []string{"127.0.0.1", ca.file}},
		{plain.url(), berth.ConnectOptions{TLSCAFile: ca.file}, []string{"secure connection"}},
		{plain.url(), berth.ConnectOptions{Token: "hunter3"}, []string{"uthorization", plain.url()}},
		{closedURL, berth.ConnectOptions{}, []string{closedURL, "connection refused"}},
		{"nats://no-such-host.invalid:4222", berth.ConnectOptions{}, []string{"no-such-host.invalid", "lookup"}},
		{b.url(), berth.ConnectOptions{TLSCAFile: empty}, []string{empty, "no PEM certificate"}},
		{b.url(), berth.ConnectOptions{TLSCAFile: cut}, []string{cut, "malformed PEM"}},
		{b.url(), berth.ConnectOptions{TLSCAFile: onlyKey}, []string{onlyKey, "no PEM certificate"}},
		{b.url(), berth.ConnectOptions{TLSCAFile: broken}, []string{broken, "certificate"}},
		{b.url(), berth.ConnectOptions{TLSCAFile: "/no/such/file"}, []string{"/no/such/file", "no such file"}},
		{b.url(), berth.ConnectOptions{TLSCAFile: t.TempDir()}, []string{"is a directory"}},
		{b.url(), berth.ConnectOptions{TLSCertFile: certificate, TLSKeyFile: otherKey}, []string{certificate, otherKey, "does not match"}},
		{b.url(), berth.ConnectOptions{TLSCertFile: empty, TLSKeyFile: key}, []string{empty, key}},
		{plain.url(), berth.ConnectOptions{CredentialsFile: emptyCreds}, []string{emptyCreds, "no user JWT"}},
		{plain.url(), berth.ConnectOptions{CredentialsFile: noJWT}, []string{noJWT}},
		{plain.url(), berth.ConnectOptions{NkeySeedFile: emptySeed}, []string{emptySeed}},
	} {
		c.options.Servers, c.options.ConnectTimeout = []string{c.url}, 2*time.Second
		conn, err := berth.Connect(t.Context(), c.options)
		if err == nil {
			closeAndWait(conn)
			t.Errorf("%v: connected, want an error", c.options)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v: error = %v, want %q in it", c.options, err, want)
			}
		}
		if strings.Contains(err.Error(), "hunter") {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
	// In the background, the same reasons are logged.
	for _, c := range []struct {
		url     string
		options berth.ConnectOptions
		want    []string
	}{
		{b.url(), berth.ConnectOptions{TLSCAFile: otherCA.file}, []string{otherCA.file, "unknown authority"}},
		{plain.url(), berth.ConnectOptions{Token: "hunter3"}, []string{"uthorization"}},
		{closedURL, berth.ConnectOptions{}, []string{"connection refused"}},
	} {
		var logged lockedBuffer
		c.options.Servers, c.options.Logger = []string{c.url}, slog.New(slog.NewTextHandler(&logged, nil))
		conn, err := berth.ConnectWithRetry(c.options)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range c.want {
			eventually(t, want+" in the log", func() bool { return strings.Contains(logged.String(), want) })
		}
		if strings.Contains(logged.String(), "hunter") {
			t.Errorf("the log shows a secret: %s", logged.String())
		}
		closeAndWait(conn)
	}
	for _, options := range []berth.ConnectOptions{
		{TLSCAFile: empty}, {TLSCertFile: certificate, TLSKeyFile: otherKey}, {CredentialsFile: emptyCreds}, {NkeySeedFile: emptySeed},
	} {
		if conn, err := berth.ConnectWithRetry(options); err == nil {
			closeAndWait(conn)
			t.Errorf("%v: no error, want one without a retry", options)
		}
	}
}

func TestBrokerOnEitherAddressFamilyIsReached(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		b := newBroker(t)
		b.stop()
		probe, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			continue // this machine lacks the family
		}
		_ = probe.Close()
		b.options.Host = host
		b.start()
		port := fmt.Sprint(b.options.Port)
		urls := []string{"nats://" + net.JoinHostPort(host, port), net.JoinHostPort(host, port)}
		if addresses, _ := net.LookupHost("localhost"); slices.Contains(addresses, host) {
			urls = append(urls, "nats://localhost:"+port, "localhost:"+port)
		}
		for _, url := range urls {
			conn, err := berth.Connect(t.Context(), berth.ConnectOptions{Servers: []string{url}})
			if err != nil {
				t.Errorf("%s on %s: %v", url, host, err)
				continue
			}
			closeAndWait(conn)
		}
	}
}

func TestInboxPrefix(t *testing.T) {
	b := newBroker(t)
	conn, err := berth.Connect(t.Context(), berth.ConnectOptions{Servers: []string{b.url()}, InboxPrefix: "_INBOX_ann"})
	if err != nil {
		t.Fatal(err)
	}
	if inbox := conn.NewInbox(); !strings.HasPrefix(inbox, "_INBOX_ann.") {
		t.Errorf("inbox = %s, want the prefix _INBOX_ann", inbox)
	}
	closeAndWait(conn)
}

func TestInvalidOptionsFailWithoutSecrets(t *testing.T) {
	for _, options := range []berth.ConnectOptions{
		{Servers: []string{"http://ann:hunter2@a"}},
		{Servers: []string{"nats://hunter2@"}},
		{Servers: []string{"nats://ann:hunter2@[::1"}},
		{Token: "hunter2", User: "ann"},
		{TLSCertFile: "no-key.pem"},
		{CredentialsFile: "/no/such/file"},
		{Servers: []string{"nats://ann:hunter2@127.0.0.1:1"}, ConnectTimeout: time.Second},
	} {
		conn, err := berth.Connect(t.Context(), options)
		if err == nil {
			closeAndWait(conn)
			t.Errorf("%v: connected, want an error", options)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
}

func TestOptionsPrintNoSecret(t *testing.T) {
	options := berth.ConnectOptions{
		Servers: []string{"nats://bob:hunter2@a:4222,hunter3@b"}, User: "ann", Password: "hunter4",
	}
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "options", options, "secret", berth.Secret("hunter5"))
	printed := fmt.Sprintf("%v %+v %#v %s %s %q", options, options, options, options, options.Password, options.Password) + logged.String()
	// The options print as the servers and the kinds of credentials.
	if strings.Contains(printed, "hunter") || !strings.Contains(printed, "nats://***@a:4222,***@b with user") {
		t.Errorf("the options print as %s", printed)
	}
}

// authority is a certificate authority.
type authority struct {
	t           *testing.T
	file        string
	pool        *x509.CertPool
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	return &authority{t, write(t, "ca.pem", pemOf("CERTIFICATE", der)), pool, key, certificate}
}

func (a *authority) issue(name string) (certificateFile, keyFile string) {
	key := newKey(a.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return write(a.t, name+".pem", pemOf("CERTIFICATE", der)), write(a.t, name+".key", pemOf("EC PRIVATE KEY", private))
}

// tls configures a broker for TLS.
func (a *authority) tls(certificate, key string) func(*server.Options) {
	return func(o *server.Options) {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			a.t.Fatal(err)
		}
		o.TLS = true
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
}

// mutualTLS configures a broker for TLS that requires a client certificate of this authority.
func (a *authority) mutualTLS(certificate, key string) func(*server.Options) {
	configureTLS := a.tls(certificate, key)
	return func(o *server.Options) {
		configureTLS(o)
		o.TLSVerify = true
		o.TLSConfig.ClientAuth, o.TLSConfig.ClientCAs = tls.RequireAndVerifyClientCert, a.pool
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func write(t *testing.T, name string, content []byte) string {
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
