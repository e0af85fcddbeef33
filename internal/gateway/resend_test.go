package gateway

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

// skipped is a socket whose backlog of n was sent on earlier ones and skipped.
func skipped(n int64) handover {
	return handover{opened: mailbox.Opened{Last: n, Acknowledged: n + 1}}
}

// A sending of a skipped envelope is counted once on a socket, whatever gets between the reads of its
// backlog: pings, a database that fails.
func TestASendingIsCountedOnce(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		const n = 64
		b.fill(n, 10_000)
		b.gaps = []core.Gap{{From: 5, To: 5, Reason: core.GapCap}, {From: 40, To: 41, Reason: core.GapCap}}
		b.meet(func(ctx context.Context, what string) error {
			if what == "gaps" && b.times(what) < 3 {
				return away(ctx, what)
			}
			return nil
		})
		f, _, done := b.connect(t, 0, skipped(n))
		opening(t, f)
		time.Sleep(retryAfter / 2) // fake time
		if n := b.times("resend"); n != 0 {
			t.Errorf("%d sendings were counted and none made", n)
		}
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
		for seq := int64(1); seq <= n; seq++ {
			want := 1
			if seq == 5 || seq == 40 || seq == 41 {
				want = 0
			}
			if b.counted[seq] != want {
				t.Errorf("the sending of %d was counted %d times", seq, b.counted[seq])
			}
		}
		close(f.in)
		<-done
	})
}

// A reader that leaves after the first frame has not been sent the others.
func TestOnlyWhatIsSentIsCounted(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		const n = 64
		b.fill(n, 10_000)
		f, _, done := b.connect(t, 0, skipped(n))
		opening(t, f)
		first := len(f.next().frame(t).GetEnvelopeBatch().GetEnvelopes())
		synctest.Wait() // the second one is being written
		close(f.in)
		<-done
		if len(b.counted) != 2*first {
			t.Errorf("%d sendings were counted, a frame has %d", len(b.counted), first)
		}
	})
}

// What has been sent too often is reported in its place.
func TestAQuarantinedEnvelopeIsAGapInItsPlace(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		b.fill(20, 10_000)
		b.quarantine = 9
		f, _, done := b.connect(t, 0, skipped(20))
		opening(t, f)
		next := uint64(1)
		for drained := false; !drained; {
			frame := f.next().frame(t)
			for _, e := range frame.GetEnvelopeBatch().GetEnvelopes() {
				if e.GetSequence() != next {
					t.Fatalf("sequence %d, want %d", e.GetSequence(), next)
				}
				next++
			}
			if g := frame.GetGap(); g != nil {
				if g.GetFrom() != 9 || g.GetTo() != 9 || next != 9 {
					t.Errorf("gap %v at %d", g, next)
				}
				next++
			}
			drained = frame.GetDrained() != nil
		}
		if next != 21 || len(b.counted) != 20 || b.counted[9] != 1 || b.counted[8] != 1 || b.counted[10] != 1 {
			t.Errorf("up to %d, counted %v", next, b.counted)
		}
		close(f.in)
		<-done
	})
}
