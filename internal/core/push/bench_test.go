package push

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
	"github.com/obscura-relay/obscura/internal/postgres"
	"github.com/obscura-relay/obscura/internal/storage"
	"github.com/obscura-relay/obscura/internal/testdb"
)

const (
	benchDevices = 1000
	benchCallers = 256
	benchBytes   = 512
	benchRound   = 5 * time.Second
)

// uncounted is a mailbox.Counters.
type uncounted struct{}

func (uncounted) Accepted(int)                {}
func (uncounted) Acknowledged(int)            {}
func (uncounted) Dropped(core.GapReason, int) {}

// BenchmarkScheduling: 256 callers send to 1000 devices of which none is connected, on disk, in rounds of
// five seconds that alternate between a relay without push and one with it. In the second every device has
// a token, has been woken up within the last thirty seconds, and is again when they are over, through a
// service that takes everything at once: as often as may be. Run it with -benchtime 10x for ten pairs of rounds. It tells the medians of
// their ratios: of the rate, which others on the machine disturb, and of the processor time that the
// relay and its database take for a message, which they disturb less.
func BenchmarkScheduling(b *testing.B) {
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(cancel)
	cluster, err := postgres.Start(ctx, postgres.Config{DataDir: b.TempDir(), BinDir: testdb.BinDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cluster.Stop(context.Background()) })
	open := func(opt storage.Options) *storage.DB {
		database, err := storage.Open(ctx, cluster.URL(), opt)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(database.Close)
		return database
	}
	main, async := open(storage.Options{MaxConns: 16}), open(storage.Options{MaxConns: 4, AsyncCommit: true})
	if err := main.Migrate(ctx); err != nil {
		b.Fatal(err)
	}
	inside, err := pgxpool.New(ctx, cluster.URL())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(inside.Close)
	populate(b, inside, benchDevices, 0)
	rows, err := inside.Query(ctx, "SELECT device_id FROM mailboxes")
	if err != nil {
		b.Fatal(err)
	}
	var devices []core.DeviceID
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			b.Fatal(err)
		}
		devices = append(devices, id)
	}
	empty := func() {
		for _, sql := range []string{"TRUNCATE messages, receipts, gaps, push_wakeups", "UPDATE mailboxes SET pending = 0, floor_seq = next_seq - 1",
			"UPDATE push_tokens t SET woken_at = now() - random() * interval '30 s', woken_seq = (SELECT next_seq - 1 FROM mailboxes m WHERE m.device_id = t.device_id)",
			"VACUUM mailboxes, push_tokens", "CHECKPOINT"} {
			if _, err := inside.Exec(ctx, sql); err != nil {
				b.Fatal(err)
			}
		}
	}
	var ratios, costs, without, with []float64
	sent := 0
	for i := range b.N {
		var pair, cpu [2]float64
		for _, push := range [][]bool{{false, true}, {true, false}}[i%2] {
			empty()
			sender := &fakeSender{}
			rate, spent := round(b, main, async, devices, sender, push)
			which := 0
			if push {
				which, sent = 1, sent+len(sender.sent)
			}
			pair[which], cpu[which] = rate, spent
		}
		without, with = append(without, pair[0]), append(with, pair[1])
		ratios, costs = append(ratios, pair[0]/pair[1]), append(costs, cpu[1]/cpu[0])
	}
	b.ReportMetric(median(without), "msgs/s-without")
	b.ReportMetric(median(with), "msgs/s-with")
	b.ReportMetric(100*(median(ratios)-1), "%-slower")
	b.ReportMetric(100*(median(costs)-1), "%-more-cpu")
	b.ReportMetric(float64(sent)/float64(b.N), "wakeups/round")
}

func median(of []float64) float64 {
	slices.Sort(of)
	return (of[(len(of)-1)/2] + of[len(of)/2]) / 2
}

// processorTime is what this process and its children have used of the processors, in ticks.
func processorTime(b *testing.B) (ticks float64) {
	b.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	own, used := map[int]bool{os.Getpid(): true}, map[int]float64{}
	parents := map[int]int{}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		parents[pid], _ = strconv.Atoi(fields[1])
		for _, field := range fields[11:15] { // user, system, and both of children that have ended
			n, _ := strconv.ParseFloat(field, 64)
			used[pid] += n
		}
	}
	for range 3 { // the relay, the server, its backends
		for pid, parent := range parents {
			own[pid] = own[pid] || own[parent]
		}
	}
	for pid := range own {
		if own[pid] {
			ticks += used[pid]
		}
	}
	return ticks
}

// round sends for benchRound and returns how many messages a second were stored, and what processor time
// each took.
func round(b *testing.B, main, async *storage.DB, devices []core.DeviceID, sender Sender, with bool) (rate, spent float64) {
	b.Helper()
	running, stop := context.WithCancel(context.Background())
	var workers sync.WaitGroup
	announce := func(core.Notice) {}
	if with {
		s := New(Config{DB: main, Async: async, Senders: map[Kind]Sender{FCM: sender}, Live: func(core.DeviceID) bool { return false },
			Ask: func([]core.DeviceID) {}, Counters: counts{}, Logger: slog.New(slog.DiscardHandler)})
		announce = func(n core.Notice) { s.Schedule(n.IDs...) }
		workers.Go(func() { _ = s.Run(running) })
	}
	box := mailbox.New(mailbox.Config{DB: main, Async: async, Offer: func(core.DeviceID, []core.Envelope) bool { return false },
		Announce: announce, Counters: uncounted{}})
	workers.Go(func() { _ = box.RunSends(running) })
	body := make([]byte, benchBytes)
	_, _ = rand.Read(body)
	var turn, stored atomic.Int64
	var callers sync.WaitGroup
	start, before := time.Now(), processorTime(b)
	for range benchCallers {
		callers.Go(func() {
			from := core.Principal{User: uuid.New(), Device: uuid.New(), DeviceNumber: 1}
			for time.Since(start) < benchRound {
				k := turn.Add(1)
				batch := mailbox.Batch{Key: uuid.New(), Submissions: []mailbox.Submission{{Device: devices[k%benchDevices], Message: body}}}
				binary.BigEndian.PutUint64(batch.Digest[:], uint64(k)) //nolint:gosec // positive
				if _, err := box.Send(context.Background(), from, batch); err != nil {
					b.Error(err)
					return
				}
				stored.Add(1)
			}
		})
	}
	callers.Wait()
	rate = float64(stored.Load()) / time.Since(start).Seconds()
	spent = (processorTime(b) - before) / float64(stored.Load())
	stop()
	workers.Wait()
	return rate, spent
}
