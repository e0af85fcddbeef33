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
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/postgres"
	"github.com/obscura-relay/obscura/internal/storage"
)

const (
	benchDevices = 1000
	benchCallers = 256
	benchBytes   = 512
	benchSlice   = 2 * time.Second
	benchPairs   = 10 // then the mailboxes are nearly full
)

// uncounted is a mailbox.Counters.
type uncounted struct{}

func (uncounted) Accepted(int)                {}
func (uncounted) Acknowledged(int)            {}
func (uncounted) Dropped(core.GapReason, int) {}

// BenchmarkScheduling: 256 callers send to 1000 devices of which none is connected, on disk,
// without a pause, while the relay is one without push and one with it by turns, two seconds each.
// Every device has a token, has been woken up within the last thirty seconds, and is again when
// they are over, through a service that takes everything at once: as often as may be. It tells the
// medians of the ratios of neighbours: of the rate, and of the processor time that the relay and
// its database take for a message, which others on the machine disturb less. Run it with -benchtime
// 3x for thirty pairs.
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
	if err := main.CheckSchema(ctx); err != nil {
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
		for _, sql := range []string{"TRUNCATE messages, receipts, gaps, push_wakeups",
			"UPDATE mailboxes SET pending = 0, floor_seq = next_seq - 1",
			"UPDATE push_tokens t SET woken_at = now() - random() * interval '30 s', woken_seq = (SELECT next_seq - 1 FROM mailboxes m WHERE m.device_id = t.device_id)",
			"VACUUM mailboxes, push_tokens", "CHECKPOINT"} {
			if _, err := inside.Exec(ctx, sql); err != nil {
				b.Fatal(err)
			}
		}
	}
	var slower, dearer, without, with []float64
	sender := &fakeSender{}
	for range b.N {
		empty()
		l := newLoad(b, main, async, devices)
		for i := range benchPairs {
			var rate, cost float64
			if i%2 == 0 {
				rate, cost = l.slice(nil)
			}
			pushRate, pushCost := l.slice(sender)
			if i%2 == 1 {
				rate, cost = l.slice(nil)
			}
			without, with = append(without, rate), append(with, pushRate)
			slower, dearer = append(slower, rate/pushRate), append(dearer, pushCost/cost)
		}
		l.end()
	}
	b.ReportMetric(median(without), "msgs/s-without")
	b.ReportMetric(median(with), "msgs/s-with")
	b.ReportMetric(100*(median(slower)-1), "%-slower")
	b.ReportMetric(100*(median(dearer)-1), "%-more-cpu")
	b.ReportMetric(float64(len(sender.sent))/float64(b.N*benchPairs)/benchSlice.Seconds(), "wakeups/s")
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

// load is callers that send without a pause.
type load struct {
	b           *testing.B
	main, async *storage.DB
	announce    atomic.Pointer[func(core.Notice)]
	stored      atomic.Int64
	end         func()
}

// Offer and Announce are the node's sockets, of which there are none.
func (l *load) Offer(core.DeviceID, []core.Envelope) bool { return false }
func (l *load) Announce(n core.Notice)                    { (*l.announce.Load())(n) }

func newLoad(b *testing.B, main, async *storage.DB, devices []core.DeviceID) *load {
	b.Helper()
	l := &load{b: b, main: main, async: async}
	silent := func(core.Notice) {}
	l.announce.Store(&silent)
	running, stop := context.WithCancel(context.Background())
	var callers, worker sync.WaitGroup
	box := mailbox.New(mailbox.Config{DB: main, Async: async, Sockets: l, Counters: uncounted{}})
	worker.Go(func() { _ = box.RunSends(running) })
	body := make([]byte, benchBytes)
	_, _ = rand.Read(body)
	var turn, ended atomic.Int64
	for range benchCallers {
		callers.Go(func() {
			from := core.Principal{User: uuid.New(), Device: uuid.New(), DeviceNumber: 1}
			for ended.Load() == 0 {
				k := turn.Add(1)
				batch := mailbox.Batch{Key: uuid.New(),
					Submissions: []mailbox.Submission{{Device: devices[k%benchDevices], Message: body}}}
				binary.BigEndian.PutUint64(batch.Digest[:], uint64(k))
				if _, err := box.Send(context.Background(), from, batch); err != nil {
					b.Error(err)
					return
				}
				l.stored.Add(1)
			}
		})
	}
	l.end = func() { ended.Store(1); callers.Wait(); stop(); worker.Wait() }
	return l
}

// slice lets the load run for a while, with push if there is a sender, and returns how many
// messages a second were stored, and the processor time of each, the end of push included.
func (l *load) slice(sender Sender) (rate, cost float64) {
	running, stop := context.WithTimeout(context.Background(), benchSlice)
	defer stop()
	start, stored, ticks := time.Now(), l.stored.Load(), processorTime(l.b)
	if sender == nil {
		<-running.Done()
	} else {
		s := New(Config{DB: l.main, Async: l.async, Senders: map[Kind]Sender{FCM: sender},
			Live: func(core.DeviceID) bool { return false },
			Ask:  func([]core.DeviceID) {}, Counters: counts{}, Logger: slog.New(slog.DiscardHandler)})
		schedule, silent := func(n core.Notice) { s.Schedule(n.IDs...) }, func(core.Notice) {}
		l.announce.Store(&schedule)
		_ = s.Run(running)
		l.announce.Store(&silent)
	}
	n := float64(l.stored.Load() - stored)
	return n / time.Since(start).Seconds(), (processorTime(l.b) - ticks) / n
}
