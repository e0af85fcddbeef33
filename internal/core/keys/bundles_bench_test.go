package keys_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/postgres"
	"github.com/obscura-relay/obscura/internal/storage"
)

// callers is how many fetch at once in the benchmarks.
const callers = 64

// newDurable runs a key service on a private cluster as the relay starts it: commits reach the
// disk.
func newDurable(b *testing.B) *bench {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cluster, err := postgres.Start(ctx, postgres.Config{DataDir: b.TempDir(), BinDir: testdb.BinDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cluster.Stop(context.Background()) })
	open, err := storage.Open(ctx, cluster.URL(), storage.Options{MaxConns: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer open.Close()
	if err := open.Migrate(ctx); err != nil {
		b.Fatal(err)
	}
	return newBenchOn(b, cluster.URL())
}

// fetch takes n bundles, target by target, with all callers at once, and returns how long each
// took.
func (b *bench) fetch(t testing.TB, n int, targets []core.Principal) []time.Duration {
	took := make([]time.Duration, n)
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for i := caller; i < n; i += callers {
				start := time.Now()
				bundles, err := b.Bundles(context.Background(), targets[i%len(targets)].User)
				if err != nil || len(bundles) != 1 || bundles[0].OneTime == nil || bundles[0].Kyber == nil {
					t.Errorf("%d bundles, %v", len(bundles), err)
					return
				}
				took[i] = time.Since(start)
			}
		})
	}
	wg.Wait()
	return took
}

func reportLatency(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "bundles/s")
}

// BenchmarkBundles hands out bundles with a key of each kind to 64 callers, durably. Its
// allocations are those of the use case and the driver.
func BenchmarkBundles(b *testing.B) {
	for name, n := range map[string]int{"one hot target": 1, "spread over 1000 targets": 1000} {
		b.Run(name, func(b *testing.B) {
			s := newDurable(b)
			targets := make([]core.Principal, n)
			devices := make([]core.DeviceID, n)
			for i := range targets {
				targets[i] = s.device(b)
				devices[i] = targets[i].Device
			}
			s.stock(b, 1, b.N/n+1, 1569, devices...)
			s.exec(b, "ANALYZE")
			b.ReportAllocs()
			b.ResetTimer()
			took := s.fetch(b, b.N, targets)
			b.StopTimer()
			reportLatency(b, took)
		})
	}
}

// BenchmarkBundlesAfterAMillion takes a million keys of each kind from one target and compares the
// first and the last tenth. The Kyber keys are short: what could slow down is the index.
func BenchmarkBundlesAfterAMillion(b *testing.B) {
	const rounds, perRound = 10, 100_000
	for b.Loop() {
		s := newDurable(b)
		target := s.device(b)
		rates := make([]float64, rounds)
		for round := range rounds {
			s.stock(b, 1+round*perRound, perRound, 33, target.Device)
			start := time.Now()
			s.fetch(b, perRound, []core.Principal{target})
			rates[round] = perRound / time.Since(start).Seconds()
		}
		b.Logf("bundles/s by the hundred thousand: %.0f", rates)
		b.ReportMetric(rates[0], "first/s")
		b.ReportMetric(rates[rounds-1], "last/s")
	}
}
