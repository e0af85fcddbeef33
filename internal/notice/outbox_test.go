package notice

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

func ids(n int) []uuid.UUID {
	out := make([]uuid.UUID, n)
	for i := range out {
		out[i] = uuid.New()
	}
	return out
}

// parsed decodes what an outbox would send.
func parsed(t *testing.T, payloads []string) (notices []core.Notice) {
	t.Helper()
	for _, p := range payloads {
		n, err := core.ParseNotice(p)
		if err != nil || len(p) >= 8000 {
			t.Fatalf("%v in a payload of %d bytes", err, len(p))
		}
		notices = append(notices, n)
	}
	return notices
}

// However much mail a device gets while the bus is busy, it is announced once; kinds stay apart,
// and of two displacements the newer counts.
func TestHintsAreCoalesced(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	e, listener := idle(t, url, url), idle(t, url, url).start(t) // e may send before it listens
	device, other := uuid.New(), uuid.New()
	for range 1000 {
		e.Publish(core.Notice{Kind: core.NoticeMail, IDs: []uuid.UUID{device, other, device}})
	}
	e.Publish(core.Notice{Kind: core.NoticeKeys, IDs: []uuid.UUID{device}})
	for _, generation := range []int64{7, 9, 8} {
		e.Publish(core.Notice{Kind: core.NoticeDisplaced, IDs: []uuid.UUID{device}, Generation: generation})
	}
	e.start(t)
	heard := listener.all(t)
	for len(heard) < 3 { // the hints may be sent behind the probe
		heard = append(heard, listener.next(t))
	}
	if len(heard) != 3 {
		t.Fatalf("heard %+v", heard)
	}
	slices.SortFunc(heard, func(a, b core.Notice) int { return int(b.Kind) - int(a.Kind) })
	mail, keys, displaced := heard[0], heard[1], heard[2]
	if mail.Kind != core.NoticeMail || len(mail.IDs) != 2 || !slices.Contains(mail.IDs, device) ||
		!slices.Contains(mail.IDs, other) {
		t.Errorf("mail: %+v", mail)
	}
	if keys.Kind != core.NoticeKeys || !slices.Equal(keys.IDs, []uuid.UUID{device}) {
		t.Errorf("keys: %+v", keys)
	}
	if displaced.Kind != core.NoticeDisplaced || displaced.Generation != 9 ||
		!slices.Equal(displaced.IDs, []uuid.UUID{device}) {
		t.Errorf("displaced: %+v", displaced)
	}
	if left := e.out.take(); len(left) != 0 {
		t.Errorf("sent and kept: %v", left)
	}
}

// The outbox is bounded while the database is unavailable: what does not fit is left to the polls.
// Afterwards it works as before, and revocations never pass through it.
func TestAFullOutboxDropsHintsOnly(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	e := idle(t, url, url)
	first := ids(1)
	e.Publish(core.Notice{Kind: core.NoticeMail, IDs: first})
	for range maxOutbox/512 + 8 {
		e.Publish(core.Notice{Kind: core.NoticeMail, IDs: ids(512)})
	}
	late := uuid.New()
	e.Publish(core.Notice{Kind: core.NoticeKeys, IDs: []uuid.UUID{late}})
	e.Publish(core.Notice{Kind: core.NoticeEnded, IDs: []uuid.UUID{late}})
	total := 0
	for _, n := range parsed(t, e.out.take()) {
		total += len(n.IDs)
		if n.Kind != core.NoticeMail || slices.Contains(n.IDs, late) {
			t.Errorf("kept a %c beyond the bound", n.Kind)
		}
	}
	if total < maxOutbox || total >= maxOutbox+512 {
		t.Errorf("%d hints were kept, the bound is %d", total, maxOutbox)
	}
	e.start(t)
	e.Publish(core.Notice{Kind: core.NoticeKeys, IDs: []uuid.UUID{late}})
	if n := e.next(t); n.Kind != core.NoticeKeys || !slices.Equal(n.IDs, []uuid.UUID{late}) {
		t.Errorf("heard %+v", n)
	}
}

// A notice for many devices is many payloads, and all of them arrive.
func TestManyHintsArriveInPayloadsThatPostgreSQLTakes(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	e := idle(t, url, url).start(t)
	want := ids(1501)
	e.Publish(core.Notice{Kind: core.NoticeMail, IDs: want})
	var got []uuid.UUID
	for len(got) < len(want) {
		got = append(got, e.next(t).IDs...)
	}
	order := func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) }
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	if !slices.Equal(got, want) {
		t.Errorf("%d arrived, %d were sent", len(got), len(want))
	}
}

// A node that is newer may say what this one does not understand; it is left alone.
func TestANoticeThatIsNotUnderstoodIsIgnored(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	e := idle(t, url, url).start(t)
	for _, payload := range []string{"?", "m0", "m0 not-an-id", "p0 " + uuid.NewString()} {
		if err := e.notify(t.Context(), []string{payload}); err != nil {
			t.Fatal(err)
		}
	}
	if heard := e.all(t); len(heard) != 0 {
		t.Errorf("heard %+v", heard)
	}
}
