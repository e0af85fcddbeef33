package app

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// acme gets the certificates of the domains and renews them (RFC 8555). The library keeps them, and
// the account, in the data folder.
type acme struct {
	domains []string
	cache   *certmagic.Cache
	config  *certmagic.Config
	issuer  *certmagic.ACMEIssuer
	logger  *slog.Logger
}

// acmeFolder is where the library keeps what it has got, in the data folder.
const acmeFolder = "acme"

// keptCertificate is the one that a relay with this configuration has got for a domain.
func keptCertificate(cfg Config, domain string) (*x509.Certificate, error) {
	issuer := certmagic.ACMEIssuer{CA: cmp.Or(cfg.ACMEURL, certmagic.DefaultACME.CA)}
	name := filepath.Join(cfg.DataDir, acmeFolder, certmagic.StorageKeys.SiteCert(issuer.IssuerKey(), domain))
	content, err := readFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, errors.New("the file of the certificate in the data folder is no PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// WithRenewals has the relay look that often whether its certificates are to be renewed. Without it
// the library decides: every 10 minutes.
func WithRenewals(every time.Duration) Option { return func(r *relay) { r.renewals = every } }

// newACME makes it; nothing is asked for before run, which ends what is made here. The challenges
// come to the relay's own ports.
func newACME(cfg Config, l listeners, renewals time.Duration, logger *slog.Logger) (*acme, error) {
	folder := filepath.Join(cfg.DataDir, acmeFolder)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, errDataDir(cfg.DataDir, err)
	}
	a := &acme{domains: cfg.Domain, logger: logger}
	silent := zap.NewNop() // what an operator needs to know comes as events
	a.cache = certmagic.NewCache(certmagic.CacheOptions{Logger: silent, RenewCheckInterval: renewals,
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return a.config, nil }})
	a.config = certmagic.New(a.cache, certmagic.Config{Logger: silent, OnEvent: a.note,
		DefaultServerName: cfg.Domain[0],
		Storage:           &certmagic.FileStorage{Path: folder},
		OCSP:              certmagic.OCSPConfig{DisableStapling: true}})
	a.issuer = certmagic.NewACMEIssuer(a.config, certmagic.ACMEIssuer{Logger: silent, Agreed: true,
		CA: cfg.ACMEURL, Email: cfg.ACMEEmail,
		AltHTTPPort: port(l.plain), AltTLSALPNPort: port(l.api)})
	a.config.Issuers = []certmagic.Issuer{a.issuer}
	return a, nil
}

func port(l net.Listener) int {
	address, _ := l.Addr().(*net.TCPAddr)
	return address.Port
}

// run asks for what is not there, and has the library renew what is.
func (a *acme) run(ctx context.Context) error {
	defer a.cache.Stop()
	var domains sync.WaitGroup
	for _, domain := range a.domains {
		domains.Go(func() { a.obtain(ctx, domain) })
	}
	<-ctx.Done()
	domains.Wait()
	return nil
}

// giveUpPause is after the library has given up: it thinks that the authority will not change its
// mind, or has tried for a month.
const giveUpPause = time.Hour

// obtain gets the certificate of a domain unless it is there. The library tries again by itself,
// after a minute and then ever more seldom.
func (a *acme) obtain(ctx context.Context, domain string) {
	for {
		err := a.config.ObtainCertAsync(ctx, domain) // note tells of its errors
		if err == nil {
			if _, err = a.config.CacheManagedCertificate(ctx, domain); err == nil {
				_ = a.cache.RenewManagedCertificates(ctx) // what was kept may be due; else the library looks in time
				return
			}
			a.logger.Error("could not read the TLS certificate from the data folder; tried again in an hour",
				"component", "tls", "domain", domain, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(giveUpPause):
		}
	}
}

// note tells of what becomes of a certificate. The library calls it with its events.
func (a *acme) note(ctx context.Context, event string, data map[string]any) error {
	domain, _ := data["identifier"].(string)
	switch event {
	case "cert_obtained":
		a.logger.Info("got a TLS certificate", "component", "tls", "domain", domain)
	case "cert_failed":
		failure, _ := data["error"].(error)
		if errors.Is(failure, context.Canceled) {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		addresses, err := net.DefaultResolver.LookupHost(ctx, domain)
		if err != nil {
			a.logger.Error("could not get a TLS certificate: the domain does not resolve; the relay goes on trying",
				"component", "tls", "domain", domain, "lookup", err, "error", failure)
			return nil
		}
		a.logger.Error("could not get a TLS certificate; the relay goes on trying: "+
			"does the domain lead here, to ports 80 and 443?",
			"component", "tls", "domain", domain, "resolves_to", addresses, "error", failure)
	}
	return nil
}

// handler answers the authority's questions on the port of plain HTTP, and leaves others alone.
func (a *acme) handler(others http.Handler) http.Handler {
	return a.issuer.HTTPChallengeHandler(others)
}

// expiry is the end of the certificate that ends first, zero while one is not there.
func (a *acme) expiry() (first time.Time) {
	for i, domain := range a.domains {
		var end time.Time
		for _, certificate := range a.cache.AllMatchingCertificates(domain) {
			if certificate.Leaf.NotAfter.After(end) {
				end = certificate.Leaf.NotAfter
			}
		}
		if i == 0 || end.Before(first) {
			first = end
		}
	}
	return first
}
