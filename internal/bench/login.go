package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/obscura-relay/obscura/gen/client"
)

// LoginConfig is `obscura bench login`.
type LoginConfig struct {
	Common
	Callers  int           `env:"-" default:"64" placeholder:"N" help:"Log-ins that are under way at once, each of a user of its own."`
	Duration time.Duration `env:"-" default:"10s" placeholder:"TIME" help:"How long to measure."`
	Warmup   time.Duration `env:"-" default:"1s" placeholder:"TIME" help:"How long to run before."`
}

// Validate returns one exact sentence for what is wrong. kong calls it.
func (c *LoginConfig) Validate() error {
	if c.Callers < 1 || c.Duration < 100*time.Millisecond || c.Warmup < 0 {
		return errors.New("--callers must be at least 1, --duration at least 100ms and --warmup not negative")
	}
	return nil
}

// LoginResult is what `obscura bench login` found.
type LoginResult struct {
	Callers  int              `json:"callers"`
	Duration float64          `json:"duration_s"`
	LogIns   float64          `json:"log_ins_per_s"`
	LogIn    Percentiles      `json:"log_in_ms"`
	Errors   map[string]int64 `json:"errors"`
	Cost
}

// Login measures a storm of log-ins.
func Login(ctx context.Context, cfg LoginConfig) (*LoginResult, error) {
	return run(ctx, cfg.Common, cfg.Callers+16, func(ctx context.Context, t *target) (*LoginResult, error) { return login(ctx, cfg, t) })
}

func login(ctx context.Context, cfg LoginConfig, t *target) (*LoginResult, error) {
	p, err := t.populate(ctx, wanted{devices: cfg.Callers, perUser: 1})
	if err != nil {
		return nil, err
	}
	defer t.farewell(p)
	line := newTicker(cfg.Progress)
	defer line.end()
	line.show("logging in")
	w := window{start: time.Now(), from: cfg.Warmup, to: cfg.Warmup + cfg.Duration}
	var errs kinds
	var done atomic.Int64
	var took histogram
	var wg sync.WaitGroup
	for _, dev := range p.devices {
		wg.Go(func() {
			for ctx.Err() == nil && w.now() < w.to {
				began := w.now()
				var auth client.AuthResponse
				err := t.api.call("POST", "/v1/sessions", "", client.LogIn{Username: dev.user.name, Password: dev.user.password, DeviceID: &dev.id}, &auth)
				switch {
				case err != nil:
					errs.add(kindOf(err))
					_ = wait(ctx, 100*time.Millisecond) // the loop looks at ctx
					continue
				case auth.Token == "":
					errs.add("an answer without a token")
				}
				if w.holds(began) {
					took.record(w.now() - began)
				}
				if w.holds(w.now()) {
					done.Add(1)
				}
			}
		})
	}
	_ = wait(ctx, w.from) // the goroutines look at ctx
	from := t.usage(ctx)
	_ = wait(ctx, w.to-w.now()) // the goroutines look at ctx
	to := t.usage(ctx)
	wg.Wait()
	return &LoginResult{Callers: cfg.Callers, Duration: cfg.Duration.Seconds(), LogIns: round(float64(done.Load()) / cfg.Duration.Seconds()),
		LogIn: took.read().percentiles(), Errors: errs.read(), Cost: t.cost(from, to, done.Load())}, ctx.Err()
}

func (r *LoginResult) empty() bool { return r.LogIns == 0 }

func (r *LoginResult) print(cfg Common, relay string) {
	rows := [][2]string{
		row("load", "%d callers, %.0f s", r.Callers, r.Duration),
		row("log-ins", "%s", perSecond(r.LogIns)),
		latency("log-in", r.LogIn),
	}
	rows = append(rows, errorRows(r.Errors)...)
	table(cfg.Out, fmt.Sprintf("obscura bench login: %s", relay), append(rows, r.costRows()...)...)
}
