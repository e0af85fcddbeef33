package nodes_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
	"github.com/obscura-relay/obscura/internal/postgres"
	"github.com/obscura-relay/obscura/internal/storage"
)

// startCluster starts a server with further settings: name=value.
func startCluster(t *testing.T, folder string, settings ...string) *postgres.Cluster {
	t.Helper()
	all := map[string]string{"fsync": "off"} // the machine does not crash, only the server
	for _, one := range settings {
		name, value, _ := strings.Cut(one, "=")
		all[name] = value
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cluster, err := postgres.Start(ctx, postgres.Config{DataDir: folder, BinDir: testdb.BinDir(), Settings: all})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return cluster
}

// received is what recipients saw, by text.
type received struct {
	mu    sync.Mutex
	texts map[string]uint64 // guarded by mu: sequence
}

// listen keeps a device connected, acknowledges everything and notes it, until ctx ends.
func (r *received) listen(ctx context.Context, t *testing.T, d *relaytest.Device) {
	for event, err := range d.Session.Gateway().Events(ctx) {
		switch e := event.(type) {
		case *obscura.Envelope:
			r.note(t, string(e.Message), e.Sequence)
			d.Session.Gateway().Acknowledge(e)
		case *obscura.Gap:
			t.Errorf("a gap: %v", e)
		case nil:
			if ctx.Err() == nil {
				t.Errorf("the gateway ended: %v", err)
			}
		}
	}
}

func (r *received) note(t *testing.T, text string, sequence uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if before, again := r.texts[text]; again && before != sequence {
		t.Errorf("%s was stored twice, as %d and %d", text, before, sequence)
	}
	r.texts[text] = sequence
}

func (r *received) has(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.texts[text] > 0
}

func TestNothingAcceptedIsLostWhenPostgreSQLDies(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "pg")
	cluster := startCluster(t, folder)
	relay := relaytest.StartOn(t, cluster.URL())
	senders, readers := e2e.Devices(t, relay, 3), e2e.Devices(t, relay, 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := &received{texts: map[string]uint64{}}
	var stop atomic.Bool
	var accepted, refused atomic.Int64
	var sending, listening sync.WaitGroup
	for _, d := range readers {
		listening.Go(func() { seen.listen(ctx, t, d) })
	}
	ledgers := make([][]string, len(senders))
	for i, from := range senders {
		sending.Go(func() {
			for n := 0; !stop.Load(); n++ {
				to, key := readers[n%len(readers)], uuid.New()
				submission := relaytest.To(to.ID, fmt.Sprintf("%s/%d-%d", to.ID, i, n))
				for { // the same batch with the same key until it is accepted: it may have been the first time
					status, answer := from.TrySend(t, &key, submission)
					if status == http.StatusOK && len(answer) == 0 {
						break
					}
					if status != http.StatusServiceUnavailable {
						t.Errorf("status %d: %s", status, answer)
						return
					}
					if refused.Add(1); stop.Load() {
						return
					}
				}
				accepted.Add(1)
				ledgers[i] = append(ledgers[i], string(submission.GetMessage()))
			}
		})
	}
	wait.Eventually(t, "the load is on", func() bool { return accepted.Load() > 300 })
	killServer(t, folder)
	down := time.Now()
	<-cluster.Done()
	_ = cluster.Stop(ctx) // gives the folder back
	wait.Eventually(t, "requests are refused for three seconds", func() bool {
		return refused.Load() > 0 && time.Since(down) > 3*time.Second
	})
	startCluster(t, folder)
	back := accepted.Load()
	wait.Eventually(t, "the load is on again", func() bool { return accepted.Load() > back+300 })
	stop.Store(true)
	sending.Wait()
	for _, ledger := range ledgers {
		for _, text := range ledger {
			wait.Eventually(t, "what was accepted arrives: "+text, func() bool { return seen.has(text) })
		}
	}
	cancel()
	listening.Wait()
	checkBooks(t, relay, seen, readers)
	t.Logf("%d accepted, %d refused", accepted.Load(), refused.Load())
}

// checkBooks compares what arrived with what the mailboxes say they accepted.
func checkBooks(t *testing.T, relay *relaytest.Relay, seen *received, readers []*relaytest.Device) {
	t.Helper()
	db := e2e.Database(t, relay)
	for _, d := range readers {
		arrived := map[uint64]bool{}
		for text, sequence := range seen.texts {
			if strings.HasPrefix(text, d.ID.String()) {
				arrived[sequence] = true
			}
		}
		last := uint64(e2e.Count(t, db, "SELECT next_seq - 1 FROM mailboxes WHERE device_id = $1", d.ID))
		for seq := uint64(1); seq <= last; seq++ {
			if !arrived[seq] {
				t.Errorf("sequence %d of %d never arrived", seq, last)
			}
		}
		if uint64(len(arrived)) != last {
			t.Errorf("%d sequences arrived, %d were given", len(arrived), last)
		}
	}
}

// killServer ends a server without letting it do anything more.
func killServer(t *testing.T, folder string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(folder, "cluster", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(line)
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What one node at a time does may take long, such as looking through the blob store.
func TestANodeStartsWhileAnotherIsAtWork(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	tx, err := e2e.Database(t, relay).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }() // lets go of the locks
	for _, lock := range []int64{storage.LockSweep, storage.LockVacuum, storage.LockWalk} {
		if _, err := tx.Exec(t.Context(), "SELECT pg_advisory_xact_lock($1)", lock); err != nil {
			t.Fatal(err)
		}
	}
	relaytest.StartOn(t, relay.DatabaseURL).Register(t)
}
