package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
)

// RelayConfig is `obscura bench relay`.
type RelayConfig struct {
	Common
	Devices  int           `env:"-" default:"1000" placeholder:"N" help:"Devices that are connected and receive."`
	Senders  int           `env:"-" default:"256" placeholder:"N" help:"Requests that may be under way at once."`
	Size     int           `env:"-" default:"512" placeholder:"BYTES" help:"Size of a message."`
	Batch    int           `env:"-" default:"1" placeholder:"N" help:"Submissions in a request, 1 to 100."`
	Rate     float64       `env:"-" placeholder:"N" help:"Messages per second to offer. Without it every sender sends as fast as it is answered."`
	Duration time.Duration `env:"-" default:"10s" placeholder:"TIME" help:"How long to measure."`
	Warmup   time.Duration `env:"-" default:"2s" placeholder:"TIME" help:"How long to run before."`
	NoKey    bool          `name:"without-key" env:"-" help:"Send no Idempotency-Key: the relay derives one from the submission ids. Not every relay does."`
	Floor    bool          `env:"-" help:"Afterwards write the same rows through the same statements, without HTTP and WebSocket, and compare."`
	Sealed   bool          `env:"-" help:"Compare, in turns, sealed requests with named ones: as many pairs as --rounds says."`
	Shared   bool          `env:"-" help:"Compare, in turns, one request with a shared body and the same mail as submissions, 100 a request. One sender, whatever --senders says."`
	// Recipients and Prefix are of --shared.
	Recipients int    `env:"-" default:"300" placeholder:"N" help:"With --shared: devices that a body goes to, 1 to 1000."`
	Prefix     int    `env:"-" default:"49" placeholder:"BYTES" help:"With --shared: what each recipient has of its own before the body, 0 to 256."`
	Picture    string `env:"-" type:"path" placeholder:"FILE.svg" help:"Draw the latencies."`
}

// Validate returns one exact sentence for what is wrong. kong calls it.
func (c *RelayConfig) Validate() error {
	switch {
	case c.Devices < 1 || c.Senders < 1:
		return errors.New("--devices and --senders must be at least 1")
	case c.Size < payloadHeader || c.Size > 256<<10:
		return fmt.Errorf("--size must be from %d to 262144 bytes", payloadHeader)
	case c.Batch < 1 || c.Batch > 100:
		return errors.New("--batch must be from 1 to 100")
	case c.Batch*(c.Size+64) > 2<<20:
		return errors.New("--batch and --size make a request larger than 2 MiB")
	case c.Rate < 0:
		return errors.New("--rate must not be negative")
	case c.Duration < 100*time.Millisecond || c.Warmup < 0:
		return errors.New("--duration must be at least 100ms and --warmup not negative")
	case c.Sealed && (c.Shared || c.Floor || c.Picture != "" || c.Peer != "" || c.NoKey):
		return errors.New("--sealed is a measurement of its own; leave out --shared, --floor, --picture, --peer and " +
			"--without-key")
	case c.Sealed && c.Rounds < 1:
		return errors.New("--rounds must be at least 1")
	case c.Shared && (c.Floor || c.Picture != "" || c.Peer != "" || c.Rate != 0 || c.Batch != 1):
		return errors.New("--shared is a measurement of its own; leave out --floor, --picture, --peer, --rate and --batch")
	case c.Shared && (c.Recipients < 1 || c.Recipients > min(c.Devices, core.MaxRecipients)):
		return errors.New("--recipients must be from 1 to 1000, and not more than --devices")
	case c.Shared && (c.Prefix < 0 || c.Prefix > core.MaxPrefix):
		return errors.New("--prefix must be from 0 to 256 bytes")
	case c.Shared && (c.Prefix+c.Size > core.MaxMessage || c.Recipients*(c.Prefix+c.Size) > core.MaxExpanded):
		return errors.New("--size, --prefix and --recipients make a message larger than 256 KiB or a request " +
			"larger than 4 MiB")
	case (c.Floor || c.Picture != "") && c.Peer != "":
		return errors.New("--floor and --picture are of one relay; leave out --peer")
	case c.Floor && c.URL != "" && c.DatabaseURL == "":
		return errors.New("--floor needs --database-url, since the relay at --url is not ours")
	}
	return nil
}

// RelayResult is what `obscura bench relay` found. Rates count what happened within the measured
// time; latencies count what was due within it, whenever it ended.
type RelayResult struct {
	Devices  int     `json:"devices"`
	Senders  int     `json:"senders"`
	Size     int     `json:"size"`
	Batch    int     `json:"batch"`
	Rate     float64 `json:"offered_per_s"` // 0 for a closed loop
	Duration float64 `json:"duration_s"`

	Accepted  float64 `json:"accepted_per_s"`
	Delivered float64 `json:"delivered_per_s"`
	// Acked counts envelopes whose acknowledgement was sent to the relay; SettledPerS those that
	// the relay has worked on, which only its metrics tell.
	Acked       float64  `json:"acked_per_s"`
	SettledPerS *float64 `json:"relay_acked_per_s,omitempty"`

	Lost        int64 `json:"lost"`
	Duplicated  int64 `json:"duplicated"`
	AcceptedAll int64 `json:"accepted"`
	DeliveredOf int64 `json:"delivered"`
	// Unconfirmed arrived although their request was answered with an error or not at all.
	Unconfirmed int64 `json:"unconfirmed"`
	// InGaps is how many envelopes the relay reported as dropped.
	InGaps int64 `json:"reported_in_gaps"`
	// OutOfOrder arrived after a later one of the same sender, Misdelivered at another device,
	// Alien were not of this run.
	OutOfOrder   int64 `json:"out_of_order"`
	Misdelivered int64 `json:"misdelivered"`
	Alien        int64 `json:"alien"`

	Send     Percentiles  `json:"send_ms"`
	EndToEnd Percentiles  `json:"e2e_ms"`
	Late     *Percentiles `json:"generator_late_ms,omitempty"`

	Errors map[string]int64 `json:"errors"`
	Cost

	Floor      *float64 `json:"floor_per_s,omitempty"`
	FloorRatio *float64 `json:"floor_ratio,omitempty"`
}

// Relay measures messages from senders to connected devices.
func Relay(ctx context.Context, cfg RelayConfig) (*RelayResult, error) {
	return run(ctx, cfg.Common, cfg.Senders+64, func(ctx context.Context, t *target) (*RelayResult, error) {
		return relay(ctx, cfg, t)
	})
}

func relay(ctx context.Context, cfg RelayConfig, t *target) (*RelayResult, error) {
	p, err := t.populate(ctx, wanted{devices: cfg.Devices})
	if err != nil {
		return nil, err
	}
	defer t.farewell(p)
	l := newLoad(t.api, p, cfg.Size, cfg.Batch, cfg.Rate)
	l.noKey = cfg.NoKey
	result, err := l.measure(ctx, cfg, t)
	if err != nil {
		return nil, err
	}
	if cfg.Floor {
		floor, err := t.floor(ctx, p, cfg)
		if err != nil {
			return nil, fmt.Errorf("the floor could not be measured: %w", err)
		}
		result.Floor, result.FloorRatio = ptr(round(floor)), ptr(round(result.Delivered/floor))
	}
	if cfg.Picture != "" {
		return result, drawLatencies(cfg.Picture, result, l.send.read(), l.endToEnd.read())
	}
	return result, nil
}

// measure runs the load once and waits for what is still under way.
func (l *load) measure(ctx context.Context, cfg RelayConfig, t *target) (*RelayResult, error) {
	line := newTicker(cfg.Progress)
	defer line.end()
	sockets, hangUp := context.WithCancel(ctx)
	l.window = window{start: time.Now(), from: cfg.Warmup, to: cfg.Warmup + cfg.Duration}
	done, err := connectAll(sockets, l.receivers(newDialer(t.api)), func(n, of int) {
		line.show("connecting %d of %d", n, of)
	})
	defer done()
	defer hangUp()
	if err != nil {
		return nil, err
	}
	l.window.start = time.Now()
	var senders sync.WaitGroup
	for i := range cfg.Senders {
		senders.Go(func() { l.sender(i, nil).run(ctx) })
	}
	from, to := l.watch(ctx, t, line)
	senders.Wait()
	line.show("waiting for what is under way")
	balance := l.await(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return l.result(cfg, t, from, to, balance), nil
}

// receivers makes one for every device.
func (l *load) receivers(d *dialer) []*receiver {
	receivers := make([]*receiver, len(l.people.devices))
	for i, dev := range l.people.devices {
		receivers[i] = &receiver{dialer: d, device: dev, number: i, take: l.take,
			fail: func(err error) { l.errors.add(kindOf(err)) },
			acked: func(n int) {
				if l.window.holds(l.window.now()) {
					l.acked.Add(int64(n))
				}
			}}
	}
	return receivers
}

// watch shows the progress until the window ends and returns what was consumed at both its ends.
func (l *load) watch(ctx context.Context, t *target, line *ticker) (from, to usage) {
	if pause(ctx, l.window.from-l.window.now()) == nil {
		from = t.usage(ctx)
	}
	last, lastAccepted, lastDelivered := l.endToEnd.read(), int64(0), int64(0)
	for ctx.Err() == nil && l.window.now() < l.window.to {
		began := l.window.now()
		_ = pause(ctx, min(time.Second, l.window.to-l.window.now())) // the loop looks at ctx
		span := (l.window.now() - began).Seconds()
		now, a, d := l.endToEnd.read(), l.accepted.Load(), l.delivered.Load()
		lately := now.since(last).percentiles()
		line.show("%s of %s   accepted %s   delivered %s   send to receive p50 %s ms p99 %s ms",
			(l.window.now() - l.window.from).Round(time.Second), l.window.to-l.window.from,
			perSecond(float64(a-lastAccepted)/span), perSecond(float64(d-lastDelivered)/span), short(lately.P50),
			short(lately.P99))
		last, lastAccepted, lastDelivered = now, a, d
	}
	return from, t.usage(ctx)
}

// Stragglers have this long in all, and this long without one arriving.
const (
	stragglers = time.Minute
	silence    = 5 * time.Second
)

// await waits until everything that was accepted has arrived, or nothing comes any more.
func (l *load) await(ctx context.Context) account {
	began, quiet := time.Now(), time.Now()
	a := l.ledger.balance()
	for l.ledger.lost(a) > 0 && time.Since(began) < stragglers && time.Since(quiet) < silence {
		if pause(ctx, 100*time.Millisecond) != nil {
			break
		}
		next := l.ledger.balance()
		if next.delivered != a.delivered {
			quiet = time.Now()
		}
		a = next
	}
	return a
}
