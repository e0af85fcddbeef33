package mailbox

import (
	"slices"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

// A mailbox with very many gaps, which somebody may make for himself: a drop looks at the gaps
// beside it and not at all of them, or everybody else's mail would wait for it.
func TestADropCostsTheSameHoweverManyGapsThereAre(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewURL(t))
	device, from := n.newBox(t), newSender()
	const gaps = 200_000
	n.exec(t, `INSERT INTO gaps (device_id, from_seq, to_seq, reason) SELECT $1, 2 * k, 2 * k, $2 FROM generate_series(1, $3::bigint) k`,
		device, core.GapCap, gaps)
	n.exec(t, "UPDATE mailboxes SET next_seq = 2 * $2::bigint + 2, floor_seq = 2 * $2::bigint + 1 WHERE device_id = $1",
		device, gaps)
	n.send(t, from, many(device, core.MailboxCap, "x")...)
	began := time.Now()
	for range 60 { // each drops one
		n.send(t, from, to(device, "y")...)
	}
	if took := time.Since(began); took > 10*time.Second { // to read all of them takes 0.7 s each time
		t.Errorf("it took %v", took)
	}
	if rows := one[int](t, n, "SELECT count(*) FROM gaps WHERE device_id = $1", device); rows != gaps+1 {
		t.Errorf("%d gaps, want one more than %d", rows, gaps)
	}
	if got, more, err := n.Gaps(t.Context(), device, 2*gaps, 2*gaps+2); err != nil || more || // a part is asked for
		!slices.Equal(got, []core.Gap{{From: 2*gaps + 2, To: 2*gaps + 61, Reason: core.GapCap}}) {
		t.Errorf("the last gap: %v, %v, %v", got, more, err)
	}
	if got, more, err := n.Gaps(t.Context(), device, 3, 2*gaps); err != nil || !more || len(got) != gapRows ||
		got[0].From != 4 {
		t.Errorf("%d gaps in a page that begins with %v, %v, %v", len(got), got[0], more, err)
	}
}

// What is dropped between gaps that are there joins them into one; gaps of another reason stay
// apart.
func TestADropJoinsTheGapsBesideIt(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewURL(t))
	device := n.newBox(t)
	n.exec(t, `INSERT INTO gaps (device_id, from_seq, to_seq, reason)
		SELECT $1, unnest('{1, 5, 8, 12, 20}'::bigint[]), unnest('{3, 6, 9, 15, 21}'::bigint[]), unnest('{2, 2, 2, 1, 2}'::smallint[])`, device)
	n.exec(t, "UPDATE mailboxes SET next_seq = 30, floor_seq = 0 WHERE device_id = $1", device)
	n.exec(t, `INSERT INTO messages (device_id, seq, sender_id, sender_device_id, sender_number, accepted_at, body)
		SELECT $1, seq, $1, $1, 1, now() - interval '31 days', 'x' FROM unnest('{4, 7, 11, 16, 19, 23}'::bigint[]) seq`, device)
	n.exec(t, "UPDATE mailboxes SET pending = 6 WHERE device_id = $1", device)
	n.exec(t, "UPDATE gaps SET reason = 3 - reason WHERE device_id = $1", device) // expired, but 12 to 15
	if err := n.Expire(t.Context(), device); err != nil {
		t.Fatal(err)
	}
	want := []core.Gap{{From: 1, To: 9, Reason: core.GapExpired}, {From: 11, To: 11, Reason: core.GapExpired},
		{From: 12, To: 15, Reason: core.GapCap}, {From: 16, To: 16, Reason: core.GapExpired},
		{From: 19, To: 21, Reason: core.GapExpired}, {From: 23, To: 23, Reason: core.GapExpired}}
	if got := n.gaps(t, device); !slices.Equal(got, want) {
		t.Errorf("gaps %v, want %v", got, want)
	}
}
