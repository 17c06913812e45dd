package berth

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
)

// credentials returns the options with the client's credentials. Files are read again for each connection.
func (o ConnectOptions) credentials() ([]nats.Option, error) {
	switch {
	case o.CredentialsFile != "":
		return credentialsFile(o.CredentialsFile)
	case o.NkeySeedFile != "":
		nkey, err := readNkey(o.NkeySeedFile)
		if err != nil {
			return nil, err
		}
		return []nats.Option{nats.Nkey(nkey.Nkey, nkey.SignatureCB)}, nil
	case o.Token != "":
		return []nats.Option{nats.Token(string(o.Token))}, nil
	case o.User != "":
		return []nats.Option{nats.UserInfo(o.User, string(o.Password))}, nil
	}
	return nil, nil
}

// credentialsFile returns the option for a file with a user JWT and a seed.
func credentialsFile(file string) ([]nats.Option, error) {
	var fromFile nats.Options
	if err := nats.UserCredentials(file)(&fromFile); err != nil {
		return nil, fileError("credentials", file, err)
	}
	readJWT := func() (string, error) {
		token, err := fromFile.UserJWT()
		if err == nil && strings.Count(token, ".") != 2 {
			err = errors.New("no user JWT in it") // nats.go would connect without credentials
		}
		if err != nil {
			return "", fileError("credentials", file, err)
		}
		return token, nil
	}
	sign := func(nonce []byte) ([]byte, error) {
		signature, err := fromFile.SignatureCB(nonce)
		if err != nil {
			return nil, fileError("credentials", file, err)
		}
		return signature, nil
	}
	if _, err := readJWT(); err != nil {
		return nil, err
	}
	if _, err := sign([]byte("nonce")); err != nil {
		return nil, err
	}
	return []nats.Option{nats.UserJWT(readJWT, sign)}, nil
}

// readNkey returns options with the public key and the signature of a seed file.
func readNkey(file string) (nats.Options, error) {
	var fromFile nats.Options
	nkey, err := nats.NkeyOptionFromSeed(file)
	if err == nil {
		err = nkey(&fromFile)
	}
	if err != nil {
		return fromFile, fileError("nkey seed", file, err)
	}
	return fromFile, nil
}

// tls returns the TLS options. Files are read again for each connection.
func (o ConnectOptions) tls() (options []nats.Option, err error) {
	if o.TLSRequired {
		options = append(options, nats.Secure())
	}
	if o.TLSFirst {
		options = append(options, nats.TLSHandshakeFirst())
	}
	var readCertificate nats.TLSCertHandler
	var readAuthorities nats.RootCAsHandler
	if o.TLSCertFile != "" {
		readCertificate = func() (tls.Certificate, error) {
			certificate, err := tls.LoadX509KeyPair(o.TLSCertFile, o.TLSKeyFile)
			if err != nil {
				return certificate, fileError("client certificate", o.TLSCertFile+" with key "+o.TLSKeyFile, err)
			}
			return certificate, nil
		}
		if _, err := readCertificate(); err != nil {
			return nil, err
		}
	}
	if o.TLSCAFile != "" {
		readAuthorities = func() (*x509.CertPool, error) { return readCertificates(o.TLSCAFile) }
		if _, err := readAuthorities(); err != nil {
			return nil, err
		}
	}
	if readCertificate != nil || readAuthorities != nil {
		options = append(options, nats.ClientTLSConfig(readCertificate, readAuthorities))
	}
	return options, nil
}

// readCertificates returns the CA certificates of a file. Unlike [x509.CertPool.AppendCertsFromPEM], it skips no
// malformed certificate.
func readCertificates(file string) (*x509.CertPool, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fileError("CA certificates", file, err)
	}
	pool, isEmpty := x509.NewCertPool(), true
	for {
		block, rest := pem.Decode(content)
		if block == nil {
			break
		}
		content = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fileError("CA certificates", file, err)
		}
		pool.AddCert(certificate)
		isEmpty = false
	}
	switch {
	case bytes.Contains(content, []byte("-----BEGIN")):
		return nil, fileError("CA certificates", file, errors.New("malformed PEM"))
	case isEmpty:
		return nil, fileError("CA certificates", file, errors.New("no PEM certificate in it"))
	}
	return pool, nil
}

func fileError(content, file string, err error) error {
	return fmt.Errorf("cannot read %s from %s: %w", content, file, err)
}
