package bench

import (
	"context"
	"errors"
	"fmt"
)

// A result is what a scenario found.
type result interface {
	// print writes the table; relay says what was loaded.
	print(cfg Common, relay string)
	// empty reports that nothing of what the scenario is about was done.
	empty() bool
	// figures are what is compared with a peer's.
	figures() []figure
}

// run opens the relay, measures it and reports. When nothing was done it returns the result, which
// says what was refused, and an error.
func run[R result](ctx context.Context, cfg Common, conns int, scenario func(context.Context, *target) (R, error)) (R,
	error) {
	if cfg.Peer != "" {
		return versus(ctx, cfg, conns, scenario)
	}
	found, err := once(ctx, cfg, conns, scenario)
	if err != nil {
		return found, err
	}
	return found, save(cfg.JSON, found)
}

// once measures one relay once.
func once[R result](ctx context.Context, cfg Common, conns int, scenario func(context.Context, *target) (R, error)) (R,
	error) {
	var none R
	t, err := open(ctx, cfg, conns)
	if err != nil {
		return none, err
	}
	found, err := scenario(ctx, t)
	if err := errors.Join(err, t.close()); err != nil {
		return none, err
	}
	found.print(cfg, t.describe())
	if found.empty() {
		return found, fmt.Errorf("%s did nothing of what was asked; the table lists the errors", t.describe())
	}
	return found, nil
}
