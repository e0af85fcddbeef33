package gateway

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

// A gap that was told is forgotten in the mailbox a moment after a later envelope was acknowledged.
// A look in between does not tell it again; what it has grown by meanwhile is told, and nothing
// else.
func TestAGapIsToldOnceOnASocket(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		const n = 1210
		b.fill(n, 10)
		b.gaps = []core.Gap{{From: 11, To: 220, Reason: core.GapCap}}
		f, bob, done := b.connect(t, 10, accepted{opened: mailbox.Opened{Last: n}})
		opening(t, f)
		var told []core.Gap
		acked := 0
		read := func() {
			for synctest.Wait(); len(f.out) > 0; synctest.Wait() {
				frame := f.next().frame(t)
				if g := frame.GetGap(); g != nil {
					told = append(told,
						core.Gap{From: int64(g.GetFrom()), To: int64(g.GetTo()), Reason: core.GapReason(g.GetReason())})
				}
				for _, e := range frame.GetEnvelopeBatch().GetEnvelopes() {
					f.in <- acknowledgement(bob.Device, e.GetSequence())
					acked++
				}
			}
		}
		read()
		s := b.session()
		look := func(gaps ...core.Gap) {
			b.mu.Lock()
			b.gaps = gaps
			b.mu.Unlock()
			s.kick(doGaps)
			read()
		}
		look(core.Gap{From: 8, To: 225, Reason: core.GapCap}, core.Gap{From: 300, To: 301, Reason: core.GapExpired})
		look(b.gaps...)
		want := []core.Gap{{From: 11, To: 220, Reason: core.GapCap}, {From: 8, To: 10, Reason: core.GapCap},
			{From: 221, To: 225, Reason: core.GapCap},
			{From: 300, To: 301, Reason: core.GapExpired}}
		if acked != n-210 || !slices.Equal(told, want) {
			t.Errorf("%d acknowledged, told %v", acked, told)
		}
		// What the mailbox has forgotten is forgotten here.
		b.fill(1, 10)
		s.kick(doMail)
		read()
		look()
		if len(s.delivery.reported) != 0 {
			t.Errorf("remembered: %v", s.delivery.reported)
		}
		close(f.in)
		<-done
	})
}
