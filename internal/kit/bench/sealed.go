package bench

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/obscura-relay/obscura/gen/client"
)

// SealedResult is what `obscura bench relay --sealed` found.
type SealedResult struct {
	// Turns are one measurement with named requests and one with sealed ones, each; in Peer stand
	// the named ones.
	Turns []pair[*RelayResult] `json:"turns"`
	// Ratios are of sealed ones to named ones.
	Ratios []comparison `json:"ratios"`
}

func (r *SealedResult) empty() bool {
	return slices.ContainsFunc(r.Turns, func(p pair[*RelayResult]) bool { return p.Relay.empty() || p.Peer.empty() })
}
func (r *SealedResult) figures() []figure { return nil } // it has no peer

func (r *SealedResult) print(cfg Common, relay string) {
	for _, p := range r.Turns {
		p.Peer.print(cfg, relay+", named requests")
		p.Relay.print(cfg, relay+", sealed requests")
	}
	printComparisons(cfg.Out, fmt.Sprintf("in turns: medians of %d pairs; a ratio above 1 is in favour of the sealed requests",
		len(r.Turns)), "sealed\tnamed", r.Ratios)
}

// Sealed compares sealed requests with named ones, on one relay in turns. Which of them is first
// changes in every pair.
func Sealed(ctx context.Context, cfg RelayConfig) (*SealedResult, error) {
	return run(ctx, cfg.Common, cfg.Senders+64, func(ctx context.Context, t *target) (*SealedResult, error) {
		p, err := t.populate(ctx, wanted{devices: cfg.Devices})
		if err != nil {
			return nil, err
		}
		defer t.farewell(p)
		if err := p.giveTokens(ctx); err != nil {
			return nil, err
		}
		r := &SealedResult{Turns: make([]pair[*RelayResult], cfg.Rounds)}
		for i := range r.Turns {
			turns := []bool{true, false}
			if i%2 == 1 {
				slices.Reverse(turns)
			}
			for _, sealed := range turns {
				l := newLoad(t.api, p, cfg.Size, cfg.Batch, cfg.Rate)
				l.sealed = sealed
				result, err := l.measure(ctx, cfg, t)
				if err != nil {
					return nil, err
				}
				if sealed {
					r.Turns[i].Relay = result
				} else {
					r.Turns[i].Peer = result
				}
			}
		}
		r.Ratios = compare(r.Turns)
		return r, nil
	})
}

// giveTokens makes a delivery token for every user.
func (p *people) giveTokens(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(registrars)
	given := map[*user]bool{}
	for _, d := range p.devices {
		if given[d.user] {
			continue
		}
		given[d.user] = true
		d.user.delivery = make([]byte, sha256.Size)
		_, _ = rand.Read(d.user.delivery) // it does not fail
		g.Go(func() error {
			hash := sha256.Sum256(d.user.delivery)
			got, err := d.session.API().ChangeDeliveryTokensWithResponse(ctx,
				client.DeliveryTokenChange{Add: []client.NewDeliveryToken{{Hash: hash[:]}}})
			if err == nil && got.StatusCode() != http.StatusOK {
				err = fmt.Errorf("a delivery token was refused with status %d", got.StatusCode())
			}
			return err
		})
	}
	return g.Wait()
}
