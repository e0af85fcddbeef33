package faults_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// mailbox is what the database holds of a device, read at one instant.
type mailbox struct {
	exists             bool
	next, floor, count int64
	stored             []storedEnvelope // by the witness: everything that ever was committed
	pending            map[uint64]uuid.UUID
	gaps               map[uint64]bool
}

type storedEnvelope struct {
	seq    uint64
	parcel uuid.UUID
}

func (w *world) mailbox(t testing.TB, device uuid.UUID) mailbox {
	t.Helper()
	ctx := context.Background()
	conn, err := w.server.connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	m := mailbox{pending: map[uint64]uuid.UUID{}, gaps: map[uint64]bool{}}
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		return m.load(ctx, tx, device)
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *mailbox) load(ctx context.Context, tx pgx.Tx, device uuid.UUID) error {
	err := tx.QueryRow(ctx, `SELECT next_seq, floor_seq, pending FROM mailboxes WHERE device_id = $1`,
		device).Scan(&m.next, &m.floor, &m.count)
	if err != nil && err != pgx.ErrNoRows { //nolint:errorlint // pgx returns it as it is
		return err
	}
	m.exists = err == nil
	var seq, to int64
	var parcel *uuid.UUID
	each := func(sql string, into []any, do func()) error {
		rows, err := tx.Query(ctx, sql, device)
		if err == nil {
			_, err = pgx.ForEachRow(rows, into, func() error { do(); return nil })
		}
		return err
	}
	if err := each(`SELECT seq, payload FROM audit.witness WHERE device_id = $1 ORDER BY seq`, []any{&seq, &parcel},
		func() {
			m.stored = append(m.stored, storedEnvelope{uint64(seq), *parcel})
		}); err != nil {
		return err
	}
	if err := each(`SELECT seq, encode(substring(body FROM 33 FOR 16), 'hex')::uuid FROM messages WHERE device_id = $1`,
		[]any{&seq, &parcel}, func() {
			m.pending[uint64(seq)] = *parcel
		}); err != nil {
		return err
	}
	return each(`SELECT from_seq, to_seq FROM gaps WHERE device_id = $1`, []any{&seq, &to}, func() {
		for s := seq; s <= to; s++ {
			m.gaps[uint64(s)] = true
		}
	})
}

// audit holds the ledger, the books and the database against each other.
func (r *run) audit(t testing.TB) {
	t.Helper()
	l := r.ledger
	copies := map[uuid.UUID]int{} // how often a parcel was stored
	for _, recipient := range r.recipients {
		m := r.world.mailbox(t, recipient.id)
		l.mu.Lock()
		recipient.mu.Lock()
		recipient.book.mu.Lock()
		l.auditStored(recipient, &m, copies)
		if recipient.erased.Load() != nil {
			l.auditErased(&m)
		} else {
			l.auditMailbox(recipient, &m)
		}
		l.repeated += recipient.repeated
		recipient.book.mu.Unlock()
		recipient.mu.Unlock()
		l.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, p := range l.parcels {
		switch n := copies[id]; {
		case n > 1:
			l.wrongLocked("one message was stored twice")
		case p.told && n == 0:
			l.wrongLocked("a message whose sender was told 200 was never stored")
		case !p.told && !p.invalid:
			l.wrongLocked("a sender never heard whether its message was stored")
		case !p.told && n > 0:
			l.wrongLocked("a message whose sender was told that there is no such device was stored")
		case p.failures > 0 && n > 0:
			l.untold++
		}
	}
}

// auditStored checks what was committed, by sequence. The locks are held.
func (l *ledger) auditStored(r *recipient, m *mailbox, copies map[uuid.UUID]int) {
	l.stored += len(m.stored)
	newest := map[uuid.UUID]int{} // by sending device
	for i, e := range m.stored {
		copies[e.parcel]++
		p := l.parcels[e.parcel]
		if e.seq != uint64(i+1) {
			l.wrongLocked("the sequences of a device have a hole, or one was given twice")
			return
		}
		if p == nil || p.to != r.device {
			l.wrongLocked("a device has a message that nobody sent to it")
			continue
		}
		if p.n < newest[p.from.id] {
			l.wrongLocked("a sender's messages were stored in another order than they were sent")
		}
		newest[p.from.id] = p.n
		if id, ok := r.seen[e.seq]; ok {
			l.seen++
			if id != e.parcel {
				l.wrongLocked("a device saw another message under a sequence than was stored")
			}
		}
	}
	for seq := range r.seen {
		if seq > uint64(len(m.stored)) {
			l.wrongLocked("a device saw a sequence that was never committed")
		}
	}
}

// auditErased checks what is left of a deleted device: nothing.
func (l *ledger) auditErased(m *mailbox) {
	l.erased += len(m.stored)
	if m.exists || len(m.pending) > 0 || len(m.gaps) > 0 {
		l.wrongLocked("something was left behind of a deleted device")
	}
}

// auditMailbox checks the sentence: accepted = seen and acknowledged + pending + reported or
// recorded in gaps.
func (l *ledger) auditMailbox(r *recipient, m *mailbox) {
	l.pending += len(m.pending)
	if !m.exists || m.next != int64(len(m.stored))+1 || m.count != int64(len(m.pending)) || m.count > 1000 {
		l.wrongLocked("the mailbox's own figures are wrong")
	}
	for _, e := range m.stored {
		_, seen := r.seen[e.seq]
		parcel, pending := m.pending[e.seq]
		gap := m.gaps[e.seq] || r.gapped[e.seq]
		if gap {
			l.gapped++
		}
		switch {
		case !seen && !pending && !gap:
			l.wrongLocked("a message was lost silently")
		case !r.acked[e.seq] && !pending && !gap:
			l.wrongLocked("a message went although it had not been acknowledged")
		case pending && gap:
			l.wrongLocked("a pending message was reported as a gap")
		case pending && parcel != e.parcel:
			l.wrongLocked("a pending message is another one than was stored")
		case pending && e.seq <= uint64(m.floor):
			l.wrongLocked("a pending message lies below the mailbox's floor")
		case pending && r.acked[e.seq] && (r.manner == prompt || r.manner == lazy):
			l.wrongLocked("an acknowledgement was forgotten for good")
		}
	}
	for seq := range r.gapped {
		if seq > uint64(len(m.stored)) {
			l.wrongLocked("a gap was reported for a sequence that was never given")
		}
	}
}
