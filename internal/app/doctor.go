package app

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/obscura-relay/obscura/internal/core/blob"
	"github.com/obscura-relay/obscura/internal/notice"
)

// Finding is what the doctor says about one part.
type Finding struct {
	Part    string `json:"part"`
	State   State  `json:"state"`
	Finding string `json:"finding"`
	Advice  string `json:"advice,omitempty"` // what to do, unless the state is ok
}

// State is ok, warning or problem, the worse the greater.
type State int

// What a finding is.
const (
	StateOK State = iota
	StateWarning
	StateProblem
)

// String writes the state as it is shown.
func (s State) String() string { return [...]string{"ok", "warning", "problem"}[s] }

// MarshalText writes it so in JSON too.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// doctor looks at everything that a relay needs and changes nothing.
type doctor struct {
	cfg   Config
	url   string // the relay's, as users reach it; "" when it was not named
	found []Finding
}

// askTime bounds each question to another program.
const askTime = 5 * time.Second

// Doctor prints its findings about the relay with this configuration, on this machine. The error
// says how many problems there are.
func Doctor(ctx context.Context, cfg Config, address string, asJSON bool, out io.Writer) error {
	if u, err := url.Parse(address); address != "" && (err != nil || u.Host == "" || u.User != nil) {
		return errors.New("--url must look like https://relay.example.org")
	}
	d := &doctor{cfg: cfg, url: strings.TrimSuffix(address, "/")}
	d.machine()
	d.folders()
	d.ports(ctx)
	d.certificate()
	d.domains(ctx)
	d.database(ctx)
	d.blobs(ctx)
	if cfg.NATSURL != "" {
		d.judge("NATS", notice.TryNATS(cfg.NATSURL), "it answers",
			"check --nats-url (OBSCURA_NATS_URL) and the server; until then mail waits for the polls")
	}
	d.outside(ctx)
	return d.print(asJSON, out)
}

func (d *doctor) say(part string, state State, finding, advice string) {
	if state == StateOK {
		advice = ""
	}
	d.found = append(d.found, Finding{part, state, finding, advice})
}

// judge says that a part is well, or that the error is a problem.
func (d *doctor) judge(part string, err error, well, advice string) {
	if err != nil {
		d.say(part, StateProblem, err.Error(), advice)
		return
	}
	d.say(part, StateOK, well, "")
}

// level is the state of a figure that should not be below two limits.
func level[N int64 | uint64 | time.Duration](figure, problem, warning N) State {
	switch {
	case figure < problem:
		return StateProblem
	case figure < warning:
		return StateWarning
	default:
		return StateOK
	}
}

func (d *doctor) print(asJSON bool, out io.Writer) (err error) {
	problems := 0
	for _, f := range d.found {
		if f.State == StateProblem {
			problems++
		}
		if asJSON {
			continue
		}
		_, failed := fmt.Fprintf(out, "%-8s %s: %s\n", f.State, f.Part, f.Finding)
		if err = errors.Join(err, failed); f.Advice != "" {
			_, failed = fmt.Fprintf(out, "         do: %s\n", f.Advice)
			err = errors.Join(err, failed)
		}
	}
	if asJSON {
		err = json.NewEncoder(out).Encode(d.found)
	}
	switch {
	case err != nil:
		return err
	case problems == 1:
		return errors.New("there is a problem")
	case problems > 1:
		return fmt.Errorf("there are %d problems", problems)
	}
	return nil
}

const mib = 1 << 20

// machine looks at memory and descriptors.
func (d *doctor) machine() {
	if free, err := freeMemory(); err == nil {
		d.say("memory", level(int64(free), int64(d.cfg.ReserveMemory), 4*int64(d.cfg.ReserveMemory)),
			fmt.Sprintf("%d MiB free", int64(free)/mib),
			"give it more, or a larger limit; an idle socket takes some 20 KiB, a log-in 19 MiB while it lasts")
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil {
		d.say("descriptors", level(files.Max, 1024, 10_000),
			fmt.Sprintf("%d for this command; a service has its own limit", files.Max),
			"each connection needs one: raise the limit (systemd: LimitNOFILE)")
	}
}

// folders looks at the data folder and the disks.
func (d *doctor) folders() {
	ours := d.cfg.DatabaseURL == "" || d.cfg.BlobURL == ""
	if ours {
		const advice = "name the folder with --data-dir (OBSCURA_DATA_DIR), and give it to the user that runs the relay, mode 700"
		switch info, err := os.Stat(d.cfg.DataDir); {
		case errors.Is(err, fs.ErrNotExist):
			d.say("data folder", StateWarning, "there is no folder "+d.cfg.DataDir+" yet; the relay makes it at its start",
				"if the relay has run before: "+advice)
		case err != nil:
			d.say("data folder", StateProblem, err.Error(), advice)
		case foreign(info):
			d.say("data folder", StateWarning, d.cfg.DataDir+" belongs to another user than the one that runs this command",
				asOwner)
		case info.Mode().Perm()&0o077 != 0:
			d.say("data folder", StateWarning, fmt.Sprintf("%s has the mode %o: others may look into it", d.cfg.DataDir,
				info.Mode().Perm()), advice)
		default:
			d.judge("data folder", unix.Access(d.cfg.DataDir, unix.W_OK), d.cfg.DataDir+" may be written to", advice)
		}
		d.disk("disk of the data folder", d.cfg.DataDir)
	}
	if u, err := url.Parse(d.cfg.BlobURL); err == nil && u.Scheme == "file" {
		d.disk("disk of the blobs", u.Path)
	}
}

const asOwner = "run the doctor as the user that runs the relay; docs/operations.md has the command for a service"

// foreign reports that a folder belongs to another user than this process runs as.
func foreign(info fs.FileInfo) bool {
	of, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(of.Uid) != os.Geteuid()
}

func (d *doctor) disk(part, folder string) {
	var there unix.Statfs_t
	if unix.Statfs(folder, &there) != nil {
		return // the folder itself is spoken of elsewhere
	}
	free, total := there.Bavail*uint64(there.Bsize), there.Blocks*uint64(there.Bsize) //nolint:gosec // no disk has a negative one
	d.say(part, max(level(free, 512*mib, 4096*mib), level(free, total/50, total/10)),
		fmt.Sprintf("%d MiB free of %d MiB", free/mib, total/mib),
		"make room before it is full: then nothing more is accepted")
}

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

func (d *doctor) blobs(ctx context.Context) {
	const advice = "check --blob-url (OBSCURA_BLOB_URL), and that this user may write there; AWS_* for S3"
	folder := filepath.Join(d.cfg.DataDir, "blobs")
	if u, err := url.Parse(d.cfg.BlobURL); d.cfg.BlobURL != "" {
		if folder = ""; err == nil && u.Scheme == "file" {
			folder = u.Path
		}
	}
	switch info, err := os.Stat(folder); {
	case folder == "": // in no folder
	case err != nil && d.cfg.BlobURL == "": // nothing is made here
		d.say("blobs", StateOK, "there is no store yet; the relay makes it at its start", "")
		return
	case err == nil && foreign(info): // what is made in it would not be the relay's
		d.say("blobs", StateWarning, folder+" belongs to another user; it was not looked at", asOwner)
		return
	}
	address, err := d.cfg.blobURL()
	if err == nil {
		var store *blob.Store
		if store, err = blob.Open(address); err == nil {
			ctx, cancel := context.WithTimeout(ctx, askTime)
			defer cancel()
			err = blob.New(blob.Config{Store: store}).Probe(ctx)
		}
	}
	d.judge("blobs", causeOf(err), "a blob can be written, read and deleted", advice)
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
		"let the proxy pass the headers Connection and Upgrade")
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

// causeOf says what is behind an error whose own sentence is for users, or repeats the URL.
func causeOf(err error) error {
	var request *url.Error
	var errno syscall.Errno
	switch {
	case err == nil:
		return nil
	case errors.As(err, &request) && request.Timeout():
		return fmt.Errorf("no answer within %v", askTime)
	case errors.As(err, &request):
		return request.Err
	case errors.As(err, &errno):
		return errno
	}
	return err
}
