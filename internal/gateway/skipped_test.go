package gateway

import (
	"context"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

// What was sent on a socket below something that was acknowledged on it is handed over once, at its
// end. What an earlier socket was sent does not count, nor what was sent behind the last
// acknowledgement.
func TestASocketCountsWhatItsClientPassedOver(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		early, acked []uint64
		want         [][]int64
	}{
		"nothing was acknowledged":        {},
		"in order":                        {acked: []uint64{1, 2, 3}},
		"all of it, the last one first":   {acked: []uint64{6, 5, 4, 3, 2, 1}},
		"some were left out":              {acked: []uint64{2, 5, 3}, want: [][]int64{{1, 4}}},
		"all but the last":                {acked: []uint64{6}, want: [][]int64{{1, 2, 3, 4, 5}}},
		"an earlier socket's":             {early: []uint64{6, 4}},
		"an earlier socket's and its own": {early: []uint64{6}, acked: []uint64{3}, want: [][]int64{{1, 2}}},
		"an earlier socket's once more":   {early: []uint64{2}, acked: []uint64{2, 4}, want: [][]int64{{1, 3}}},
	} {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, b *fakeBox) {
				b.fill(6, 50_000) // each in a frame of its own
				f, bob, done := b.connect(t, 0, accepted{opened: mailbox.Opened{Last: 6}})
				opening(t, f)
				synctest.Wait() // the first one is being written
				for _, seq := range c.early {
					f.in <- acknowledgement(bob.Device, seq)
				}
				synctest.Wait()
				for drained := false; !drained; {
					drained = f.next().frame(t).GetDrained() != nil
				}
				for _, seq := range c.acked {
					f.in <- acknowledgement(bob.Device, seq)
				}
				synctest.Wait()
				if b.skipped != nil {
					t.Errorf("counted before the end: %v", b.skipped)
				}
				close(f.in)
				<-done
				if !reflect.DeepEqual(b.skipped, c.want) {
					t.Errorf("counted %v, want %v", b.skipped, c.want)
				}
			})
		})
	}
}

// A backlog is sent once and in order, whatever gets between the reads of it: pings, gaps, a
// database that fails.
func TestABacklogIsSentOnceWhateverComesBetween(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		const n = 64
		b.fill(n, 10_000)
		b.gaps = []core.Gap{{From: 5, To: 5, Reason: core.GapCap}, {From: 40, To: 41, Reason: core.GapCap}}
		b.meet(func(ctx context.Context, what string) error {
			if what == "gaps" && b.times(what) < 3 {
				return unavailable(ctx, what)
			}
			return nil
		})
		f, _, done := b.connect(t, 0, accepted{opened: mailbox.Opened{Last: n}})
		opening(t, f)
		time.Sleep(retryAfter / 2) // fake time
		s := b.session()
		next, pings := uint64(1), 0
		for drained := false; !drained; {
			w := f.next()
			if w.kind == pingMessage {
				pings++
				_ = f.pong("")
				continue
			}
			frame := w.frame(t)
			s.kick(doPing) // behind every frame
			for _, e := range frame.GetEnvelopeBatch().GetEnvelopes() {
				if e.GetSequence() != next {
					t.Fatalf("sequence %d, want %d", e.GetSequence(), next)
				}
				next++
			}
			if g := frame.GetGap(); g != nil {
				if g.GetFrom() != next {
					t.Fatalf("a gap at %d, want %d", g.GetFrom(), next)
				}
				next = g.GetTo() + 1
			}
			drained = frame.GetDrained() != nil
		}
		if next != n+1 || pings < 5 || b.times("read") < 5 {
			t.Errorf("up to %d, %d pings, %d reads", next, pings, b.times("read"))
		}
		close(f.in)
		<-done
	})
}
