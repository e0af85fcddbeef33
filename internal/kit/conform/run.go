package conform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config is what `obscura conform` is asked for.
type Config struct {
	URL  string   `arg:"" optional:"" help:"The relay's API, for example http://127.0.0.1:3000."`
	JSON string   `name:"json" placeholder:"FILE" help:"Write the results to this file as JSON; - for standard output, in place of the table."`
	Only []string `placeholder:"NAME" help:"Run only this check, or the checks of this topic. May be repeated. The two about the run as a whole, contract.answers and accounts.clean-up, always run."`
	// Invitation is needed by a relay that takes users by invitation only.
	Invitation string `placeholder:"TEXT" help:"Register users with this invitation, where the relay wants one: it needs 100 uses at most."`
	List       bool   `env:"-" help:"List the checks and run none."`

	// Out takes the table, or the JSON; Progress takes a line that changes, on a terminal.
	Out, Progress io.Writer `kong:"-"`
}

const (
	// atOnce is how many checks run beside each other: many wait, and passwords cost a core each.
	atOnce = 8
	// leaving bounds the deletion of the users.
	leaving = 2 * time.Minute
)

// kit is what the checks of a run share.
type kit struct {
	base    string // without a slash at the end
	http    *http.Client
	answers *validator
	sharing sync.Mutex
	// invitation is nil for a relay that anybody may register on.
	invitation *string
	rooms      map[*user]int // guarded by sharing: how many more devices a shared user can have
	mu         sync.Mutex
	users      []*user  // guarded by mu: all that were made, to be deleted
	secrets    []string // guarded by mu: all that a reason must not hold
	progress   *ticker
}

// Run runs the checks against a relay and writes the results. The error says that something failed,
// that the run was interrupted, or that there was nothing to run.
func Run(ctx context.Context, cfg Config) (*Results, error) {
	selected, err := selectChecks(cfg.Only)
	if err != nil {
		return nil, err
	}
	if cfg.List {
		list(cfg.Out, selected)
		return nil, nil
	}
	k, err := newKit(cfg)
	if err != nil {
		return nil, err
	}
	defer k.http.CloseIdleConnections()
	if err := k.reach(ctx); err != nil {
		return nil, err
	}
	r := &Results{URL: k.base, Checks: make([]Outcome, len(selected))}
	started := time.Now()
	k.run(ctx, selected, r)
	interrupted := ctx.Err()
	k.conclude(ctx, selected, r)
	r.count(time.Since(started))
	if err := r.write(cfg); err != nil {
		return r, err
	}
	switch {
	case interrupted != nil:
		return r, errors.New("interrupted")
	case r.Failed > 0:
		return r, fmt.Errorf("%d of %d checks failed: %s", r.Failed, r.Passed+r.Failed, strings.Join(r.failed(), ", "))
	}
	return r, nil
}

// selectChecks returns the checks that were asked for, in their order.
func selectChecks(only []string) ([]check, error) {
	all := checks()
	if len(only) == 0 {
		return all, nil
	}
	named := func(c check, name string) bool { return c.name == name || strings.HasPrefix(c.name, name+".") }
	for _, name := range only {
		if !slices.ContainsFunc(all, func(c check) bool { return named(c, name) }) {
			return nil, fmt.Errorf("there is no check %q; --list shows all", name)
		}
	}
	return slices.DeleteFunc(all, func(c check) bool {
		return c.run != nil && !slices.ContainsFunc(only, func(name string) bool { return named(c, name) })
	}), nil
}

func newKit(cfg Config) (*kit, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" {
		return nil, errors.New("the URL of the relay must look like http://127.0.0.1:3000")
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: patience,
		MaxIdleConnsPerHost: 64, DisableCompression: true}
	answers := &validator{next: transport, below: strings.TrimRight(u.Path, "/"), findings: map[string]int{}}
	k := &kit{base: strings.TrimRight(cfg.URL, "/"), answers: answers, rooms: map[*user]int{},
		progress: newTicker(cfg.Progress),
		http: &http.Client{Transport: answers, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}}}
	if cfg.Invitation != "" {
		k.invitation, k.secrets = &cfg.Invitation, []string{cfg.Invitation}
	}
	return k, nil
}

// reach finds out whether there is anything at the URL, before every check says that there is not.
func (k *kit) reach(ctx context.Context) error {
	if _, err := k.exchange(ctx, request{method: "GET", path: "/openapi.yaml"}); err != nil {
		return fmt.Errorf("no relay answers at this URL: %w", bare(err))
	}
	return nil
}

// run runs the checks beside each other, the slow ones first.
func (k *kit) run(ctx context.Context, selected []check, r *Results) {
	defer k.progress.end()
	order := make([]int, 0, len(selected))
	for i, c := range selected {
		r.Checks[i] = Outcome{Name: c.name, Sentence: c.says, Result: notRun}
		if c.run != nil {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return slow(selected[b]) - slow(selected[a]) })
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, i := range order {
		g.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			started := time.Now()
			v := k.judge(ctx, selected[i].run)
			if ctx.Err() != nil && v.result == Fail {
				return nil // it was interrupted, which is no verdict
			}
			r.set(i, v, time.Since(started), k)
			k.progress.step(len(order))
			return nil
		})
	}
	_ = g.Wait()
}

func slow(c check) int {
	if slices.Contains([]string{reuseCheck, tooManyTicketsCheck}, c.name) {
		return 1
	}
	return 0
}

// conclude deletes what the run has made, also when it was interrupted, and judges the run as a
// whole.
func (k *kit) conclude(ctx context.Context, selected []check, r *Results) {
	started := time.Now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaving)
	defer cancel()
	left := k.leave(ctx)
	took := time.Since(started)
	for i, c := range selected {
		switch c.name {
		case answersCheck:
			r.set(i, k.answers.verdict(), 0, k)
		case cleanUpCheck:
			v := verdict{result: Pass}
			if len(left) > 0 {
				v = verdict{Fail, "these users could not be deleted: " + strings.Join(left, ", ")}
			}
			r.set(i, v, took, k)
		}
	}
}

// remember keeps a user for the cleaning up.
func (k *kit) remember(u *user) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.users = append(k.users, u)
}
