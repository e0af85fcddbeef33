package push

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// box is a device with a token and a mailbox, which a mailbox.Service fills.
type box struct {
	t      *testing.T
	push   *Service
	mail   *mailbox.Service
	inside *pgxpool.Pool
	device core.DeviceID
}

// Offer and Announce are the node's sockets, of which there are none.
func (*box) Offer(core.DeviceID, []core.Envelope) bool { return false }

// Announce implements core.Announcer.
func (*box) Announce(core.Notice) {}

// boxes makes n of them, which share a database.
func boxes(t *testing.T, n int) []*box {
	t.Helper()
	s, _, inside := service(t, Times{Ask: time.Millisecond})
	populate(t, inside, n, 0)
	mail := mailbox.New(mailbox.Config{DB: s.cfg.DB, Async: s.cfg.DB, Sockets: &box{}, Counters: uncounted{}})
	run(t, mail.RunSends)
	run(t, mail.RunAcknowledgements)
	all := make([]*box, n)
	for i, device := range devicesIn(t, inside) {
		all[i] = &box{t, s, mail, inside, device}
	}
	return all
}

// run runs it until the test ends.
func run(t *testing.T, work func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var working sync.WaitGroup
	working.Go(func() { _ = work(ctx) })
	t.Cleanup(func() { cancel(); working.Wait() })
}

// do does what letters say: l and q send loud and quiet mail in one batch, up to a space; p is loud
// mail that the previous binary stores; a digit acknowledges this sequence; w is a wake-up that was
// sent, n a new token; x expires the oldest envelope.
func (b *box) do(steps string) {
	b.t.Helper()
	batch := mailbox.Batch{Key: uuid.New()}
	for _, step := range steps + " " {
		switch step {
		case 'l', 'q':
			batch.Submissions = append(batch.Submissions, mailbox.Submission{Device: b.device, Message: []byte{1},
				Quiet: step == 'q'})
			continue
		case 'p':
			b.exec(`INSERT INTO messages (device_id, seq, sender_id, sender_device_id, sender_number, accepted_at, body)
				SELECT device_id, next_seq, device_id, device_id, 1, now(), '.' FROM mailboxes WHERE device_id = $1`)
			b.exec("UPDATE mailboxes SET next_seq = next_seq + 1, pending = pending + 1 WHERE device_id = $1")
		case 'w':
			b.exec(`UPDATE push_tokens SET woken_seq = (SELECT next_seq - 1 FROM mailboxes m WHERE m.device_id = $1)
				WHERE device_id = $1`)
		case 'n':
			b.exec("UPDATE push_tokens SET woken_seq = 0 WHERE device_id = $1")
		case 'x':
			b.exec(`UPDATE messages SET accepted_at = now() - interval '31 days'
				WHERE seq = (SELECT min(seq) FROM messages WHERE device_id = $1) AND device_id = $1`)
			if err := b.mail.Expire(b.t.Context(), b.device); err != nil {
				b.t.Fatal(err)
			}
		case ' ':
		default:
			if err := b.mail.Acknowledge(b.device, []int64{int64(step - '0')}, nil); err != nil {
				b.t.Fatal(err)
			}
			wait.Eventually(b.t, "it is acknowledged", func() bool { return b.mail.WaitingAcknowledgements() == 0 })
		}
		if len(batch.Submissions) > 0 {
			from := core.Principal{User: uuid.New(), Device: uuid.New(), DeviceNumber: 1}
			if _, err := b.mail.Send(b.t.Context(), from, batch); err != nil {
				b.t.Fatal(err)
			}
			batch = mailbox.Batch{Key: uuid.New()}
		}
	}
}

func (b *box) exec(sql string) {
	b.t.Helper()
	if _, err := b.inside.Exec(b.t.Context(), sql, b.device); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) number(sql string) (n int64) {
	b.t.Helper()
	if err := b.inside.QueryRow(b.t.Context(), sql, b.device).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// scheduled schedules, and tells whether there is a row then and what it knows of.
func (b *box) scheduled() (seq int64) {
	b.t.Helper()
	if err := b.push.schedule(b.t.Context(), b.push.of(b.device), []core.DeviceID{b.device}); err != nil {
		b.t.Fatal(err)
	}
	return b.number("SELECT coalesce(max(seq), 0) FROM push_wakeups WHERE device_id = $1")
}

// wanted tells whether a wake-up that was scheduled before all of it is still wanted, and up to
// where it tells of mail.
func (b *box) wanted() (wanted bool, seq int64) {
	b.t.Helper()
	b.exec(`INSERT INTO push_wakeups (device_id, kind, seq, due_at, attempts) VALUES ($1, 1, 1, now(), 1)
		ON CONFLICT (device_id) DO UPDATE SET attempts = 1`)
	rows, err := b.push.confirm(b.t.Context(), b.push.of(b.device), []lease{{b.device, 1}})
	if err != nil || len(rows) != 1 {
		b.t.Fatal(len(rows), err)
	}
	return rows[0].Wanted, rows[0].Seq
}

// Quiet mail at the end of a mailbox is as if it were not there, and nothing else is lost by it.
func TestQuietMailWakesNobodyAndHidesNothing(t *testing.T) {
	t.Parallel()
	cases := map[string]int64{ // up to which sequence there is mail to wake up for, 0 for none
		"":                0,
		"q":               0,
		"q q qq":          0,
		"l":               1,
		"l q":             1, // quiet mail does not end the reason
		"lqq q":           1,
		"ql":              2,
		"q l":             2,
		"qlq":             2,
		"l w q":           0, // it has been told
		"l w qq q":        0,
		"l q w":           0,
		"l q w q":         0,
		"l w q l":         3,
		"l w q l q":       3,
		"l q w l q":       3,
		"l 1 q":           0, // it has it
		"q l 2 q":         2, // one too many, for 1 is not known to be quiet any more
		"l q 1":           0,
		"l q 1 q":         0,
		"l q 2":           1, // it has acknowledged the quiet one, not the loud one
		"l q q 3":         1,
		"ll 2 q":          2, // passed over 1
		"ll q 3":          2,
		"ll 2 w q":        0,
		"ll w 2 q":        0,
		"ll w 2 l 3 q":    3, // passed over 1, as without the quiet one
		"l q n":           1,
		"l 1 q n":         0, // a new token does not make it loud
		"lq x":            0, // the loud one has expired
		"llq x":           2,
		"q p":             2, // the previous binary knows nothing of quiet
		"q p q":           2,
		"l w q p q":       3,
		"q p 2 1 q":       0,
		"l w q p 3 2 1 q": 0,
		"p w q":           0,
		"p q":             1,
	}
	left := boxes(t, len(cases))
	for steps, loud := range cases {
		b := left[0]
		left = left[1:]
		t.Run(steps, func(t *testing.T) {
			b.t = t
			b.do(steps)
			if got := b.scheduled(); got != loud {
				t.Errorf("scheduled for %d, want %d", got, loud)
			}
			last := b.number("SELECT next_seq - 1 FROM mailboxes WHERE device_id = $1")
			// It tells of all, so that what the previous binary has scheduled for quiet mail ends.
			if wanted, seq := b.wanted(); wanted != (loud > 0) || seq != last {
				t.Errorf("wanted %v up to %d, of %d", wanted, seq, last)
			}
		})
	}
}

// What was scheduled for quiet mail, by the previous binary, ends without a wake-up.
func TestAWakeUpForQuietMailEnds(t *testing.T) {
	t.Parallel()
	b := boxes(t, 1)[0]
	in := b.push.of(b.device)
	run(t, in.results.Run)
	b.do("l w qq")
	b.exec(`INSERT INTO push_wakeups (device_id, kind, seq, due_at) VALUES ($1, 1, 3, now())`)
	batch := leasedBatch{lane: lane{kind: FCM, sender: b.push.cfg.Senders[FCM], slots: make(chan struct{}, 1)}, in: in}
	if err := b.push.take(t.Context(), &batch); err != nil || len(batch.leases) != 1 {
		t.Fatal(len(batch.leases), err)
	}
	b.push.wake(t.Context(), &batch)
	if n := len(batch.sender.(*fakeSender).sent); n != 0 || scheduled(t, b.inside) != 0 {
		t.Errorf("%d sent, %d are left", n, scheduled(t, b.inside))
	}
}
