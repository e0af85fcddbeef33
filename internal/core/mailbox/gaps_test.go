package mailbox

import (
	"context"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/storage"
)

func (n *node) takeOver(t failer, device core.DeviceID) (generation int64) {
	t.Helper()
	n.tx(t, func(tx *storage.Tx) (err error) {
		generation, _, err = TakeOver(context.Background(), tx, device, 0)
		return err
	})
	return generation
}

// What was acknowledged before a takeover is not in its gap; what was dropped before keeps its
// reason.
func TestATakeoverReportsExactlyWhatItDropped(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewURL(t))
	device, from := n.newBox(t), newSender()
	n.send(t, from, many(device, 10, "x")...)
	n.acknowledge(t, device, []int64{1, 4, 5, 8})
	n.age(t, device, "31 days", 2, 2)
	if err := n.Expire(t.Context(), device); err != nil {
		t.Fatal(err)
	}
	opened, err := n.Open(t.Context(), core.Principal{Device: device})
	if err != nil {
		t.Fatal(err)
	}
	if generation := n.takeOver(t, device); generation <= opened.Generation {
		t.Errorf("generation %d after %d: the old socket would stay", generation, opened.Generation)
	}
	want := []core.Gap{{From: 2, To: 2, Reason: core.GapExpired}, {From: 3, To: 3, Reason: core.GapTakeover},
		{From: 6, To: 7, Reason: core.GapTakeover}, {From: 9, To: 10, Reason: core.GapTakeover}}
	if gaps := n.gaps(t, device); !slices.Equal(gaps, want) {
		t.Errorf("gaps %v, want %v", gaps, want)
	}
	if texts, _ := n.texts(t, device, 0); len(texts) != 0 {
		t.Errorf("left: %v", texts)
	}
	// Sequences go on, a second takeover of what came since joins the range it touches, and one of
	// an empty mailbox reports nothing.
	n.send(t, from, to(device, "eleven")...)
	n.takeOver(t, device)
	n.takeOver(t, device)
	want[3].To = 11
	if gaps := n.gaps(t, device); !slices.Equal(gaps, want) {
		t.Errorf("gaps %v, want %v", gaps, want)
	}
	err = n.main.InTx(t.Context(), func(tx *storage.Tx) error {
		_, _, err := TakeOver(t.Context(), tx, uuid.New(), 0)
		return err
	})
	if !storage.IsNoRows(err) {
		t.Errorf("nobody's mailbox: %v", err)
	}
}

// A gap goes when it was reported and something later acknowledged: not before, not by anything
// else, and not when it has grown since it was reported.
func TestAGapStaysUntilItWasReportedAndFollowed(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewURL(t))
	device, from := n.newBox(t), newSender()
	n.send(t, from, many(device, 3, "x")...)
	n.takeOver(t, device)
	gap := core.Gap{From: 1, To: 3, Reason: core.GapTakeover}
	n.send(t, from, many(device, 4, "y")...)
	n.acknowledge(t, device, []int64{4}) // by a session that was not told
	if gaps := n.gaps(t, device); !slices.Equal(gaps, []core.Gap{gap}) {
		t.Fatalf("gaps %v", gaps)
	}
	if err := n.Acknowledge(device, nil, []core.Gap{gap}); err != nil { // nothing followed
		t.Fatal(err)
	}
	n.barrier(t)
	n.age(t, device, "31 days", 5, 5)
	if err := n.Expire(t.Context(), device); err != nil {
		t.Fatal(err)
	}
	grown := []core.Gap{{From: 5, To: 6, Reason: core.GapExpired}}
	n.acknowledge(t, device, []int64{7}, gap, core.Gap{From: 5, To: 5, Reason: core.GapExpired})
	if gaps := n.gaps(t, device); len(gaps) != 0 {
		t.Fatalf("told and followed, and still there: %v", gaps)
	}
	n.send(t, from, many(device, 2, "z")...) // 8 and 9
	n.age(t, device, "31 days", 6, 6)
	if err := n.Expire(t.Context(), device); err != nil {
		t.Fatal(err)
	}
	grown[0] = core.Gap{From: 6, To: 8, Reason: core.GapExpired}
	n.exec(t, "UPDATE gaps SET to_seq = 8 WHERE device_id = $1", device) // as if 7 and 8 had gone as well
	n.acknowledge(t, device, []int64{9}, core.Gap{From: 6, To: 6, Reason: core.GapExpired})
	if gaps := n.gaps(t, device); !slices.Equal(gaps, grown) {
		t.Errorf("it has grown since it was told: %v, want %v", gaps, grown)
	}
}

func TestGapsMergeWithoutLosingASequenceOrAReason(t *testing.T) {
	t.Parallel()
	reasons := rapid.SampledFrom([]core.GapReason{core.GapExpired, core.GapCap, core.GapTakeover, core.GapQuarantined})
	pure(t, func(t *rapid.T) {
		reasonOf := map[int64]core.GapReason{}
		var gaps []core.Gap
		for next := int64(1); len(gaps) < rapid.IntRange(0, 30).Draw(t, "n"); {
			from := next + rapid.Int64Range(0, 2).Draw(t, "hole")
			g := core.Gap{From: from, To: from + rapid.Int64Range(0, 3).Draw(t, "size"),
				Reason: reasons.Draw(t, "reason")}
			for seq := g.From; seq <= g.To; seq++ {
				reasonOf[seq] = g.Reason
			}
			gaps, next = append(gaps, g), g.To+1
		}
		merged := mergeGaps(rapid.Permutation(gaps).Draw(t, "order"))
		for i, g := range merged {
			for seq := g.From; seq <= g.To; seq++ {
				if reasonOf[seq] != g.Reason {
					t.Fatalf("%d is %d in %v, was %d", seq, g.Reason, merged, reasonOf[seq])
				}
				delete(reasonOf, seq)
			}
			if i > 0 && (merged[i-1].To >= g.From || merged[i-1].To+1 == g.From && merged[i-1].Reason == g.Reason) {
				t.Fatalf("not in order, or not joined: %v", merged)
			}
		}
		if len(reasonOf) > 0 {
			t.Fatalf("lost: %v", reasonOf)
		}
	})
}
