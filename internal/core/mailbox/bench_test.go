package mailbox

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/postgres"
	"github.com/obscura-relay/obscura/internal/storage"
)

const (
	benchDevices = 1000
	benchCallers = 256
	benchBytes   = 512
)

// durable makes a node on a private cluster that keeps what it has committed, with mailboxes.
func durable(b *testing.B) (*node, []core.DeviceID) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	b.Cleanup(cancel)
	cluster, err := postgres.Start(ctx, postgres.Config{DataDir: b.TempDir(), BinDir: testdb.BinDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := cluster.Stop(ctx); err != nil {
			b.Error(err)
		}
	})
	empty, err := storage.Open(ctx, cluster.URL(), storage.Options{MaxConns: 2})
	if err != nil {
		b.Fatal(err)
	}
	defer empty.Close()
	if err := empty.Migrate(ctx); err != nil {
		b.Fatal(err)
	}
	n := idleNode(b, cluster.URL())
	b.Cleanup(func() { n.stop() })
	n.run()
	devices := make([]core.DeviceID, benchDevices)
	for i := range devices {
		devices[i] = uuid.New()
	}
	n.exec(b, "INSERT INTO mailboxes (device_id) SELECT unnest($1::uuid[])", devices)
	return n, devices
}

func perSecond(b *testing.B, what string, n float64) {
	b.ReportMetric(n/b.Elapsed().Seconds(), what)
}

// BenchmarkSend: 256 callers, one submission of 512 bytes each, to 1000 devices, on disk.
func BenchmarkSend(b *testing.B) {
	n, devices := durable(b)
	body := make([]byte, benchBytes)
	if _, err := rand.Read(body); err != nil {
		b.Fatal(err)
	}
	var turn atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(benchCallers / 2) // the machine that the figures in docs/performance.md come from has two cores
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		from := newSender()
		for pb.Next() {
			k := turn.Add(1)
			batch := Batch{Key: uuid.New(), Submissions: []Submission{{Device: devices[k%benchDevices], Message: body}}}
			binary.BigEndian.PutUint64(batch.Digest[:], uint64(k))
			if _, err := n.Send(context.Background(), from, batch); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	perSecond(b, "msgs/s", float64(b.N))
}

// BenchmarkAcknowledge: one envelope an acknowledgement, until the last is gone.
func BenchmarkAcknowledge(b *testing.B) {
	n, devices := durable(b)
	n.exec(b, `INSERT INTO messages (device_id, seq, sender_id, sender_device_id, sender_number, accepted_at, body)
		SELECT ($1::uuid[])[k % $2 + 1], k / $2 + 1, gen_random_uuid(), gen_random_uuid(), 1, now(), $3
		FROM generate_series(0, $4::bigint - 1) k`, devices, benchDevices, make([]byte, benchBytes), b.N)
	n.exec(b, "UPDATE mailboxes SET next_seq = $1, pending = (SELECT count(*) FROM messages m WHERE m.device_id = mailboxes.device_id)", b.N/benchDevices+2)
	n.exec(b, "ANALYZE messages")
	b.ReportAllocs()
	b.ResetTimer()
	for k := range int64(b.N) {
		if err := n.Acknowledge(devices[k%benchDevices], []int64{k/benchDevices + 1}, nil); err != nil {
			b.Fatal(err)
		}
	}
	n.barrier(b)
	b.StopTimer()
	perSecond(b, "acks/s", float64(b.N))
	if left := one[int](b, n, "SELECT count(*) FROM messages"); left != 0 {
		b.Errorf("%d envelopes are left", left)
	}
}

// BenchmarkRead: one page, of 64 envelopes of 512 bytes, from the middle of a full mailbox.
func BenchmarkRead(b *testing.B) {
	n, devices := durable(b)
	n.send(b, newSender(), many(devices[0], core.MailboxCap, string(make([]byte, benchBytes)))...)
	n.exec(b, "ANALYZE messages")
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		page, err := n.Read(context.Background(), devices[0], core.MailboxCap/2)
		if err != nil || len(page.Envelopes) != pageRows {
			b.Fatal(len(page.Envelopes), err)
		}
	}
	perSecond(b, "envelopes/s", float64(b.N*pageRows))
}
