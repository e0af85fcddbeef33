package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// BacklogConfig is `obscura bench backlog`.
type BacklogConfig struct {
	Common
	Devices   int           `env:"-" default:"100" placeholder:"N" help:"Devices that come back."`
	Envelopes int           `env:"-" default:"1000" placeholder:"N" help:"Envelopes that wait for each; a mailbox holds 1000."`
	Size      int           `env:"-" default:"512" placeholder:"BYTES" help:"Size of a message."`
	Patience  time.Duration `env:"-" default:"2m" placeholder:"TIME" help:"How long all of it may take to arrive."`
}

// Validate returns one exact sentence for what is wrong. kong calls it.
func (c *BacklogConfig) Validate() error {
	switch {
	case c.Devices < 1 || c.Envelopes < 1:
		return errors.New("--devices and --envelopes must be at least 1")
	case c.Size < payloadHeader || c.Size > 16<<10:
		return fmt.Errorf("--size must be from %d to 16384 bytes", payloadHeader)
	case c.Patience < time.Second:
		return errors.New("--patience must be at least 1s")
	}
	return nil
}

// BacklogResult is what `obscura bench backlog` found.
type BacklogResult struct {
	Devices   int `json:"devices"`
	Envelopes int `json:"envelopes_per_device"`
	Size      int `json:"size"`
	// Filled is how fast the mailboxes were filled, Drained how fast all devices together got what
	// waited, from the first ticket to the last envelope.
	Filled  float64 `json:"filled_per_s"`
	Drained float64 `json:"drained_per_s"`
	// PerDevice is how long a device took from its ticket to its last envelope.
	PerDevice  Percentiles      `json:"device_ms"`
	Lost       int64            `json:"lost"`
	Duplicated int64            `json:"duplicated"`
	OutOfOrder int64            `json:"out_of_order"`
	Errors     map[string]int64 `json:"errors"`
	Cost
}

// Backlog measures devices that come back to full mailboxes.
func Backlog(ctx context.Context, cfg BacklogConfig) (*BacklogResult, error) {
	return run(ctx, cfg.Common, 128, func(ctx context.Context, t *target) (*BacklogResult, error) {
		return backlog(ctx, cfg, t)
	})
}

func backlog(ctx context.Context, cfg BacklogConfig, t *target) (*BacklogResult, error) {
	p, err := t.populate(ctx, wanted{devices: cfg.Devices})
	if err != nil {
		return nil, err
	}
	defer t.farewell(p)
	line := newTicker(cfg.Progress)
	defer line.end()
	l := newLoad(t.api, p, cfg.Size, min(100, cfg.Envelopes), 0)
	l.window = window{start: time.Now(), to: 24 * time.Hour}
	line.show("filling the mailboxes")
	if err := l.fillBoxes(ctx, cfg); err != nil {
		return nil, err
	}
	filled := l.window.now()

	line.show("draining")
	var perDevice histogram
	left := make([]atomic.Int64, cfg.Devices)
	for i := range left {
		left[i].Store(int64(cfg.Envelopes / l.batch * l.batch))
	}
	all, drained := make(chan struct{}), atomic.Int64{}
	receivers := l.receivers(newDialer(t.api))
	began := time.Now()
	for _, r := range receivers {
		r.take = func(r *receiver, f *frame) {
			l.take(r, f)
			if n := int64(len(f.envelopes)); n > 0 && left[r.number].Add(-n) == 0 {
				perDevice.record(time.Since(began))
				if drained.Add(1) == int64(cfg.Devices) {
					close(all)
				}
			}
		}
	}
	from := t.usage(ctx)
	sockets, hangUp := context.WithTimeout(ctx, cfg.Patience)
	done, err := connectAll(sockets, receivers, func(n, of int) { line.show("draining: %d of %d connected", n, of) })
	defer done()
	defer hangUp()
	if err != nil {
		return nil, err
	}
	select {
	case <-all:
	case <-sockets.Done(): // what has not come is lost
	}
	took, to := time.Since(began), t.usage(ctx)
	a := l.ledger.balance()
	return &BacklogResult{Devices: cfg.Devices, Envelopes: cfg.Envelopes / l.batch * l.batch, Size: cfg.Size,
		Filled: round(float64(a.accepted) / filled.Seconds()), Drained: round(float64(a.delivered) / took.Seconds()),
		PerDevice: perDevice.read().percentiles(), Lost: l.ledger.lost(a), Duplicated: a.duplicated,
		OutOfOrder: l.ledger.twisty.Load(), Errors: l.errors.read(), Cost: t.cost(from, to, a.delivered)}, ctx.Err()
}

// fillBoxes sends every device its envelopes, in full requests, a few at a time.
func (l *load) fillBoxes(ctx context.Context, cfg BacklogConfig) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	for i := range min(16, cfg.Devices) {
		wg.Go(func() {
			to := 0
			s := l.sender(i, func() int { return to })
			for ctx.Err() == nil {
				to = int(next.Add(1) - 1)
				if to >= cfg.Devices {
					return
				}
				for range cfg.Envelopes / l.batch {
					for after := s.once(ctx, l.window.now()); after > 0 && pause(ctx, after) == nil; {
						after = s.once(ctx, l.window.now())
					}
				}
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

func (r *BacklogResult) empty() bool { return r.Drained == 0 }

func (r *BacklogResult) figures() []figure {
	return []figure{
		{"drained/s", r.Drained, false}, {"a device, p50 ms", r.PerDevice.P50, true},
		{"a device, p99 ms", r.PerDevice.P99, true},
		{"CPU of relay and PostgreSQL, µs an envelope", r.cpu(), true},
	}
}

func (r *BacklogResult) print(cfg Common, relay string) {
	rows := [][2]string{
		row("load", "%d devices come back to %d envelopes of %d bytes each", r.Devices, r.Envelopes, r.Size),
		row("filled", "%s, 100 a request", perSecond(r.Filled)),
		row("drained", "%s", perSecond(r.Drained)),
		latency("a device, from ticket to last envelope", r.PerDevice),
		row("lost", "%d", r.Lost), row("duplicated", "%d", r.Duplicated), row("out of order", "%d", r.OutOfOrder),
	}
	rows = append(rows, errorRows(r.Errors)...)
	table(cfg.Out, "obscura bench backlog: "+relay, append(rows, r.costRows()...)...)
}
