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
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	userKey, _ := user.PublicKey()
	seed, _ := user.Seed()
	seedFile := write(t, "user.nk", seed)
	b := newBroker(t, func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: userKey}} })
	wantConnected(t, b, berth.ConnectOptions{NkeySeedFile: seedFile})
	wantRejected(t, b, berth.ConnectOptions{})
	wantRejected(t, b, berth.ConnectOptions{NkeySeedFile: seedFile + ".gone"})

	operator, _ := nkeys.CreateOperator()
	operatorKey, _ := operator.PublicKey()
	account, _ := nkeys.CreateAccount()
	accountKey, _ := account.PublicKey()
	accountJWT, err := jwt.NewAccountClaims(accountKey).Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	userJWT, err := jwt.NewUserClaims(userKey).Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(userJWT, seed)
	if err != nil {
		t.Fatal(err)
	}
	b = newBroker(t, func(o *server.Options) {
		resolver := &server.MemAccResolver{}
		if err := resolver.Store(accountKey, accountJWT); err != nil {
			t.Fatal(err)
		}
		o.AccountResolver, o.TrustedKeys = resolver, []string{operatorKey}
	})
	wantConnected(t, b, berth.ConnectOptions{CredentialsFile: write(t, "user.creds", creds)})
	wantRejected(t, b, berth.ConnectOptions{NkeySeedFile: seedFile})
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
