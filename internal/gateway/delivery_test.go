package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

// list is a sink without a socket: it writes down what is sent.
type list struct {
	said []string
	next int64        // what must come next
	lose func() error // what is heard of a question or a frame that was taken; nil: nothing
}

func (l *list) ask(question func(context.Context) error) error {
	return l.meet(func() error {
		if question(context.Background()) != nil {
			return errLater
		}
		return nil
	})
}

func (l *list) send(frame *obscurapb.WebSocketFrame, _ int) error {
	return l.meet(func() error {
		said := fmt.Sprint("drained ", frame.GetDrained().GetSequence())
		if g := frame.GetGap(); g != nil {
			said = fmt.Sprintf("gap %d-%d", g.GetFrom(), g.GetTo())
			l.next = max(l.next, int64(g.GetTo())+1)
		}
		if envelopes := frame.GetEnvelopeBatch().GetEnvelopes(); len(envelopes) > 0 {
			said = fmt.Sprintf("%d-%d", envelopes[0].GetSequence(), envelopes[len(envelopes)-1].GetSequence())
			for _, e := range envelopes {
				if int64(e.GetSequence()) != l.next {
					said = fmt.Sprintf("%d where %d is next", e.GetSequence(), l.next)
				}
				l.next++
			}
		}
		l.said = append(l.said, said)
		return nil
	})
}

func (l *list) meet(do func() error) error {
	if err := do(); err != nil || l.lose == nil {
		return err
	}
	return l.lose()
}

// newDelivery makes a delivery of a fake box, opened with n envelopes of a size in it.
func newDelivery(n, size int, gaps ...core.Gap) (*fakeBox, *list, *delivery) {
	b, l, d := newFakeBox(), &list{next: 1}, &delivery{}
	b.fill(n, size)
	b.gaps = gaps
	d.begin(b, l, uuid.New(), mailbox.Opened{Last: int64(n)})
	return b, l, d
}

func (l *list) expect(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(l.said, want) {
		t.Errorf("sent %q, want %q", l.said, want)
	}
	l.said = nil
}

func TestADeliverySendsTheBacklogWithItsGaps(t *testing.T) {
	t.Parallel()
	b, l, d := newDelivery(9, 30_000, core.Gap{From: 4, To: 5, Reason: core.GapCap})
	if err := d.deliver(); err != nil {
		t.Fatal(err)
	}
	l.expect(t, "1-2", "3-3", "gap 4-5", "6-7", "8-9", "drained 9")
	// What is offered and next in line is sent without a read; what is not is read.
	reads := b.times("read")
	if todo := d.offer([]core.Envelope{{Sequence: 10}, {Sequence: 11}}); todo != doFresh {
		t.Errorf("an offer asks for %b", todo)
	}
	if inLine, err := d.deliverFresh(); !inLine || err != nil || b.times("read") != reads {
		t.Errorf("in line: %v, %v", inLine, err)
	}
	l.expect(t, "10-11")
	d.offer([]core.Envelope{{Sequence: 13}})
	if inLine, err := d.deliverFresh(); inLine || err != nil {
		t.Errorf("not in line: %v, %v", inLine, err)
	}
	l.expect(t)
	if todo := d.offer(make([]core.Envelope, maxFresh+1)); todo != doMail || d.fresh != nil {
		t.Errorf("too much asks for %b, and %d are kept", todo, len(d.fresh))
	}
	// 2 was passed over, and what follows the acknowledgement was not.
	if sequences, _, todo := d.settle([]int64{1, 3, 3, 99}); !slices.Equal(sequences, []int64{1, 3}) || todo != 0 {
		t.Errorf("settled %v, %b", sequences, todo)
	}
	if skipped := d.window.skipped(); !slices.Equal(skipped, []int64{2}) {
		t.Errorf("passed over: %v", skipped)
	}
}

func TestADeliveryWaitsForRoomInItsWindow(t *testing.T) {
	t.Parallel()
	_, l, d := newDelivery(windowSize+5, 1)
	for range 2 { // the second one has nothing to do
		if err := d.deliver(); err != nil {
			t.Fatal(err)
		}
	}
	l.expect(t, fmt.Sprint("1-", windowSize))
	if _, _, todo := d.settle([]int64{7, 8}); todo != doMail {
		t.Errorf("an acknowledgement asks for %b", todo)
	}
	if err := d.deliver(); err != nil {
		t.Fatal(err)
	}
	l.expect(t, "1001-1002")
}

// Whatever questions and frames meet, on the way there or on the way back, each envelope is sent
// once and in order, or told as a gap.
func TestADeliverySurvivesWhatItsQuestionsMeet(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		b, l, d := newDelivery(20, 20_000, core.Gap{From: 3, To: 6, Reason: core.GapCap},
			core.Gap{From: 12, To: 12, Reason: core.GapExpired})
		b.meet(func(context.Context, string) error {
			if random.IntN(4) == 0 {
				return errLost
			}
			return nil
		})
		l.lose = func() error { // frames yield, and answers to questions are lost, after the fact
			if random.IntN(4) == 0 {
				return errYield
			}
			return nil
		}
		failures := 0
		for err := d.deliver(); err != nil; err = d.deliver() {
			if failures++; failures > 1000 || !errors.Is(err, errYield) && !errors.Is(err, errLater) {
				t.Fatalf("seed %d: %v after %d failures", seed, err, failures)
			}
		}
		if l.next != 21 || slices.ContainsFunc(l.said, func(s string) bool { return len(s) > len("drained 20") }) {
			t.Fatalf("seed %d: %q", seed, l.said)
		}
	}
}
