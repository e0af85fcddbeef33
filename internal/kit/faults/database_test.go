package faults_test

import (
	"context"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/kit/wait"
)

func TestFaultsOfTheDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	t.Run("PostgreSQL is stopped and started", func(t *testing.T) {
		w.play(t, load{}, restartDatabase(syscall.SIGINT))
	})
	t.Run("PostgreSQL is stopped at once", func(t *testing.T) { w.play(t, load{}, restartDatabase(syscall.SIGQUIT)) })
	t.Run("PostgreSQL is killed", func(t *testing.T) { w.play(t, load{}, restartDatabase(syscall.SIGKILL)) })
	t.Run("PostgreSQL is killed as sockets open", func(t *testing.T) { w.play(t, load{}, killAsSocketsOpen) })
	t.Run("one of its processes is killed", func(t *testing.T) { w.play(t, load{}, killBackend) })
	t.Run("31 days pass", func(t *testing.T) { w.play(t, load{}, passDays) })
	t.Run("a node is killed after that", func(t *testing.T) { w.play(t, load{}, killNode) })
}

func TestFaultsOfTheWayToTheDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	t.Run("the answers to commits are lost", func(t *testing.T) { w.play(t, load{}, loseCommits) })
	t.Run("answers are cut off after some bytes", func(t *testing.T) { w.play(t, load{}, truncateAnswers) })
	t.Run("connections are reset", func(t *testing.T) { w.play(t, load{}, resetConnections) })
	t.Run("the database is slow", func(t *testing.T) { w.play(t, load{}, slowDatabase) })
	t.Run("the database is silent", func(t *testing.T) { w.play(t, load{}, silentDatabase) })
}

func restartDatabase(sig syscall.Signal) func(*testing.T, *run) {
	return func(t *testing.T, r *run) {
		r.world.server.stop(t, sig)
		for _, n := range r.world.nodes {
			n.awaitNotReady(t, "database")
		}
		r.refusals(t, senders)
		r.world.server.start(t)
	}
}

// killAsSocketsOpen crashes the database right after devices have connected. The numbers that say
// which of two sockets of a device is the newer one must survive it, since the sockets do. The
// process that would write asynchronous commits to the disk within a fifth of a second is made to
// be late.
func killAsSocketsOpen(t *testing.T, r *run) {
	r.gate.Lock()
	defer r.gate.Unlock()
	writer := int(r.world.numbers(t, `SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'`)[0])
	if err := syscall.Kill(writer, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ids := make([]uuid.UUID, len(r.recipients))
	for i, recipient := range r.recipients {
		ids[i] = recipient.id
		recipient.refresh(t)
	}
	const generations = `SELECT generation FROM mailboxes WHERE device_id = ANY($1) ORDER BY device_id`
	before := r.world.numbers(t, generations, ids)
	r.world.server.stop(t, syscall.SIGKILL)
	if err := syscall.Kill(writer, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.world.server.start(t)
	for i, after := range r.world.numbers(t, generations, ids) {
		if after < before[i] {
			t.Errorf("a device's socket has generation %d, and after the crash its mailbox stands at %d", before[i],
				after)
		}
	}
}

// killBackend kills one process of the server: it ends all connections and recovers.
func killBackend(t *testing.T, r *run) {
	pids := r.world.numbers(t,
		`SELECT pid FROM pg_stat_activity WHERE application_name = 'obscura' ORDER BY random() LIMIT 1`)
	if err := syscall.Kill(int(pids[0]), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.refusals(t, 1)
	wait.Eventually(t, "the server has recovered", func() bool {
		conn, err := r.world.server.connect(t.Context())
		if err != nil {
			return false
		}
		return conn.Close(context.WithoutCancel(t.Context())) == nil
	})
}

// loseCommits makes answers slow, waits until a commit has been made, and breaks the connection
// before its answer is through: the relay cannot know, the sender asks again, and it must be stored
// once.
func loseCommits(t *testing.T, r *run) {
	conn, err := r.world.server.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	count := func(sql string, args ...any) (n int) {
		if err := conn.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	lost := 0
	for round := 0; lost < 3; round++ {
		n := r.world.nodes[round%2]
		heal := n.db.poison(downstream, fault{latency: 150 * time.Millisecond})
		before := count(`SELECT count(*) FROM audit.witness`)
		wait.Eventually(t, "a commit", func() bool { return count(`SELECT count(*) FROM audit.witness`) > before })
		n.db.cut()
		r.refusals(t, 1)
		lost += count(`SELECT count(*) FROM audit.witness WHERE payload = ANY($1)`, r.ledger.unanswered())
		heal()
		n.db.mend(t)
		n.awaitReady(t)
		if round == 20 {
			t.Fatal("in 20 tries no commit was cut from its answer")
		}
	}
	t.Logf("%d messages had been stored when their senders heard of a failure", lost)
}

func truncateAnswers(t *testing.T, r *run) {
	for range 3 {
		n := r.world.nodes[rand.N(2)]
		heal := n.db.poison(downstream, fault{limit: 500 + rand.N(1500)})
		r.refusals(t, 2)
		heal()
		n.awaitReady(t)
	}
}

func resetConnections(t *testing.T, r *run) {
	for _, n := range r.world.nodes {
		heal := n.db.poison(downstream, fault{reset: true})
		n.awaitNotReady(t, "database")
		r.refusals(t, 2)
		heal()
	}
}

func slowDatabase(t *testing.T, r *run) {
	for _, n := range r.world.nodes {
		heal := n.db.poison(downstream, fault{latency: 60 * time.Millisecond, jitter: 50 * time.Millisecond})
		r.progress(t, 2*senders)
		heal()
	}
}

// silentDatabase lets nothing through to one node, and breaks nothing either.
func silentDatabase(t *testing.T, r *run) {
	n := r.world.nodes[rand.N(2)]
	heal := n.db.poison(downstream, fault{silent: true})
	n.awaitNotReady(t, "database")
	r.refusals(t, 1)
	heal()
}

// passDays moves the database's clock, which is the one that decides about mail, sessions and
// tickets. Requests that had been sent before are repeated only afterwards if nobody had answered
// them, and then not as the same ones: so none is under way. Signing keys get no older: nodes would
// have looked for them 744 times.
func passDays(t *testing.T, r *run) {
	late := r.recipients[len(r.recipients)-1] // never acknowledges: all that it has expires
	r.gate.Lock()
	before := r.world.mailbox(t, late.id)
	r.world.exec(t, `UPDATE clock.ahead SET by = by + interval '31 days';
		UPDATE signing_keys SET created_at = created_at + interval '31 days'`)
	r.gate.Unlock()
	for _, recipient := range r.recipients {
		recipient.reconnect()
	}
	if len(before.pending) == 0 {
		t.Fatal("nothing was there to expire")
	}
	wait.Eventually(t, "what was pending is reported as a gap", func() bool {
		late.book.mu.Lock()
		defer late.book.mu.Unlock()
		for seq := range before.pending {
			if !late.gapped[seq] {
				return false
			}
		}
		return true
	})
}
