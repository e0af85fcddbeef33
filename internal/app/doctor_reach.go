package app

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ports asks who listens where the relay should.
func (d *doctor) ports(ctx context.Context) {
	for _, at := range []struct{ part, setting, address string }{
		{"API port", "--listen (OBSCURA_LISTEN)", d.cfg.listen()},
		{"management port", "--management-listen (OBSCURA_MANAGEMENT_LISTEN)", d.cfg.ManagementListen},
		{"plain HTTP port", "--http-listen (OBSCURA_HTTP_LISTEN)", d.cfg.httpListen()},
	} {
		if at.address == "" {
			continue
		}
		conn, err := (&net.Dialer{Timeout: askTime}).DialContext(ctx, "tcp", at.address)
		if err == nil {
			_ = conn.Close()
			if at.part == "management port" {
				d.readiness(ctx, at.part)
			} else {
				d.say(at.part, StateOK, "something listens on "+at.address, "")
			}
			continue
		}
		l, err := (&heldSockets{}).listenOn("the relay", at.setting, at.address)
		if err == nil {
			err = l.Close()
		}
		d.judge(at.part, err, "no relay runs on "+at.address+"; it is free", "change "+at.setting)
	}
}

// readiness is what the relay says of itself.
func (d *doctor) readiness(ctx context.Context, part string) {
	const advice = "see the relay's log; the part that is not ok is looked at below"
	status, body, _, err := get(ctx, "http://"+d.cfg.ManagementListen+"/readyz", nil)
	switch {
	case err != nil, status != http.StatusOK && status != http.StatusServiceUnavailable:
		d.say(part, StateProblem, "what listens on "+d.cfg.ManagementListen+" is no relay", "choose another address with "+
			"--management-listen (OBSCURA_MANAGEMENT_LISTEN)")
	case status == http.StatusOK:
		d.say(part, StateOK, "the relay runs and is ready", "")
	default:
		d.say(part, StateProblem, "the relay says "+strings.TrimSpace(string(body)), advice)
	}
}

// outside looks at the relay as its users do.
func (d *doctor) outside(ctx context.Context) {
	if d.url == "" {
		return
	}
	status, body, certificate, err := get(ctx, d.url+"/v1/info", nil)
	if err == nil && (status != http.StatusOK || !strings.Contains(string(body), `"registration"`)) {
		err = fmt.Errorf("%s/v1/info answers %d and is no relay's answer", d.url, status)
	}
	d.judge("from outside", err, d.url+" reaches a relay",
		"check the host name, the firewall, the proxy before the relay, and its certificate")
	if certificate != nil {
		d.validity("certificate from outside", certificate)
	}
	if err != nil {
		return
	}
	status, _, _, err = get(ctx, d.url+"/v1/gateway", http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}})
	if err == nil && status != http.StatusUnauthorized { // without a ticket that is the answer
		err = fmt.Errorf("an upgrade to a WebSocket answers %d; a relay that sees it answers 401", status)
	}
	d.judge("gateway", err, "the upgrade to a WebSocket reaches the relay",
		"let the proxy speak HTTP/1.1 to the relay, and pass the headers Connection and Upgrade")
	host, _, _ := net.SplitHostPort(d.cfg.listen())
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() && len(d.cfg.TrustedProxies) == 0 &&
		!strings.HasSuffix(d.url, "://"+d.cfg.listen()) {
		d.say("proxy", StateWarning, "a proxy stands before the relay, and its X-Forwarded-For is not believed: "+
			"all users share the limits of one address", "name the proxy with --trusted-proxies (OBSCURA_TRUSTED_PROXIES)")
	}
}

// certificate looks at the relay's own, when it comes from files.
func (d *doctor) certificate() {
	if d.cfg.TLSCertificate == "" {
		return
	}
	files := d.cfg.files()
	if err := files.read(); err != nil {
		d.say("certificate", StateProblem, err.Error(), "replace the file; the relay takes it within seconds")
		return
	}
	d.validity("certificate", files.current.Load().Leaf)
}

// domains looks at the names that the relay gets certificates for, and at what it has got.
func (d *doctor) domains(ctx context.Context) {
	for _, domain := range d.cfg.Domain {
		asked, cancel := context.WithTimeout(ctx, askTime)
		addresses, err := net.DefaultResolver.LookupHost(asked, domain)
		cancel()
		d.judge("domain "+domain, err, "it leads to "+strings.Join(addresses, ", "),
			"give it an A or AAAA record with the address of this machine; the authority looks there")

		part := "certificate of " + domain
		leaf, err := keptCertificate(d.cfg, domain)
		_, before := os.Stat(filepath.Join(d.cfg.DataDir, acmeFolder))
		switch {
		case err == nil:
			d.renewal(part, leaf)
		case errors.Is(before, fs.ErrNotExist):
			d.say(part, StateWarning, "there is none yet; the relay gets it after its start",
				"let ports 80 and 443 of the domain lead to this machine before")
		case errors.Is(err, fs.ErrNotExist):
			d.say(part, StateProblem, "the relay was started and has not got it", "see its log for component tls: "+adviceACME)
		default:
			d.say(part, StateProblem, err.Error(), "run this as the user that runs the relay")
		}
	}
}

const (
	day        = 24 * time.Hour
	adviceACME = "the authority must reach the domain on ports 80 and 443, and may have refused; the relay tries again by itself"
)

// renewal judges a certificate that the relay renews by itself, when a third of its time is left.
func (d *doctor) renewal(part string, leaf *x509.Certificate) {
	whole := leaf.NotAfter.Sub(leaf.NotBefore)
	state, finding := level(time.Until(leaf.NotAfter), whole/12, whole/4), goodFor(leaf)
	if state != StateOK {
		finding += ", and its renewal is late"
	}
	d.say(part, state, finding, "see the log for component tls, and that the relay runs: "+adviceACME)
}

// validity judges one that somebody else renews. Short-lived ones are given less time.
func (d *doctor) validity(part string, leaf *x509.Certificate) {
	whole := leaf.NotAfter.Sub(leaf.NotBefore)
	d.say(part, level(time.Until(leaf.NotAfter), min(3*day, whole/12), min(14*day, whole/4)), goodFor(leaf),
		"renew it, and see why it was not renewed by itself")
}

func goodFor(leaf *x509.Certificate) string {
	switch left := time.Until(leaf.NotAfter); {
	case left <= 0:
		return "it has expired at " + leaf.NotAfter.UTC().Format(time.RFC3339)
	case left < 2*day:
		return fmt.Sprintf("it is good for %d hours", left/time.Hour)
	default:
		return fmt.Sprintf("it is good for %d days", left/day)
	}
}

// get asks once. There is no certificate without TLS.
func get(ctx context.Context, address string, header http.Header) (status int, body []byte,
	certificate *x509.Certificate, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, nil, certificate, err
	}
	request.Header = header
	transport := &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return 0, nil, certificate, causeOf(err)
	}
	defer answer.Body.Close()
	if answer.TLS != nil && len(answer.TLS.PeerCertificates) > 0 {
		certificate = answer.TLS.PeerCertificates[0]
	}
	body, err = io.ReadAll(io.LimitReader(answer.Body, 4096))
	return answer.StatusCode, body, certificate, err
}
