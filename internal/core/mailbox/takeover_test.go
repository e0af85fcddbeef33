package mailbox

import (
	"context"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
	"github.com/obscura-relay/obscura/internal/storage"
)

// owned makes a user of devices that have a mailbox.
func (n *node) owned(t *testing.T, devices ...core.DeviceID) core.UserID {
	t.Helper()
	user := uuid.New()
	n.exec(t, `INSERT INTO users (id, username, username_key, password_hash) VALUES ($1, $2, $2, '')`, user,
		user.String())
	n.exec(t, `INSERT INTO devices (id, user_id, number, registration_id, identity_key, signed_pre_key_id, signed_pre_key,
		signed_pre_key_sig) SELECT d, $2, i, 1, '', 1, '', '' FROM unnest($1::uuid[]) WITH ORDINALITY AS own (d, i)`,
		devices, user)
	return user
}

// takeOver does what a takeover does here, in a transaction.
func takeOver(ctx context.Context, tx *storage.Tx, user core.UserID, device core.DeviceID) error {
	version, err := CountDevicesChange(ctx, tx, user)
	if err == nil {
		_, _, err = TakeOver(ctx, tx, device, version)
	}
	return err
}

// A device is taken over after the version of an audience was compared and before the mail is
// stored, in one transaction or in parts. The mail counts as sent before and dropped by the
// takeover; what is sent to the user's other device arrives, and so does what is sent afterwards.
func TestMailForAnOldIdentityIsNotDelivered(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewDivided(t, 3))
	for name, c := range map[string]struct{ home, other int }{
		"in one transaction": {0, 0}, "in parts": {1, 2}, "in parts, one beside the claim": {0, 2},
		"in parts, both in one bucket": {1, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			boxes := n.boxes(t)
			device := boxes[0]
			other := n.newBoxBeside(t, boxes[c.other])
			user, from := n.owned(t, device, other), n.senderBeside(boxes[c.home])
			stranger := n.newBoxBeside(t, device)
			n.owned(t, stranger)
			taking, lock := make(chan error, 1), make(chan struct{})
			locked := make(chan int32, 1)
			go func() {
				taking <- n.main.InTx(context.Background(), func(tx *storage.Tx) error {
					var pid int32
					err := tx.QueryRow(context.Background(), "SELECT pg_backend_pid()").Scan(&pid)
					if err == nil {
						err = takeOver(context.Background(), tx, user, device)
					}
					locked <- pid
					<-lock
					return err
				})
			}()
			pid := <-locked
			b := batchOf(to(device, "old")[0], to(other, "a")[0], to(stranger, "a")[0])
			b.Audiences = []Audience{{user, 1}}
			sent := make(chan error, 1)
			go func() { _, err := n.Send(context.Background(), from, b); sent <- err }()
			wait.Eventually(t, "the mail waits for the takeover", func() bool {
				return n.waitingFor(t, uint32(pid)) > 0
			})
			close(lock)
			if err := <-taking; err != nil {
				t.Fatal(err)
			}
			if err := <-sent; err != nil {
				t.Fatalf("heard %v", err)
			}
			n.again(t, from, b)
			if got := n.gaps(t, device); !slices.Equal(got, []core.Gap{{From: 1, To: 1, Reason: core.GapTakeover}}) {
				t.Errorf("gaps %v", got)
			}
			n.holds(t, []core.DeviceID{other, stranger}, "a")
			after := batchOf(to(device, "new")...)
			after.Audiences = []Audience{{user, 2}}
			n.again(t, from, after)
			if texts, seqs := n.texts(t, device, 0); !slices.Equal(texts, []string{"new"}) || seqs[0] != 2 {
				t.Errorf("stored: %v, %v", texts, seqs)
			}
			n.balanced(t, device)
		})
	}
}

// A part of a batch fails, then its device is taken over, and the batch is repeated.
func TestARepetitionAfterATakeoverDeliversNothingOld(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewDivided(t, 3))
	devices := n.boxes(t)
	user, from := n.owned(t, devices...), n.senderBeside(devices[0])
	tx := n.hold(t, "SELECT FROM mailboxes WHERE device_id = $1 FOR UPDATE", devices[2])
	b := batchOf(to(devices[1], "a")[0], to(devices[2], "old")[0])
	b.Audiences = []Audience{{user, 1}}
	failed := make(chan error, 1)
	go func() { _, err := n.Send(context.Background(), from, b); failed <- err }()
	wait.Eventually(t, "a part waits", func() bool { return n.waitingFor(t, tx.Conn().PgConn().PID()) == 1 })
	one[int](t, n, terminateBlockedBy, tx.Conn().PgConn().PID())
	if err := <-failed; core.KindOf(err) != core.Unavailable {
		t.Fatalf("heard %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.tx(t, func(tx *storage.Tx) error { return takeOver(t.Context(), tx, user, devices[2]) })
	n.again(t, from, b)
	n.holds(t, devices[1:2], "a")
	n.holds(t, devices[2:])
	if got := n.gaps(t, devices[2]); !slices.Equal(got, []core.Gap{{From: 1, To: 1, Reason: core.GapTakeover}}) {
		t.Errorf("gaps %v", got)
	}
	if got := n.counts.dropped[core.GapTakeover].Load(); got != 1 {
		t.Errorf("%d are counted as dropped", got)
	}
}
