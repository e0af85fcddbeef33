package tls_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// authorities counts them: each has a domain of its own, since the library that a relay asks
// with keeps the challenges of a whole process by domain.
var authorities atomic.Int32

// pebble is an ACME authority in the test's process, with a name server of its own.
type pebble struct {
	directory string
	// domain is the one that the name server knows.
	domain string
	roots  *x509.CertPool
	// asked is how many certificates were asked for.
	asked atomic.Int32
}

// newPebble starts one. It looks for the domain at the ports of 127.0.0.1 that it is told; refusal,
// if there is one, is the answer to every order.
func newPebble(t *testing.T, httpPort, tlsPort int, refusal string) *pebble {
	t.Helper()
	return newPebbleFor(t, time.Hour, httpPort, tlsPort, refusal)
}

// newPebbleFor is newPebble, with certificates that are valid that long.
func newPebbleFor(t *testing.T, valid time.Duration, httpPort, tlsPort int, refusal string) *pebble {
	t.Helper()
	domain := fmt.Sprintf("relay%d.example.org", authorities.Add(1))
	silent, store := slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), db.NewMemoryStore()
	signer := ca.New(silent, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {ValidityPeriod: uint64(valid.Seconds())}})
	front := wfe.New(silent, store, va.New(silent, httpPort, tlsPort, false, nameServer(t, domain), store), signer,
		[]string{"pebble.letsencrypt.org"}, false, false, 1, 1)
	p := &pebble{domain: domain, roots: x509.NewCertPool()}
	p.roots.AddCert(parse(t, signer.GetRootCert(0).PEM()))
	handler := front.Handler()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/order-plz") {
			p.asked.Add(1)
			if refusal != "" {
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(http.StatusForbidden)
				_, _ = io.WriteString(w, `{"type":"urn:ietf:params:acme:error:unauthorized","status":403,"detail":"`+refusal+`"}`)
				return
			}
		}
		handler.ServeHTTP(w, r)
	}))
	certificate, key := authority.Files(t)
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	t.Cleanup(server.Close)
	p.directory = server.URL + wfe.DirectoryPath
	return p
}

func parse(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// nameServer knows one domain alone, and returns its own address.
func nameServer(t *testing.T, domain string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{Listener: listener, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, question *dns.Msg) {
		answer := new(dns.Msg).SetReply(question)
		if asked := question.Question[0]; asked.Name != domain+"." {
			answer.Rcode = dns.RcodeNameError
		} else if asked.Qtype == dns.TypeA {
			answer.Answer = []dns.RR{&dns.A{A: net.IPv4(127, 0, 0, 1),
				Hdr: dns.RR_Header{Name: asked.Name, Rrtype: dns.TypeA, Class: dns.ClassINET}}}
		}
		_ = w.WriteMsg(answer)
	})}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = listener.Close(); <-ended })
	return listener.Addr().String()
}

// ports are two free ones, for the API and for plain HTTP.
type ports struct{ api, plain string }

func freePorts(t *testing.T) ports { return ports{testdb.FreeAddress(t), testdb.FreeAddress(t)} }

func number(t *testing.T, address string) int {
	t.Helper()
	_, port, _ := net.SplitHostPort(address)
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// automatic has a relay get its certificate by itself.
func automatic(p *pebble, at ports, data, name string) func(*app.Config) {
	return func(c *app.Config) {
		c.Listen, c.HTTPListen, c.DataDir = at.api, at.plain, data
		c.Domain, c.ACMEURL, c.ACMEEmail = []string{name}, p.directory, "operator@example.org"
	}
}

// visit opens a connection as somebody who trusts the authority does.
func visit(p *pebble, at ports) (*x509.Certificate, error) {
	conn, err := tls.Dial("tcp", at.api, &tls.Config{RootCAs: p.roots, ServerName: p.domain})
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	return conn.ConnectionState().PeerCertificates[0], nil
}

func TestACertificateIsGotByEitherChallenge(t *testing.T) {
	t.Parallel()
	for challenge, reach := range map[string]func(ports) (http, tls string){
		"HTTP-01":     func(at ports) (string, string) { return at.plain, testdb.FreeAddress(t) },
		"TLS-ALPN-01": func(at ports) (string, string) { return testdb.FreeAddress(t), at.api },
	} {
		t.Run(challenge, func(t *testing.T) {
			t.Parallel()
			at, data := freePorts(t), t.TempDir()
			forHTTP, forTLS := reach(at)
			p := newPebble(t, number(t, forHTTP), number(t, forTLS), "")
			var cfg app.Config
			relay := relaytest.Start(t, automatic(p, at, data, p.domain), func(c *app.Config) { cfg = *c })
			var got *x509.Certificate
			if !wait.Within(time.Minute, func() (ok bool) { got, _ = visit(p, at); return got != nil }) {
				t.Fatalf("no certificate: %s", relay.Log)
			}
			if end := e2e.Meter(t, relay, "obscura_tls_certificate_expiry_seconds"); int64(end) != got.NotAfter.Unix() {
				t.Errorf("the metric says %v, the certificate %d", end, got.NotAfter.Unix())
			}
			var found strings.Builder // other findings may be problems
			_ = app.Doctor(t.Context(), cfg, "", false, &found)
			if line := "ok       certificate of " + p.domain + ": it is good for 0 hours\n"; !strings.Contains(found.String(), line) {
				t.Errorf("the doctor says %s", &found)
			}
			if log := relay.Log.String(); !strings.Contains(log, "got a TLS certificate") {
				t.Errorf("the log does not tell: %s", log)
			}
			relay.Stop()
			// It is kept: a restart asks for nothing.
			asked := p.asked.Load()
			relay = relaytest.Start(t, automatic(p, at, data, p.domain))
			wait.Eventually(t, "the certificate is served again", func() bool {
				again, err := visit(p, at)
				return err == nil && again.Equal(got)
			})
			if p.asked.Load() != asked {
				t.Error("another certificate was asked for")
			}
			relay.Stop()
		})
	}
}

// Certificates of 30 seconds are renewed twice while the relay runs. Nobody meets one that has
// expired, and connections stay.
func TestACertificateIsRenewedWhileTheRelayRuns(t *testing.T) {
	t.Parallel()
	const valid, renewals = 30 * time.Second, 2
	at := freePorts(t)
	p := newPebbleFor(t, valid, number(t, at.plain), number(t, at.api), "")
	relay := relaytest.StartWith(t, testdb.NewURL(t), []app.Option{app.WithRenewals(time.Second)},
		automatic(p, at, t.TempDir(), p.domain))
	var got *x509.Certificate
	if !wait.Within(time.Minute, func() bool { got, _ = visit(p, at); return got != nil }) {
		t.Fatalf("no certificate: %s", relay.Log)
	}
	old, err := tls.Dial("tcp", at.api, &tls.Config{RootCAs: p.roots, ServerName: p.domain})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Close() }()
	answers := bufio.NewReader(old)
	askAgain := func() {
		t.Helper()
		_, err := io.WriteString(old, "HEAD /v1/info HTTP/1.1\r\nHost: relay\r\n\r\n")
		for line := "\n"; err == nil && line != "\r\n"; { // the end of the header
			line, err = answers.ReadString('\n')
		}
		if err != nil {
			t.Fatalf("the connection from before: %v", err)
		}
	}
	askAgain()
	for range renewals {
		before := got
		renewed := wait.Within(2*valid, func() bool {
			if got, err = visit(p, at); err != nil {
				t.Fatalf("a visitor is turned away: %v", err)
			}
			return !got.Equal(before)
		})
		if !renewed || !got.NotAfter.After(before.NotAfter) {
			t.Fatalf("the certificate is not renewed: %s", relay.Log)
		}
		if end := e2e.Meter(t, relay, "obscura_tls_certificate_expiry_seconds"); int64(end) != got.NotAfter.Unix() {
			t.Errorf("the metric says %v, the certificate %d", end, got.NotAfter.Unix())
		}
		askAgain()
	}
	if asked := p.asked.Load(); asked > renewals+1 {
		t.Errorf("%d certificates were asked for", asked)
	}
	relay.Stop()
}

// Neither ends the relay, and both are said.
func TestARelayWithoutItsCertificateSaysWhy(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		name, refusal string
		directory     string
		want          []string
	}{
		"the domain leads elsewhere": {want: []string{"could not get a TLS certificate", "authorization failed"}},
		"the domain is not known": {name: "nowhere.invalid",
			want: []string{"could not get a TLS certificate: the domain does not resolve", "nowhere.invalid"}},
		"the authority refuses": {refusal: "policy forbids this",
			want: []string{"could not get a TLS certificate", "policy forbids this"}},
		"there is no authority": {directory: "https://" + testdb.FreeAddress(t) + "/dir",
			want: []string{"could not get a TLS certificate", "connection refused"}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			at := freePorts(t)
			p := newPebble(t, number(t, testdb.FreeAddress(t)), number(t, testdb.FreeAddress(t)), c.refusal)
			if c.directory != "" {
				p.directory = c.directory
			}
			if c.name == "" {
				c.name = p.domain
			}
			relay := relaytest.Start(t, automatic(p, at, filepath.Join(t.TempDir(), "new"), c.name))
			said := func() bool {
				for _, text := range c.want {
					if !strings.Contains(relay.Log.String(), text) {
						return false
					}
				}
				return true
			}
			if !wait.Within(time.Minute, said) {
				t.Errorf("the log does not say %q: %s", c.want, relay.Log)
			}
			if end := e2e.Meter(t, relay, "obscura_tls_certificate_expiry_seconds"); end != 0 {
				t.Errorf("without a certificate the metric is %v", end)
			}
			if status, _ := e2e.Readiness(t, relay); status != http.StatusOK {
				t.Errorf("/readyz answers %d", status)
			}
			if _, err := visit(p, at); err == nil {
				t.Error("a certificate is served")
			}
			begun := time.Now()
			relay.Stop()
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("the stop took %v", took)
			}
		})
	}
}

func TestPlainHTTPAnswersAnybodyButTheAuthorityWithTheAddressOfTLS(t *testing.T) {
	t.Parallel()
	at := freePorts(t)
	p := newPebble(t, 1, 1, "no")
	relay := relaytest.Start(t, automatic(p, at, t.TempDir(), p.domain))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: relaytest.Patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, path := range []string{"/", "/v1/info?x=1", "/.well-known/acme-challenge/unknown"} {
		to := &url.URL{Scheme: "http", Host: at.plain}
		response, err := client.Get(to.String() + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if got := response.Header.Get("Location"); response.StatusCode != 308 || got != "https://127.0.0.1"+path {
			t.Errorf("%s: %d to %s", path, response.StatusCode, got)
		}
	}
	relay.Stop()
}
