package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// A figure is one number that is compared with a peer's.
type figure struct {
	name  string
	value float64 // 0 when it is not known
	less  bool    // less is better
}

// comparison is a figure of two relays that were measured in turns.
type comparison struct {
	Name  string  `json:"figure"`
	Relay float64 `json:"relay"` // medians
	Peer  float64 `json:"peer"`
	// Ratio is the median of the pairs' ratios, Least and Most are their spread. Above 1 the relay
	// is better than the peer, whether more or less of the figure is better.
	Ratio float64 `json:"ratio"`
	Least float64 `json:"least"`
	Most  float64 `json:"most"`
}

// pair is two measurements, one right after the other.
type pair[R any] struct {
	Relay R `json:"relay"`
	Peer  R `json:"peer"`
}

// versus measures a relay and its peer in turns. The turn changes in every pair, so that neither
// always finds the machine as the other left it. It returns the relay's last result.
func versus[R result](ctx context.Context, cfg Common, conns int,
	scenario func(context.Context, *target) (R, error)) (last R, err error) {
	if cfg.Rounds < 1 {
		return last, errors.New("--rounds must be at least 1")
	}
	peer := cfg
	peer.URL, peer.PID, peer.Management = cfg.Peer, cfg.PeerPID, ""
	pairs := make([]pair[R], cfg.Rounds)
	for i := range pairs {
		turns := []func() error{
			func() (err error) { pairs[i].Relay, err = once(ctx, cfg, conns, scenario); return err },
			func() (err error) { pairs[i].Peer, err = once(ctx, peer, conns, scenario); return err },
		}
		if i%2 == 1 {
			slices.Reverse(turns)
		}
		for _, turn := range turns {
			if err := turn(); err != nil {
				return last, err
			}
		}
		last = pairs[i].Relay
	}
	found := compare(pairs)
	printComparisons(cfg.Out, fmt.Sprintf("in turns with the peer at %s: medians of %d pairs; a ratio above 1 is in favour "+
		"of the relay", cfg.Peer, cfg.Rounds), "relay\tpeer", found)
	return last, save(cfg.JSON, map[string]any{"pairs": pairs, "ratios": found})
}

// compare leaves out what is not known of both in every pair.
func compare[R interface{ figures() []figure }](pairs []pair[R]) (found []comparison) {
	for f, figure := range pairs[0].Relay.figures() {
		var ours, theirs, ratios []float64
		for _, p := range pairs {
			a, b := p.Relay.figures()[f].value, p.Peer.figures()[f].value
			if a <= 0 || b <= 0 {
				break
			}
			ratio := a / b
			if figure.less {
				ratio = b / a
			}
			ours, theirs, ratios = append(ours, a), append(theirs, b), append(ratios, ratio)
		}
		if len(ratios) < len(pairs) {
			continue
		}
		found = append(found, comparison{Name: figure.name, Relay: round(median(ours)), Peer: round(median(theirs)),
			Ratio: round(median(ratios)), Least: round(slices.Min(ratios)), Most: round(slices.Max(ratios))})
	}
	return found
}

func median(values []float64) float64 {
	sorted := slices.SortedFunc(slices.Values(values), cmp.Compare[float64])
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func printComparisons(out io.Writer, title, columns string, found []comparison) {
	if out == nil {
		return
	}
	fmt.Fprintf(out, "\n%s\n", title)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "  figure\t%s\tratio\tleast\tmost\n", columns)
	for _, c := range found {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\n", c.Name, short(c.Relay), short(c.Peer), short(c.Ratio),
			short(c.Least), short(c.Most))
	}
	_ = w.Flush()
}
