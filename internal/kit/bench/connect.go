package bench

import (
	"context"
	"errors"
	"time"
)

// ConnectConfig is `obscura bench connect`.
type ConnectConfig struct {
	Common
	Callers  int           `env:"-" default:"64" placeholder:"N" help:"Devices that connect at once, 1 to 250."`
	Duration time.Duration `env:"-" default:"10s" placeholder:"TIME" help:"How long to measure."`
	Warmup   time.Duration `env:"-" default:"1s" placeholder:"TIME" help:"How long to run before."`
}

// Validate returns one exact sentence for what is wrong. kong calls it.
func (c *ConnectConfig) Validate() error {
	if c.Callers < 1 || c.Callers > 250 || c.Duration < 100*time.Millisecond || c.Warmup < 0 {
		return errors.New("--callers must be from 1 to 250, --duration at least 100ms and --warmup not negative")
	}
	return nil
}

// ConnectResult is what `obscura bench connect` found.
type ConnectResult struct {
	Callers  int              `json:"callers"`
	Duration float64          `json:"duration_s"`
	Opened   float64          `json:"sockets_opened_per_s"`
	Open     Percentiles      `json:"open_ms"` // from the request of a ticket to the answer to the upgrade
	Errors   map[string]int64 `json:"errors"`
	Cost
}

// Connect measures devices that fetch a ticket, open the gateway and close it, again and again.
func Connect(ctx context.Context, cfg ConnectConfig) (*ConnectResult, error) {
	return run(ctx, cfg.Common, cfg.Callers+16, func(ctx context.Context, t *target) (*ConnectResult, error) {
		return connect(ctx, cfg, t)
	})
}

func connect(ctx context.Context, cfg ConnectConfig, t *target) (*ConnectResult, error) {
	p, err := t.populate(ctx, wanted{devices: cfg.Callers})
	if err != nil {
		return nil, err
	}
	defer t.farewell(p)
	line := newTicker(cfg.Progress)
	defer line.end()
	line.show("connecting")
	d := newDialer(t.api)
	s, err := t.storm(ctx, p.devices, cfg.Warmup, cfg.Duration, func(i int, dev *device) error {
		// From an address of its own: a port rests for a minute after its socket.
		conn, err := d.connect(ctx, dev, i*portsPerAddress)
		if err != nil {
			return err
		}
		_ = conn.Close() // it was opened, which is what counts
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ConnectResult{Callers: cfg.Callers, Duration: cfg.Duration.Seconds(), Opened: s.perSecond, Open: s.took,
		Errors: s.errors, Cost: s.cost}, nil
}

func (r *ConnectResult) empty() bool { return r.Opened == 0 }

func (r *ConnectResult) figures() []figure {
	return []figure{
		{"sockets opened/s", r.Opened, false}, {"ticket and upgrade, p50 ms", r.Open.P50, true},
		{"ticket and upgrade, p99 ms", r.Open.P99, true}, {"CPU of relay and PostgreSQL, µs a socket", r.cpu(), true},
	}
}

func (r *ConnectResult) print(cfg Common, relay string) {
	rows := [][2]string{
		row("load", "%d devices, %.0f s", r.Callers, r.Duration),
		row("sockets opened", "%s", perSecond(r.Opened)),
		latency("ticket and upgrade", r.Open),
	}
	rows = append(rows, errorRows(r.Errors)...)
	table(cfg.Out, "obscura bench connect: "+relay, append(rows, r.costRows()...)...)
}
