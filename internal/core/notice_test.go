package core

import (
	"math"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

var kinds = []NoticeKind{NoticeMail, NoticeKeys, NoticeEnded, NoticeRevoked, NoticeDisplaced}

func TestANoticeArrivesAsItWasSent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		sent := Notice{Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Generation: rapid.Int64().Draw(t, "generation")}
		for range rapid.IntRange(0, 3*maxNoticeIDs).Draw(t, "ids") {
			sent.IDs = append(sent.IDs, uuid.New())
		}
		var got []uuid.UUID
		for _, payload := range sent.Payloads() {
			n, err := ParseNotice(payload)
			if err != nil || n.Kind != sent.Kind || n.Generation != sent.Generation || len(n.IDs) == 0 {
				t.Fatalf("%+v, %v from %q", n, err, payload)
			}
			got = append(got, n.IDs...)
		}
		if !slices.Equal(got, sent.IDs) {
			t.Fatalf("%d ids arrived, %d were sent", len(got), len(sent.IDs))
		}
	})
}

// PostgreSQL refuses a payload of 8000 bytes or more.
func TestTheLongestPayloadFits(t *testing.T) {
	t.Parallel()
	n := Notice{Kind: NoticeRevoked, Generation: math.MinInt64, IDs: make([]uuid.UUID, 10*maxNoticeIDs)}
	for _, payload := range n.Payloads() {
		if len(payload) >= 8000 {
			t.Errorf("%d bytes", len(payload))
		}
	}
}

func TestAMalformedNoticeIsRefused(t *testing.T) {
	t.Parallel()
	id := uuid.NewString()
	for _, payload := range []string{"", "m", "m0", "m " + id, "mx " + id, "m0 ", "m0 " + id + " ", "m0  " + id,
		"m0 " + id[1:],
		"m9223372036854775808 " + id, "m0," + id} {
		if n, err := ParseNotice(payload); err == nil {
			t.Errorf("%q is taken for %+v", payload, n)
		}
	}
}

// Whatever comes, it is refused or it is a notice that means what it says.
func FuzzParseNotice(f *testing.F) {
	for _, kind := range kinds {
		for _, payload := range (Notice{Kind: kind, Generation: 3,
			IDs: []uuid.UUID{uuid.New(), uuid.New()}}).Payloads() {
			f.Add(payload)
		}
	}
	f.Add("m0 ")
	f.Add("")
	f.Fuzz(func(t *testing.T, payload string) {
		n, err := ParseNotice(payload)
		if err != nil {
			return
		}
		if len(n.IDs) == 0 {
			t.Fatalf("a notice about nobody: %q", payload)
		}
		var ids []uuid.UUID
		for _, p := range n.Payloads() {
			back, err := ParseNotice(p)
			if err != nil || back.Kind != n.Kind || back.Generation != n.Generation {
				t.Fatalf("%q becomes %q: %v", payload, p, err)
			}
			ids = append(ids, back.IDs...)
		}
		if !slices.Equal(ids, n.IDs) {
			t.Fatalf("%q loses ids", payload)
		}
	})
}
