package bench

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// IdleConfig is `obscura bench idle`.
type IdleConfig struct {
	Common
	Sockets int           `env:"-" default:"10000" placeholder:"N" help:"Devices that are connected and do nothing."`
	Hold    time.Duration `env:"-" default:"35s" placeholder:"TIME" help:"How long to hold them; a relay pings every 30 s."`
}

// Validate returns one exact sentence for what is wrong. kong calls it.
func (c *IdleConfig) Validate() error {
	if c.Sockets < 1 || c.Hold < 100*time.Millisecond {
		return errors.New("--sockets must be at least 1 and --hold at least 100ms")
	}
	return nil
}

// IdleResult is what `obscura bench idle` found. What needs a look at the relay is absent without
// one.
type IdleResult struct {
	Sockets int     `json:"sockets"`
	Hold    float64 `json:"hold_s"`
	// Connects is how many sockets were opened a second, ticket included.
	Connects float64 `json:"connects_per_s"`
	// Before and the following are resident memory of the relay, in bytes: before the first socket,
	// when all were open, and at the end.
	Before    *int64 `json:"rss_before_bytes,omitempty"`
	Connected *int64 `json:"rss_connected_bytes,omitempty"`
	Held      *int64 `json:"rss_held_bytes,omitempty"`
	// PerSocket is (Held-Before)/Sockets.
	PerSocket *float64 `json:"rss_bytes_per_socket,omitempty"`
	// HeapPerSocket and StackPerSocket are what the Go runtime has in use, per socket.
	HeapPerSocket  *float64 `json:"heap_bytes_per_socket,omitempty"`
	StackPerSocket *float64 `json:"stack_bytes_per_socket,omitempty"`
	Goroutines     *float64 `json:"goroutines_per_socket,omitempty"`
	// CPUPerSocket is CPU time of the relay while they were held, in microseconds a second and
	// socket.
	CPUPerSocket *float64         `json:"relay_cpu_us_per_socket_s,omitempty"`
	Broken       int64            `json:"broken"`
	Errors       map[string]int64 `json:"errors"`
	Cost
}

// Idle measures what connected devices cost that do nothing.
func Idle(ctx context.Context, cfg IdleConfig) (*IdleResult, error) {
	return run(ctx, cfg.Common, 256, func(ctx context.Context, t *target) (*IdleResult, error) {
		return idle(ctx, cfg, t)
	})
}

func idle(ctx context.Context, cfg IdleConfig, t *target) (*IdleResult, error) {
	p, err := t.populate(ctx, wanted{devices: cfg.Sockets})
	if err != nil {
		return nil, err
	}
	defer t.farewell(p)
	line := newTicker(cfg.Progress)
	defer line.end()
	var kinds kinds
	var broken atomic.Int64
	receivers := make([]*receiver, cfg.Sockets)
	d := newDialer(t.api)
	for i, dev := range p.devices {
		receivers[i] = &receiver{dialer: d, device: dev, number: i, take: func(*receiver, *frame) {},
			acked: func(int) {},
			fail:  func(err error) { broken.Add(1); kinds.add(kindOf(err)) }}
	}
	before, beforeHeap := t.resident(), t.scrape()
	sockets, hangUp := context.WithCancel(ctx)
	began := time.Now()
	done, err := connectAll(sockets, receivers, func(n, of int) { line.show("connecting %d of %d", n, of) })
	defer done()
	defer hangUp()
	if err != nil {
		return nil, err
	}
	r := &IdleResult{Sockets: cfg.Sockets, Hold: cfg.Hold.Seconds(),
		Connects: round(float64(cfg.Sockets) / time.Since(began).Seconds())}
	connected := t.resident()
	line.show("holding %d sockets for %s", cfg.Sockets, cfg.Hold)
	from := t.usage(ctx)
	if err := pause(ctx, cfg.Hold); err != nil {
		return nil, err
	}
	to := t.usage(ctx)
	r.Cost, r.Broken, r.Errors = t.cost(from, to, int64(cfg.Sockets)), broken.Load(), kinds.read()
	r.memory(before, connected, t.resident(), beforeHeap, t.scrape())
	if r.RelayCPU != nil {
		r.CPUPerSocket = ptr(round(*r.RelayCPU * 1e6 / cfg.Hold.Seconds() / float64(cfg.Sockets)))
	}
	r.CPUPerThousand, r.DatabasePerThousand, r.WALPerOperation = nil, nil, nil // of nothing
	return r, nil
}

func (r *IdleResult) memory(before, connected, held int64, beforeHeap, heldHeap map[string]float64) {
	if before > 0 && held > 0 {
		r.Before, r.Connected, r.Held = &before, &connected, &held
		r.PerSocket = ptr(round(float64(held-before) / float64(r.Sockets)))
	}
	if beforeHeap == nil || heldHeap == nil {
		return
	}
	per := func(name string) *float64 {
		return ptr(round((heldHeap[name] - beforeHeap[name]) / float64(r.Sockets)))
	}
	r.HeapPerSocket, r.StackPerSocket = per("go_memstats_heap_inuse_bytes"), per("go_memstats_stack_inuse_bytes")
	r.Goroutines = per("go_goroutines")
}

func (r *IdleResult) empty() bool { return r.Connects == 0 }

func (r *IdleResult) figures() []figure {
	return []figure{
		{"connected/s", r.Connects, false}, {"resident bytes a socket", value(r.PerSocket), true},
		{"relay CPU, µs a second and socket", value(r.CPUPerSocket), true},
	}
}

func (r *IdleResult) print(cfg Common, relay string) {
	rows := [][2]string{
		row("load", "%d sockets, held for %.0f s", r.Sockets, r.Hold),
		row("connected", "%s", perSecond(r.Connects)),
		row("broken", "%d", r.Broken),
	}
	if r.PerSocket != nil {
		rows = append(rows, row("relay memory", "%.1f KiB resident a socket (%s before, %s connected, %s at the end)",
			*r.PerSocket/1024, megabytes(*r.Before), megabytes(*r.Connected), megabytes(*r.Held)))
	}
	if r.Goroutines != nil {
		rows = append(rows, row("of which", "heap %.1f KiB, stacks %.1f KiB in use, %.2f goroutines a socket",
			*r.HeapPerSocket/1024, *r.StackPerSocket/1024, *r.Goroutines))
	}
	if r.CPUPerSocket != nil {
		rows = append(rows, row("relay CPU", "%.1f microseconds a second and socket", *r.CPUPerSocket))
	}
	rows = append(rows, errorRows(r.Errors)...)
	table(cfg.Out, "obscura bench idle: "+relay, append(rows, r.costRows()...)...)
}
