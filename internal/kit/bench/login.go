package bench

import (
	"context"
	"errors"
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
	return run(ctx, cfg.Common, cfg.Callers+16, func(ctx context.Context, t *target) (*LoginResult, error) {
		return login(ctx, cfg, t)
	})
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
	s, err := t.storm(ctx, p.devices, cfg.Warmup, cfg.Duration, func(_ int, dev *device) error {
		var auth client.AuthResponse
		err := t.api.call("POST", "/v1/sessions", "", client.LogIn{Username: dev.user.name, Password: dev.user.password,
			DeviceID: &dev.id}, &auth)
		if err == nil && auth.Token == "" {
			err = errors.New("an answer without a token")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &LoginResult{Callers: cfg.Callers, Duration: cfg.Duration.Seconds(), LogIns: s.perSecond, LogIn: s.took,
		Errors: s.errors, Cost: s.cost}, nil
}

func (r *LoginResult) empty() bool { return r.LogIns == 0 }

func (r *LoginResult) figures() []figure {
	return []figure{
		{"log-ins/s", r.LogIns, false}, {"log-in, p50 ms", r.LogIn.P50, true}, {"log-in, p99 ms", r.LogIn.P99, true},
		{"CPU of relay and PostgreSQL, µs a log-in", r.cpu(), true},
	}
}

func (r *LoginResult) print(cfg Common, relay string) {
	rows := [][2]string{
		row("load", "%d callers, %.0f s", r.Callers, r.Duration),
		row("log-ins", "%s", perSecond(r.LogIns)),
		latency("log-in", r.LogIn),
	}
	rows = append(rows, errorRows(r.Errors)...)
	table(cfg.Out, "obscura bench login: "+relay, append(rows, r.costRows()...)...)
}
