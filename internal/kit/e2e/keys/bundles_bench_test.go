package keys_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/postgres"
)

// BenchmarkBundlesOverHTTP fetches bundles end to end: 64 connections, keys of both kinds, a
// database whose commits reach the disk, and the load generator on the same machine.
func BenchmarkBundlesOverHTTP(b *testing.B) {
	for name, n := range map[string]int{"one hot target": 1, "spread over 1000 targets": 1000} {
		b.Run(name, func(b *testing.B) {
			cluster, err := postgres.Start(b.Context(), postgres.Config{DataDir: b.TempDir(), BinDir: testdb.BinDir()})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = cluster.Stop(context.Background()) })
			relay := relaytest.StartOn(b, cluster.URL(),
				func(c *app.Config) { c.LogLevel = 8; c.DatabaseConnections = 16 })
			caller := relay.Register(b).NewDevice(b)
			targets := make([]uuid.UUID, n)
			for i := range targets {
				targets[i] = uuid.New()
			}
			seedBundles(b, relay, targets, b.N/n+1)
			b.ResetTimer()
			took := fetchOverHTTP(b, relay, caller.Token, targets)
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "bundles/s")
		})
	}
}

// seedBundles makes users with one device each and n one-time keys of each kind.
func seedBundles(b *testing.B, relay *relaytest.Relay, users []uuid.UUID, n int) {
	b.Helper()
	database := e2e.Database(b, relay)
	for _, statement := range []string{
		`INSERT INTO users (id, username, username_key, password_hash) SELECT u, u::text, u::text, '' FROM unnest($1::uuid[]) u WHERE $2::int > 0`,
		`INSERT INTO devices (id, user_id, number, registration_id, identity_key, signed_pre_key_id, signed_pre_key, signed_pre_key_sig)
			SELECT u, u, 1, 1, decode(repeat('05', 33), 'hex'), $2::int, decode(repeat('05', 33), 'hex'), decode(repeat('00', 64), 'hex') FROM unnest($1::uuid[]) u`,
		`INSERT INTO pre_key_stocks (device_id, uploads, ec_count, kyber_count) SELECT u, 1, $2::int, $2::int FROM unnest($1::uuid[]) u`,
		`INSERT INTO ec_pre_keys SELECT u, i, decode(repeat('05', 33), 'hex'), 1 FROM unnest($1::uuid[]) u, generate_series(1, $2::int) i`,
		`INSERT INTO kyber_pre_keys SELECT u, i, decode(repeat('08', 1569), 'hex'), decode(repeat('00', 64), 'hex'), 1
			FROM unnest($1::uuid[]) u, generate_series(1, $2::int) i`,
	} {
		e2e.Execute(b, database, statement, users, n)
	}
	e2e.Execute(b, database, "ANALYZE")
}

// fetchOverHTTP makes b.N fetches on 64 connections and returns how long each took.
func fetchOverHTTP(b *testing.B, relay *relaytest.Relay, token string, targets []uuid.UUID) []time.Duration {
	const callers = 64
	address := strings.TrimPrefix(relay.API, "http://")
	took := make([]time.Duration, b.N)
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				b.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			in := bufio.NewReader(conn)
			for i := caller; i < b.N; i += callers {
				start := time.Now()
				_, err := fmt.Fprintf(conn, "GET /v1/users/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n",
					targets[i%len(targets)], token)
				if err != nil {
					b.Error(err)
					return
				}
				response, err := http.ReadResponse(in, nil)
				if err != nil {
					b.Error(err)
					return
				}
				size, err := io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				if err != nil || response.StatusCode != http.StatusOK || size < 2092 {
					b.Errorf("status %d, %d bytes, %v", response.StatusCode, size, err)
					return
				}
				took[i] = time.Since(start)
			}
		})
	}
	wg.Wait()
	return took
}
