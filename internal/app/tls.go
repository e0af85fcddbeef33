package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mholt/acmez/v3"
)

// TLS says with which certificate the relay speaks TLS itself, if it does.
type TLS struct {
	TLSCertificate string `name:"tls-certificate" placeholder:"FILE" help:"Certificate for https, in PEM, with those between it and a root after it. Together with --tls-key. Both are read again when they change."`
	TLSKey         string `name:"tls-key" placeholder:"FILE" help:"Private key of the certificate, in PEM."`

	Domain     []string `placeholder:"NAME" help:"Name under which the relay is reached. It gets a certificate for it by itself (ACME), and keeps it in the folder acme of the data folder."`
	ACMEURL    string   `name:"acme-url" placeholder:"URL" help:"Directory of the authority that makes the certificate. Without it: Let's Encrypt, whose terms you agree to by --domain."`
	ACMEEmail  string   `name:"acme-email" placeholder:"ADDRESS" help:"Where the authority writes to when something is wrong."`
	HTTPListen string   `name:"http-listen" placeholder:"ADDRESS" help:"Address that leads http:// to https://, and where the authority looks for the domain. Without it: :80 with --domain, else none."`
}

var domainName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]([a-z0-9-]*[a-z0-9])?$`)

// secure reports whether the relay speaks TLS itself.
func (c *TLS) secure() bool { return c.TLSCertificate != "" || len(c.Domain) > 0 }

func (c *TLS) validateTLS() error {
	if (c.TLSCertificate == "") != (c.TLSKey == "") {
		return errors.New("--tls-certificate and --tls-key must be given together")
	}
	if c.TLSCertificate != "" && len(c.Domain) > 0 {
		return errors.New("--domain gets a certificate, and --tls-certificate brings one: choose one of them")
	}
	for _, name := range c.Domain {
		if !domainName.MatchString(name) {
			return errors.New("--domain must be a name in lower case, without https:// and port, for example relay.example.org")
		}
	}
	if len(c.Domain) == 0 && (c.ACMEURL != "" || c.ACMEEmail != "") {
		return errors.New("--acme-url and --acme-email are of use with --domain only")
	}
	if u, err := url.Parse(c.ACMEURL); c.ACMEURL != "" && (err != nil || u.Scheme != "https" || u.Host == "") {
		return errors.New("--acme-url must be the URL of a directory, for example https://acme.example.org/directory")
	}
	if c.HTTPListen != "" && !c.secure() {
		return errors.New("--http-listen leads to https: it needs --domain, or --tls-certificate and --tls-key")
	}
	if c.TLSCertificate != "" {
		return c.files().read()
	}
	return nil
}

// httpListen is the address for plain HTTP, if there is one.
func (c *TLS) httpListen() string {
	if c.HTTPListen == "" && len(c.Domain) > 0 {
		return ":80"
	}
	return c.HTTPListen
}

func (c *TLS) files() *certificateFiles {
	return &certificateFiles{certificate: c.TLSCertificate, key: c.TLSKey}
}

// encryption is how the relay speaks TLS itself.
type encryption struct {
	config *tls.Config
	// run keeps the certificate fresh.
	run func(context.Context) error
	// expiry is the end of the certificate, zero while there is none.
	expiry func() time.Time
	// plain stands before what plain HTTP is answered.
	plain func(http.Handler) http.Handler
}

// newEncryption returns nil when the relay speaks plain HTTP.
func newEncryption(cfg Config, l listeners, renewals time.Duration, logger *slog.Logger) (*encryption, error) {
	e := &encryption{config: &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}}
	switch {
	case len(cfg.Domain) > 0:
		a, err := newACME(cfg, l, renewals, logger)
		if err != nil {
			return nil, err
		}
		e.config.GetCertificate, e.run, e.expiry, e.plain = a.config.GetCertificate, a.run, a.expiry, a.handler
		e.config.NextProtos = append(e.config.NextProtos, acmez.ACMETLS1Protocol)
	case cfg.TLSCertificate != "":
		files := cfg.files()
		if err := files.read(); err != nil {
			return nil, err
		}
		e.config.GetCertificate, e.expiry = files.get, files.expiry
		e.run = func(ctx context.Context) error { return files.watch(ctx, logger) }
		e.plain = func(h http.Handler) http.Handler { return h }
	default:
		return nil, nil
	}
	return e, nil
}

// plainServer leads http:// to https://, on the port that is https's own.
func (e *encryption) plainServer() *http.Server {
	server := &http.Server{Handler: e.plain(http.HandlerFunc(toHTTPS)), MaxHeaderBytes: 8 << 10,
		ErrorLog:    slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second}
	server.SetKeepAlivesEnabled(false)
	return server
}

func toHTTPS(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	switch {
	case err != nil:
		host = r.Host
	case strings.Contains(host, ":"):
		host = "[" + host + "]"
	}
	if host == "" {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "Use https://.\n")
		return
	}
	to := "https://" + host + r.URL.RequestURI()
	http.Redirect(w, r, to, http.StatusPermanentRedirect) //nolint:gosec // the host is the one that was asked
}

// certificateFiles are a certificate and its key, in files that are read again.
type certificateFiles struct {
	certificate, key string
	current          atomic.Pointer[tls.Certificate]

	// settled is what was found in the files when they were judged last, and seen what was found
	// after it, once: who watches owns them.
	settled, seen pair
}

// pair is what was found in the files, or why nothing was.
type pair struct {
	certificate, key []byte
	problem          error
}

func (p pair) equal(other pair) bool {
	return bytes.Equal(p.certificate, other.certificate) && bytes.Equal(p.key, other.key) &&
		fmt.Sprint(p.problem) == fmt.Sprint(other.problem)
}

// read takes the pair as it is now.
func (f *certificateFiles) read() error {
	found := f.find()
	certificate, err := found.parse(time.Now())
	if err != nil {
		return err
	}
	f.settled, f.seen = found, found
	f.current.Store(certificate)
	return nil
}

func (f *certificateFiles) find() (p pair) {
	if p.certificate, p.problem = readPEM("--tls-certificate", f.certificate); p.problem == nil {
		p.key, p.problem = readPEM("--tls-key", f.key)
	}
	return p
}

func readPEM(option, name string) ([]byte, error) {
	content, err := readFile(name)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be used: %w", option, err)
	}
	return content, nil
}

// parse returns one exact sentence for what is wrong.
func (p pair) parse(now time.Time) (*tls.Certificate, error) {
	if p.problem != nil {
		return nil, p.problem
	}
	block, _ := pem.Decode(p.certificate)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("--tls-certificate cannot be used: the file must begin with a certificate in PEM")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("--tls-certificate cannot be used: %w", err)
	}
	switch {
	case now.After(leaf.NotAfter):
		return nil, fmt.Errorf("--tls-certificate has expired at %s: renew it", leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return nil, fmt.Errorf("--tls-certificate is not valid before %s: wait, or set the clock of this machine",
			leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	if block, _ := pem.Decode(p.key); block == nil || !strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return nil, errors.New("--tls-key cannot be used: the file must begin with a private key in PEM")
	}
	certificate, err := tls.X509KeyPair(p.certificate, p.key)
	if err != nil {
		return nil, fmt.Errorf("--tls-key is not the key of the first certificate in --tls-certificate: %w", err)
	}
	return &certificate, nil
}

// certificatesEvery is how often the files are looked at. A change counts when it is found twice,
// so that the two may be replaced one after the other.
const certificatesEvery = 5 * time.Second

// watch takes a new pair while the relay runs. Names are opened anew each time, so it does not
// matter how the files are replaced.
func (f *certificateFiles) watch(ctx context.Context, logger *slog.Logger) error {
	return every(ctx, certificatesEvery, func() {
		found := f.find()
		changed := !found.equal(f.settled) && found.equal(f.seen)
		if f.seen = found; !changed {
			return
		}
		f.settled = found
		certificate, err := found.parse(time.Now())
		if err != nil {
			logger.Error("the changed TLS certificate is not used; the one before stays, until the files change again",
				"component", "tls", "error", err)
			return
		}
		f.current.Store(certificate)
		logger.Info("the TLS certificate was replaced", "component", "tls", "expires", certificate.Leaf.NotAfter)
	})
}

func (f *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.current.Load(), nil
}

func (f *certificateFiles) expiry() time.Time { return f.current.Load().Leaf.NotAfter }
