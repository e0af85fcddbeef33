package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// each tenth submission meets its fate, the others are treated honestly.
func tenth(what fate) func(int) fate {
	return func(n int) fate {
		if n%10 == 0 {
			return what
		}
		return honest
	}
}

func quick(url string) RelayConfig {
	return RelayConfig{Common: Common{URL: url}, Devices: 12, Senders: 4, Size: 100, Batch: 1,
		Duration: 400 * time.Millisecond, Warmup: 50 * time.Millisecond}
}

func TestALyingRelayIsFoundOut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lie   fate
		wrong func(*RelayResult) bool
	}{
		"an honest one is not blamed": {honest, func(r *RelayResult) bool {
			return r.Lost != 0 || r.Duplicated != 0 || r.Unconfirmed != 0 || r.InGaps != 0 || r.OutOfOrder != 0 ||
				r.Misdelivered != 0 || r.Alien != 0 || len(r.Errors) != 0 || r.AcceptedAll != r.DeliveredOf ||
				r.Delivered == 0
		}},
		"it promises and does not deliver": {dropped, func(r *RelayResult) bool {
			return r.Lost == 0 || r.Lost != r.AcceptedAll-r.DeliveredOf || r.Duplicated != 0
		}},
		"what it reports in a gap is not lost": {gapped, func(r *RelayResult) bool {
			return r.Lost != 0 || r.InGaps == 0 || r.InGaps != r.AcceptedAll-r.DeliveredOf
		}},
		"it delivers twice": {doubled, func(r *RelayResult) bool { return r.Duplicated == 0 || r.Lost != 0 }},
		"it delivers to another device": {misplaced, func(r *RelayResult) bool {
			return r.Misdelivered == 0
		}},
		"what it refuses is not lost": {refusedOne, func(r *RelayResult) bool {
			return r.Lost != 0 || r.Errors["submission failed: mailbox full"] == 0 || r.AcceptedAll != r.DeliveredOf
		}},
		"it delivers what it refused": {denied, func(r *RelayResult) bool {
			return r.Lost != 0 || r.Unconfirmed == 0
		}},
		"it is busy and says so": {busy, func(r *RelayResult) bool {
			return r.Lost != 0 || r.Errors["HTTP 503"] == 0 || r.Unconfirmed != 0
		}},
		"it fails, but it did": {broken, func(r *RelayResult) bool {
			return r.Lost != 0 || r.Errors["HTTP 503 without Retry-After"] == 0 || r.Unconfirmed == 0
		}},
		"it changes the order": {late, func(r *RelayResult) bool { return r.OutOfOrder == 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := newFakeRelay(t, tenth(c.lie))
			cfg := quick(fake.URL)
			if c.lie == late { // one sender to one device: the next one comes at once
				cfg.Devices, cfg.Senders = 1, 1
			}
			r, err := Relay(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if c.wrong(r) {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestARunInWhichNothingIsDoneFails(t *testing.T) {
	t.Parallel()
	cfg := quick(newFakeRelay(t, tenth(honest)).URL)
	cfg.NoKey = true // the fake refuses it
	r, err := Relay(t.Context(), cfg)
	if err == nil || r == nil || r.Errors["HTTP 400"] == 0 || r.AcceptedAll != 0 {
		t.Errorf("all sends were refused: %+v, %v", r, err)
	}
	fake := newFakeRelay(t, tenth(honest))
	fake.closed = true
	if _, err = Relay(t.Context(), quick(fake.URL)); err == nil ||
		!strings.Contains(err.Error(), "0 of 12 devices are connected") ||
		!strings.Contains(err.Error(), "403") {
		t.Errorf("all tickets were refused: %v", err)
	}
}

func TestTwoRelaysAreMeasuredInTurns(t *testing.T) {
	t.Parallel()
	fast, slow := newFakeRelay(t, tenth(honest)), newFakeRelay(t, tenth(honest))
	slow.hold = 150 * time.Millisecond
	for _, c := range []struct {
		relay, peer *fakeRelay
		better      bool
	}{{fast, slow, true}, {slow, fast, false}} {
		cfg := quick(c.relay.URL)
		cfg.Peer, cfg.Rounds, cfg.JSON = c.peer.URL, 2, filepath.Join(t.TempDir(), "figures.json")
		var out bytes.Buffer
		cfg.Out = &out
		before := [...]int64{fast.n.Load(), slow.n.Load()}
		if r, err := Relay(t.Context(), cfg); err != nil || r.Delivered == 0 {
			t.Fatal(r, err)
		}
		if fast.n.Load() == before[0] || slow.n.Load() == before[1] {
			t.Error("one of the two was not measured")
		}
		var found struct {
			Pairs  []pair[RelayResult]
			Ratios []comparison
		}
		text, err := os.ReadFile(cfg.JSON)
		if err := errors.Join(err, json.Unmarshal(text, &found)); err != nil {
			t.Fatal(err)
		}
		if len(found.Pairs) != 2 || len(found.Ratios) != 3 { // delivered, p50, p99; no CPU time can be seen
			t.Errorf("%s", text)
		}
		for _, r := range found.Ratios {
			// The slowest of a hundred says nothing about a relay on a machine that is busy.
			tail := strings.Contains(r.Name, "p99")
			if !tail && r.Ratio > 1 != c.better || r.Least > r.Ratio || r.Most < r.Ratio {
				t.Errorf("better %v: %+v", c.better, r)
			}
		}
		if !strings.Contains(out.String(), "medians of 2 pairs") {
			t.Errorf("the table: %s", &out)
		}
	}
}

func TestARatioAboveOneIsInFavourOfTheRelay(t *testing.T) {
	t.Parallel()
	var good, bad RelayResult
	good.Delivered, bad.Delivered = 300, 100
	good.EndToEnd.P50, bad.EndToEnd.P50 = 1, 3
	good.EndToEnd.P99, bad.EndToEnd.P99 = 10, 30
	for _, c := range []struct {
		relay, peer *RelayResult
		ratio       float64
	}{{&good, &bad, 3}, {&bad, &good, 0.333}} {
		found := compare([]pair[*RelayResult]{{Relay: c.relay, Peer: c.peer}})
		if len(found) != 3 {
			t.Errorf("%+v", found)
		}
		for _, r := range found {
			if r.Ratio != c.ratio || r.Least != c.ratio || r.Most != c.ratio {
				t.Errorf("want %v: %+v", c.ratio, r)
			}
		}
	}
}

func TestEverySendHasAKeyOfItsOwnUnlessItIsToHaveNone(t *testing.T) {
	t.Parallel()
	for _, noKey := range []bool{false, true} {
		fake := newFakeRelay(t, tenth(honest))
		fake.derives = noKey
		cfg := quick(fake.URL)
		cfg.NoKey = noKey
		r, err := Relay(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		keys := int64(0)
		fake.keys.Range(func(key, _ any) bool {
			if key != "" {
				keys++
			}
			return true
		})
		want := r.AcceptedAll
		if noKey {
			want = 0
		}
		if keys != want || r.AcceptedAll == 0 || len(r.Errors) != 0 {
			t.Errorf("no key %v: %d keys for %d requests, %v", noKey, keys, r.AcceptedAll, r.Errors)
		}
	}
}

func TestEveryEnvelopeIsAcknowledgedAndNoAccountIsLeftBehind(t *testing.T) {
	t.Parallel()
	fake := newFakeRelay(t, tenth(honest))
	cfg := quick(fake.URL)
	cfg.Batch = 7
	r, err := Relay(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	wait.Eventually(t, "what arrived is acknowledged", func() bool {
		return fake.acknowledgement.Load() >= r.DeliveredOf
	})
	if got := fake.acknowledgement.Load(); got != r.DeliveredOf || got == 0 || got%7 != 0 {
		t.Errorf("%d acknowledged, %d delivered", got, r.DeliveredOf)
	}
	if fake.users.Load() != 2 || fake.deletes.Load() != 2 {
		t.Errorf("%d users made, %d deleted", fake.users.Load(), fake.deletes.Load())
	}
}

// Ten requests a second are due from one sender and each takes 200 ms: measured from when it was
// sent each takes 200 ms; measured from when it was due the wait grows and grows.
func TestUnderARateLatencyCountsFromWhenARequestWasDue(t *testing.T) {
	t.Parallel()
	fake := newFakeRelay(t, tenth(honest))
	fake.hold = 200 * time.Millisecond
	cfg := quick(fake.URL)
	cfg.Senders, cfg.Rate, cfg.Duration, cfg.Warmup = 1, 10, 2*time.Second, 0
	r, err := Relay(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Send.P99 < 700 || r.EndToEnd.P99 < 700 || r.Late == nil || r.Late.P99 < 500 {
		t.Errorf("send %+v, end to end %+v, late %+v", r.Send, r.EndToEnd, r.Late)
	}
	if r.Accepted > 6 {
		t.Errorf("%v accepted a second, the fake takes 5", r.Accepted)
	}
}
