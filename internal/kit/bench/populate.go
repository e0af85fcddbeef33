package bench

import (
	"context"
	"sync"
	"time"
)

// populate registers who takes part, and then renews a relay of our own.
func (t *target) populate(ctx context.Context, w wanted) (*people, error) {
	line := newTicker(t.cfg.Progress)
	defer line.end()
	var mu sync.Mutex
	p, err := register(ctx, t.entrance, w, func(done, of int) {
		mu.Lock()
		defer mu.Unlock()
		line.every("registering: %d of %d devices", done, of)
	})
	if err != nil {
		return nil, err
	}
	if err := t.renew(ctx); err != nil {
		return nil, err
	}
	return p, p.move(t.entrance)
}

// farewellTimeout bounds how long leaving a relay may take.
const farewellTimeout = 2 * time.Minute

// farewell leaves no accounts behind on a relay that is not ours, also after an interruption.
func (t *target) farewell(p *people) {
	if t.own() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), farewellTimeout)
	defer cancel()
	p.leave(ctx)
}
