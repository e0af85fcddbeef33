package mailbox

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

// held makes rows from letters, one a sender: "aab" is two envelopes of a and one of b, oldest
// first.
func held(senders string) []db.PendingSendersRow {
	rows := make([]db.PendingSendersRow, len(senders))
	for i, s := range senders {
		rows[i] = db.PendingSendersRow{Seq: int64(i + 1), SenderID: uuid.UUID{15: byte(s)}}
	}
	return rows
}

func TestRoomIsMadeFromTheSenderWhoHoldsMost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, senders string
		n             int
		want          []int64
	}{
		{"nothing to drop", "ab", 0, []int64{}},
		{"one sender, oldest first", "aaaa", 2, []int64{1, 2}},
		{"the heavier sender's oldest, not the oldest", "abbb", 2, []int64{2, 3}},
		{"of two that hold the same, the older envelope", "abab", 1, []int64{1}},
		{"then the other", "abab", 2, []int64{1, 2}},
		{"turn by turn", "aabbb", 3, []int64{3, 1, 4}},
		{"everybody holds one: the oldest", "abcde", 1, []int64{1}},
		{"everybody holds one, several go", "abcde", 4, []int64{1, 2, 3, 4}},
		{"all go", "abcabb", 6, []int64{2, 1, 5, 3, 4, 6}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := surplus(held(c.senders), c.n); !slices.Equal(got, c.want) {
				t.Errorf("dropped %v, want %v", got, c.want)
			}
		})
	}
}

func TestRoomIsMadeFairlyWhoeverHoldsWhat(t *testing.T) {
	t.Parallel()
	pure(t, func(t *rapid.T) {
		rows := held(strings.Join(rapid.SliceOfN(rapid.SampledFrom(strings.Split("aaaabbcdefg", "")), 0, 40).Draw(t,
			"senders"), ""))
		n := rapid.IntRange(0, len(rows)).Draw(t, "n")
		got := surplus(rows, n)
		left := map[core.UserID]int{}
		for _, row := range rows {
			left[row.SenderID]++
		}
		for i, seq := range got {
			from := rows[seq-1].SenderID
			for _, row := range rows {
				if !slices.Contains(got[:i], row.Seq) && (left[row.SenderID] > left[from] ||
					left[row.SenderID] == left[from] && row.Seq < seq) {
					t.Fatalf("%d was dropped before %d", seq, row.Seq)
				}
			}
			left[from]--
		}
		if len(got) != n {
			t.Fatalf("%d dropped, want %d", len(got), n)
		}
	})
}

// Every request makes a full mailbox drop; thousands at once must not take seconds, nor may more
// senders than the mailbox holds be a problem.
func TestMakingRoomIsQuickForManySenders(t *testing.T) {
	t.Parallel()
	rows := make([]db.PendingSendersRow, 50000)
	for i := range rows {
		rows[i] = db.PendingSendersRow{Seq: int64(i + 1), SenderID: uuid.UUID{0: byte(i), 1: byte(i >> 8 & 7)}}
	}
	began := time.Now()
	if got := surplus(rows, len(rows)-core.MailboxCap); len(got) != len(rows)-core.MailboxCap {
		t.Errorf("%d dropped", len(got))
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestAFloodEvictsItselfAndNotOthersMail(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewURL(t))
	device, friend, flooder := n.newBox(t), newSender(), newSender()
	n.send(t, friend, to(device, "dear", "friend")...)
	n.send(t, flooder, many(device, core.MailboxCap-2, "spam")...)
	if gaps := n.gaps(t, device); len(gaps) != 0 {
		t.Fatalf("gaps at the cap: %v", gaps)
	}
	n.send(t, flooder, many(device, 1, "spam")...)
	if gaps := n.gaps(t, device); !slices.Equal(gaps, []core.Gap{{From: 3, To: 3, Reason: core.GapCap}}) {
		t.Fatalf("one beyond the cap: %v", gaps)
	}
	n.send(t, flooder, many(device, 2500, "spam")...)
	n.send(t, friend, to(device, "yours")...)
	texts, sequences := n.texts(t, device, 0)
	if len(texts) != core.MailboxCap || texts[0] != "dear" || texts[1] != "friend" || texts[len(texts)-1] != "yours" {
		t.Errorf("%d left, from %q to %q", len(texts), texts[:2], texts[len(texts)-1])
	}
	if gaps := n.gaps(t, device); !slices.Equal(gaps,
		[]core.Gap{{From: 3, To: sequences[2] - 1, Reason: core.GapCap}}) {
		t.Errorf("gaps %v, then %d", gaps, sequences[2])
	}
	if got := n.counts.dropped[core.GapCap].Load(); got != 2502 {
		t.Errorf("%d dropped", got)
	}
}

// A count that is wrong, whoever made it so, drops nothing that fits, and is right again.
func TestAWrongCountIsMadeRightWhenTheMailboxSeemsFull(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewURL(t))
	device, from := n.newBox(t), newSender()
	n.send(t, from, many(device, 10, "x")...)
	n.exec(t, "UPDATE mailboxes SET pending = $2 WHERE device_id = $1", device, core.MailboxCap)
	n.send(t, from, to(device, "y")...)
	if gaps := n.gaps(t, device); len(gaps) != 0 {
		t.Errorf("gaps %v", gaps)
	}
	n.balanced(t, device)
}

func TestAMailboxOfAThousandSendersTakesMore(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewURL(t))
	device := n.newBox(t)
	var wg sync.WaitGroup
	var once sync.Once
	for i := range core.MailboxCap + 50 { // batched, so that several are dropped at once
		wg.Go(func() {
			if _, err := n.Send(context.Background(), newSender(), batchOf(to(device, fmt.Sprint(i))...)); err != nil {
				once.Do(func() { t.Errorf("send: %v", err) })
			}
		})
	}
	wg.Wait()
	if _, sequences := n.texts(t, device, 0); len(sequences) != core.MailboxCap || sequences[0] != 51 {
		t.Errorf("%d left, the first is %d", len(sequences), sequences[0])
	}
}

// Nobody, on any connection, ever sees a mailbox above its cap, or a count that is not the rows'.
func TestTheCapHoldsAtEveryInstant(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	nodes := []*node{start(t, url), start(t, url)}
	device := nodes[0].newBox(t)
	nodes[0].send(t, newSender(), many(device, core.MailboxCap-5, "x")...)
	var senders, watcher sync.WaitGroup
	for i := range 8 {
		senders.Go(func() {
			from, n := newSender(), nodes[i%2]
			for range 12 {
				if _, err := n.Send(context.Background(), from, batchOf(many(device, 7, "y")...)); err != nil {
					t.Errorf("send: %v", err)
				}
			}
		})
	}
	stop, looks := make(chan struct{}), 0
	watcher.Go(func() {
		for {
			var pending, rows, accepted, lost int64
			err := nodes[1].async.Pool().QueryRow(context.Background(), `SELECT pending, next_seq - 1,
				(SELECT count(*) FROM messages WHERE device_id = $1),
				(SELECT coalesce(sum(to_seq - from_seq + 1), 0)::bigint FROM gaps WHERE device_id = $1)
				FROM mailboxes WHERE device_id = $1`, device).Scan(&pending, &accepted, &rows, &lost)
			if err != nil || pending != rows || rows > core.MailboxCap || accepted != rows+lost {
				t.Errorf("pending %d, rows %d, accepted %d, in gaps %d, %v", pending, rows, accepted, lost, err)
				return
			}
			looks++
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	senders.Wait()
	close(stop)
	watcher.Wait()
	if looks < 5 {
		t.Errorf("only %d looks", looks)
	}
	if gaps := nodes[0].gaps(t, device); gaps[0].Reason != core.GapCap {
		t.Errorf("gaps %v", gaps)
	}
}
