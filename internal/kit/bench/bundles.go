package bench

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
)

// BundlesConfig is `obscura bench bundles`.
type BundlesConfig struct {
	Common
	Callers  int           `env:"-" default:"64" placeholder:"N" help:"Requests that are under way at once."`
	Targets  int           `env:"-" default:"200" placeholder:"N" help:"Users whose bundles are fetched, one device each."`
	Hot      bool          `env:"-" help:"All callers fetch the bundles of one user."`
	Kyber    bool          `env:"-" help:"The targets have Kyber one-time keys too."`
	Refill   bool          `env:"-" default:"true" negatable:"" help:"The targets upload new keys as theirs are handed out, within the measured time. Without it they start with 100 each and run dry."`
	Duration time.Duration `env:"-" default:"10s" placeholder:"TIME" help:"How long to measure."`
	Warmup   time.Duration `env:"-" default:"1s" placeholder:"TIME" help:"How long to run before."`
}

// Validate returns one exact sentence for what is wrong. kong calls it.
func (c *BundlesConfig) Validate() error {
	switch {
	case c.Callers < 1 || c.Targets < 1:
		return errors.New("--callers and --targets must be at least 1")
	case c.Duration < 100*time.Millisecond || c.Warmup < 0:
		return errors.New("--duration must be at least 100ms and --warmup not negative")
	}
	return nil
}

// BundlesResult is what `obscura bench bundles` found.
type BundlesResult struct {
	Callers  int     `json:"callers"`
	Targets  int     `json:"targets"`
	Kyber    bool    `json:"kyber"`
	Refill   bool    `json:"refill"`
	Duration float64 `json:"duration_s"`

	Fetched float64 `json:"bundles_per_s"`
	// WithKey counts bundles that held a one-time key.
	WithKey float64     `json:"with_one_time_key_per_s"`
	Refills float64     `json:"refills_per_s"` // uploads of up to 100 keys
	Fetch   Percentiles `json:"fetch_ms"`
	// Twice counts one-time keys that were handed out more than once. It must be 0.
	Twice  int64            `json:"keys_handed_out_twice"`
	Keys   int64            `json:"keys_handed_out"`
	Errors map[string]int64 `json:"errors"`
	Cost
}

// Bundles measures fetches of pre-key bundles.
func Bundles(ctx context.Context, cfg BundlesConfig) (*BundlesResult, error) {
	return run(ctx, cfg.Common, cfg.Callers+64, func(ctx context.Context, t *target) (*BundlesResult, error) {
		return bundles(ctx, cfg, t)
	})
}

const keysPerTarget = 100

func bundles(ctx context.Context, cfg BundlesConfig, t *target) (*BundlesResult, error) {
	if cfg.Hot {
		cfg.Targets = 1
	}
	w := wanted{devices: cfg.Targets, perUser: 1, ec: keysPerTarget}
	if cfg.Kyber {
		w.kyber = keysPerTarget
	}
	p, err := t.populate(ctx, w)
	if err != nil {
		return nil, err
	}
	defer t.farewell(p)
	callers, err := register(ctx, t.entrance, wanted{devices: min(cfg.Callers, devicesPerUser)}, func(int, int) {})
	if err != nil {
		return nil, err
	}
	defer t.farewell(callers)
	b := &bundleLoad{cfg: cfg, api: t.api}
	for _, dev := range p.devices {
		b.targets = append(b.targets, newBundleTarget(dev, cfg.Kyber))
	}
	return b.measure(ctx, t, callers.devices)
}

// bundleLoad is what the callers share.
type bundleLoad struct {
	cfg     BundlesConfig
	api     *api
	window  window
	targets []*bundleTarget
	errors  kinds
	fetch   histogram

	fetched, withKey, refills, keys, twice atomic.Int64
}

func (b *bundleLoad) measure(ctx context.Context, t *target, callers []*device) (*BundlesResult, error) {
	line := newTicker(b.cfg.Progress)
	defer line.end()
	b.window = window{start: time.Now(), from: b.cfg.Warmup, to: b.cfg.Warmup + b.cfg.Duration}
	var wg sync.WaitGroup
	for i := range b.cfg.Callers {
		wg.Go(func() { b.call(ctx, callers[i%len(callers)], i) })
	}
	_ = pause(ctx, b.window.from-b.window.now()) // the loop looks at ctx
	from := t.usage(ctx)
	for last := int64(0); ctx.Err() == nil && b.window.now() < b.window.to; {
		_ = pause(ctx, min(time.Second, b.window.to-b.window.now())) // the loop looks at ctx
		n, now := b.fetched.Load(), b.fetch.read().percentiles()
		line.show("%d bundles, %d in the last second   p50 %s ms p99 %s ms", n, n-last, short(now.P50), short(now.P99))
		last = n
	}
	to := t.usage(ctx)
	wg.Wait()
	for _, target := range b.targets {
		target.refilling.Wait()
	}
	seconds := b.cfg.Duration.Seconds()
	return &BundlesResult{
		Callers: b.cfg.Callers, Targets: len(b.targets), Kyber: b.cfg.Kyber, Refill: b.cfg.Refill, Duration: seconds,
		Fetched: round(float64(b.fetched.Load()) / seconds), WithKey: round(float64(b.withKey.Load()) / seconds),
		Refills: round(float64(b.refills.Load()) / seconds), Fetch: b.fetch.read().percentiles(),
		Twice: b.twice.Load(), Keys: b.keys.Load(), Errors: b.errors.read(), Cost: t.cost(from, to, b.fetched.Load()),
	}, ctx.Err()
}

// call fetches one bundle after another.
func (b *bundleLoad) call(ctx context.Context, caller *device, number int) {
	for n := number; ctx.Err() == nil && b.window.now() < b.window.to; n++ {
		target := b.targets[n%len(b.targets)]
		began := b.window.now()
		var got []fetched
		err := b.api.do("GET", target.path, caller.token(ctx), "", nil, func(body []byte) error {
			return json.Unmarshal(body, &got)
		})
		now := b.window.now()
		if err != nil {
			b.errors.add(kindOf(err))
			_ = pause(ctx, 100*time.Millisecond) // the loop looks at ctx
			continue
		}
		key := int64(0)
		if len(got) == 1 && got[0].OneTimePreKey != nil {
			key = 1
			if target.handOut(got[0]) {
				b.twice.Add(1)
			}
			b.keys.Add(1)
		}
		if b.window.holds(began) {
			b.fetch.record(now - began)
		}
		if b.window.holds(now) {
			b.fetched.Add(1)
			b.withKey.Add(key)
		}
		if key == 1 && b.cfg.Refill {
			target.refill(ctx, b)
		}
	}
}

// fetched is what the load needs of a PreKeyBundle.
type fetched struct {
	DeviceID      uuid.UUID             `json:"deviceId"`
	OneTimePreKey *client.OneTimePreKey `json:"oneTimePreKey"`
}

func (r *BundlesResult) empty() bool { return r.Fetched == 0 }

func (r *BundlesResult) figures() []figure {
	return []figure{
		{"bundles/s", r.Fetched, false}, {"bundles with a one-time key/s", r.WithKey, false},
		{"fetch, p50 ms", r.Fetch.P50, true}, {"fetch, p99 ms", r.Fetch.P99, true},
		{"CPU of relay and PostgreSQL, µs a bundle", r.cpu(), true},
	}
}

func (r *BundlesResult) print(cfg Common, relay string) {
	keys := "100 one-time keys each at the start and no refill"
	if r.Refill {
		keys = "refilled by their owners within the measured time"
	}
	rows := [][2]string{
		row("load", "%d callers, %d targets, %s, %.0f s", r.Callers, r.Targets, keys, r.Duration),
		row("bundles", "%s, %s of them with a one-time key", perSecond(r.Fetched), perSecond(r.WithKey)),
		row("refills", "%.1f/s", r.Refills),
		latency("fetch", r.Fetch),
		row("keys handed out twice", "%d of %d", r.Twice, r.Keys),
	}
	rows = append(rows, errorRows(r.Errors)...)
	table(cfg.Out, "obscura bench bundles: "+relay, append(rows, r.costRows()...)...)
}
