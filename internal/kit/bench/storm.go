package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// storm is what callers did who each do one thing again and again.
type storm struct {
	perSecond float64
	took      Percentiles
	errors    map[string]int64
	cost      Cost
}

// storm lets every device do one thing after another for warmup and duration.
func (t *target) storm(ctx context.Context, devices []*device, warmup, duration time.Duration,
	once func(i int, dev *device) error) (*storm, error) {
	w := window{start: time.Now(), from: warmup, to: warmup + duration}
	var errs kinds
	var done atomic.Int64
	var took histogram
	var wg sync.WaitGroup
	for i, dev := range devices {
		wg.Go(func() {
			for ctx.Err() == nil && w.now() < w.to {
				began := w.now()
				if err := once(i, dev); err != nil {
					errs.add(kindOf(err))
					_ = pause(ctx, 100*time.Millisecond) // the loop looks at ctx
					continue
				}
				now := w.now()
				if w.holds(began) {
					took.record(now - began)
				}
				if w.holds(now) {
					done.Add(1)
				}
			}
		})
	}
	_ = pause(ctx, w.from) // the goroutines look at ctx
	from := t.usage(ctx)
	_ = pause(ctx, w.to-w.now()) // the goroutines look at ctx
	to := t.usage(ctx)
	wg.Wait()
	return &storm{perSecond: round(float64(done.Load()) / duration.Seconds()), took: took.read().percentiles(),
		errors: errs.read(),
		cost:   t.cost(from, to, done.Load())}, ctx.Err()
}
