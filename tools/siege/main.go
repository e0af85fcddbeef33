// Siege attacks a relay on this machine, one attack after another, while two devices talk through
// it from another address, and prints what the two noticed and how much memory the relay took:
//
//	siege RELAY_URL MANAGEMENT_URL [WORD...]
//
// With words it makes only the attacks whose names have one of them. The relay may speak TLS;
// `siege certificate FOLDER` makes a certificate for it, its key and its root.
//
// It fails when the p99 of a message, from its send to its receipt, or the memory of the relay is
// above a bound, and when a message is refused or lost. It attacks loopback addresses only. The
// attackers are a process of their own, before which everybody else goes (SCHED_IDLE): attackers
// elsewhere have processors of their own.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/certtest"
)

// The bounds that are held.
const (
	slowest  = 250 * time.Millisecond
	mostMiB  = 512
	duration = 8 * time.Second // of each attack
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "siege:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "attack":
		return attack(ctx, os.Stdin, os.Stdout)
	case len(args) == 2 && args[0] == "certificate":
		return makeCertificate(args[1])
	case len(args) >= 2:
		return besiege(ctx, args[0], args[1], args[2:], os.Stdout)
	default:
		return errors.New("usage: siege RELAY_URL MANAGEMENT_URL [WORD...]")
	}
}

// makeCertificate writes one that is valid for an hour.
func makeCertificate(folder string) error {
	authority := certtest.New()
	certificate, key := authority.Issue(time.Now().Add(-time.Minute), time.Now().Add(time.Hour))
	var err error
	for name, content := range map[string][]byte{"certificate.pem": certificate, "key.pem": key,
		"root.pem": authority.PEM()} {
		err = errors.Join(err, os.WriteFile(filepath.Join(folder, name), content, 0o600))
	}
	return err
}

// plan is what the attackers are told.
type plan struct {
	Attack     string
	Relay      string // HOST:PORT
	TLS        bool
	Victim     string // the name of a user
	VictimID   string
	Attachment string    // the id of one of theirs
	Accounts   []account // the attackers' own
}

type account struct{ Token, DeviceID string }

func besiege(ctx context.Context, relay, management string, words []string, out io.Writer) error {
	u, err := url.Parse(relay)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("the relay's URL must look like http://127.0.0.1:3000")
	}
	if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
		return errors.New("the relay must be on a loopback address: others are not attacked")
	}
	pair, err := newPair(ctx, relay)
	if err != nil {
		return err
	}
	p := plan{Relay: u.Host, TLS: u.Scheme == "https", Victim: pair.name, VictimID: pair.to.UserID().String()}
	attackers, attachment, err := newAccounts(ctx, relay)
	if err != nil {
		return err
	}
	p.Attachment = attachment
	made := names(p.TLS, words)
	var crowd []account
	if slices.Contains(made, stampede) {
		if crowd, err = newCrowd(ctx, relay); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "%-40s %10s %9s %9s %9s %8s %8s\n", "attack", "attempts", "p50 ms", "p99 ms", "max ms",
		"refused", "MiB")
	var failed []string
	for _, name := range append([]string{""}, made...) {
		p.Attack, p.Accounts = name, attackers
		if name == stampede {
			p.Accounts = crowd
		}
		row, err := pair.during(ctx, p, management)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if name == "" {
			name = "none"
		}
		fmt.Fprintf(out, "%-40s %10d %9.1f %9.1f %9.1f %8d %8d\n", name, row.attempts, ms(row.at(50)), ms(row.at(99)),
			ms(row.at(100)), row.refused, row.mib)
		if row.at(99) > slowest || row.mib > mostMiB || row.refused > 0 || row.lost > 0 {
			failed = append(failed, name)
		}
		if row.lost > 0 {
			fmt.Fprintf(out, "  %d messages did not arrive\n", row.lost)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("a bound was not held (p99 %v, %d MiB, no message refused or lost) under: %s", slowest, mostMiB,
			strings.Join(failed, ", "))
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// row is what one attack did.
type row struct {
	attempts, refused, lost, mib int
	took                         []time.Duration // sorted
}

func (r *row) at(percent int) time.Duration {
	if len(r.took) == 0 {
		return time.Hour // nothing arrived
	}
	return r.took[min(len(r.took)*percent/100, len(r.took)-1)]
}

// during lets the pair talk while one attack goes on, and a moment longer.
func (p *pair) during(ctx context.Context, plan plan, management string) (*row, error) {
	end, err := begin(ctx, plan)
	if err != nil {
		return nil, err
	}
	watched, stop := context.WithTimeout(ctx, duration)
	defer stop()
	peak := make(chan int, 1)
	go func() { peak <- watchMemory(watched, management) }()
	r := p.talk(ctx, watched)
	slices.Sort(r.took)
	r.mib = <-peak
	r.attempts, err = end()
	return r, err
}

// begin starts the attackers and waits until they have begun. end stops them and says how often
// they tried.
func begin(ctx context.Context, plan plan) (end func() (attempts int, err error), err error) {
	if plan.Attack == "" {
		return func() (int, error) { return 0, nil }, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "chrt", "--idle", "0", self, "attack")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	answers := bufio.NewScanner(stdout)
	if err := json.NewEncoder(stdin).Encode(plan); err != nil || !answers.Scan() {
		return nil, errors.Join(errors.New("the attackers did not begin"), err, cmd.Wait())
	}
	return func() (int, error) {
		err := stdin.Close()
		answers.Scan()
		attempts, notNumber := strconv.Atoi(answers.Text())
		return attempts, errors.Join(err, notNumber, cmd.Wait())
	}, nil
}

// watchMemory returns the most that the relay held, in MiB, as its metrics say.
func watchMemory(ctx context.Context, management string) (peak int) {
	client := &http.Client{Timeout: 5 * time.Second}
	for ctx.Err() == nil {
		request, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, management+"/metrics", nil)
		if err != nil {
			return 1 << 30
		}
		response, err := client.Do(request)
		if err != nil {
			return 1 << 30 // a relay that does not answer there has not held the bound
		}
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			if value, ok := strings.CutPrefix(lines.Text(), "process_resident_memory_bytes "); ok {
				bytes, err := strconv.ParseFloat(value, 64)
				if err != nil {
					return 1 << 30
				}
				peak = max(peak, int(bytes)>>20)
			}
		}
		_ = response.Body.Close()
		pause(ctx, 200*time.Millisecond)
	}
	return peak
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
