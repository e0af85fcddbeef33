package bench

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// beside points a scenario at a relay of the test.
func beside(t *testing.T) (c Common, out *bytes.Buffer) {
	t.Helper()
	relay := relaytest.Start(t)
	out = &bytes.Buffer{}
	return Common{URL: relay.Front(t), Management: relay.Management, DatabaseURL: relay.DatabaseURL,
		JSON: filepath.Join(t.TempDir(), "figures.json"), Out: out}, out
}

// figures reads the JSON of a scenario and fails the test when one of the names is missing.
func figures(t *testing.T, path string, names ...string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, ok := got[name]; !ok {
			t.Errorf("the JSON has no %s: %s", name, text)
		}
	}
	return got
}

func TestARelayIsMeasuredAndComparedWithItsFloor(t *testing.T) {
	t.Parallel()
	common, out := beside(t)
	picture := filepath.Join(t.TempDir(), "latency.svg")
	r, err := Relay(t.Context(), RelayConfig{Common: common, Devices: 15, Senders: 8, Size: 512, Batch: 3,
		Duration: time.Second, Warmup: 100 * time.Millisecond, Floor: true, Picture: picture})
	if err != nil {
		t.Fatal(err)
	}
	if r.Lost != 0 || r.Duplicated != 0 || r.AcceptedAll == 0 || r.AcceptedAll != r.DeliveredOf || r.OutOfOrder != 0 ||
		r.Misdelivered != 0 || len(r.Errors) != 0 {
		t.Errorf("the ledger does not balance: %+v", r)
	}
	if r.Accepted <= 0 || r.Delivered <= 0 || r.Acked <= 0 || r.SettledPerS == nil || *r.SettledPerS <= 0 ||
		r.Floor == nil || *r.Floor <= 0 ||
		*r.FloorRatio <= 0 || r.WALPerOperation == nil || *r.WALPerOperation < 512 || r.CPUPerThousand == nil ||
		r.DatabaseCPU == nil || *r.DatabaseCPU <= 0 {
		all, err := json.Marshal(r)
		t.Errorf("a figure is missing: %s, %v", all, err)
	}
	metrics := &target{metrics: common.Management + "/metrics"}
	wait.Eventually(t, "the relay has heard of every acknowledgement", func() bool {
		return metrics.scrape()["obscura_envelopes_acknowledged_total"] == float64(r.DeliveredOf)
	})
	got := figures(t, common.JSON, "accepted_per_s", "delivered_per_s", "acked_per_s", "lost", "duplicated",
		"floor_per_s", "floor_ratio", "errors", "wal_bytes_per_message")
	for _, name := range []string{"send_ms", "e2e_ms"} {
		for _, p := range []string{"p50", "p95", "p99", "p999"} {
			if v, ok := got[name].(map[string]any)[p].(float64); !ok || v <= 0 {
				t.Errorf("%s has no %s: %v", name, p, got[name])
			}
		}
	}
	if svg, err := os.ReadFile(picture); err != nil || !bytes.HasPrefix(svg, []byte("<svg")) ||
		bytes.Count(svg, []byte(`fill="#a5593b"`)) == 0 {
		t.Errorf("the picture: %v, %d bytes", err, len(svg))
	}
	if !strings.Contains(out.String(), "floor") || !strings.Contains(out.String(), "send to receive") {
		t.Errorf("the table: %s", out)
	}
}

func TestAnOfferedRateIsKept(t *testing.T) {
	t.Parallel()
	common, _ := beside(t)
	r, err := Relay(t.Context(), RelayConfig{Common: common, Devices: 5, Senders: 8, Size: 64, Batch: 1, Rate: 50,
		Duration: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if r.AcceptedAll != 100 || r.DeliveredOf != 100 || r.Late == nil {
		t.Errorf("50 a second for two seconds: %+v", r)
	}
}

func TestASharedBodyIsComparedWithSubmissions(t *testing.T) {
	t.Parallel()
	common, out := beside(t)
	for _, prefix := range []int{49, 0} {
		r, err := Shared(t.Context(), RelayConfig{Common: common, Devices: 120, Recipients: 110, Size: 512,
			Prefix: prefix, Batch: 1, Shared: true, Duration: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if r.Pairs != 2 || r.Sends == 0 || r.AcceptedAll != 110*r.Sends || r.Lost != 0 || r.Duplicated != 0 ||
			len(r.Errors) != 0 {
			t.Errorf("the ledger does not balance: %+v", r)
		}
		if bytes := r.Figures[0]; len(r.Figures) < 3 || bytes.Ratio < 5 || prefix == 0 && bytes.Ratio < 10 {
			t.Errorf("prefixes of %d: %+v", prefix, r.Figures)
		}
	}
	figures(t, common.JSON, "figures", "sends", "lost", "duplicated", "errors")
	if !strings.Contains(out.String(), "bytes of requests") || !strings.Contains(out.String(), "submissions") {
		t.Errorf("the table: %s", out)
	}
}

func TestSealedRequestsAreComparedWithNamedOnes(t *testing.T) {
	t.Parallel()
	common, out := beside(t)
	common.Rounds = 2
	r, err := Sealed(t.Context(), RelayConfig{Common: common, Devices: 25, Senders: 8, Size: 512, Batch: 1,
		Sealed: true, Duration: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Turns {
		for _, way := range []*RelayResult{p.Relay, p.Peer} {
			if way.AcceptedAll == 0 || way.DeliveredOf != way.AcceptedAll || way.Lost != 0 ||
				way.Duplicated != 0 || len(way.Errors) != 0 {
				t.Errorf("the ledger does not balance: %+v", way)
			}
		}
	}
	if len(r.Turns) != 2 || len(r.Ratios) == 0 || !strings.Contains(out.String(), "sealed requests") {
		t.Errorf("%+v, %s", r.Ratios, out)
	}
}

func TestBundlesAreFetchedAndNoKeyIsHandedOutTwice(t *testing.T) {
	t.Parallel()
	common, _ := beside(t)
	for _, cfg := range []BundlesConfig{{Hot: true, Refill: true, Kyber: true}, {Targets: 3}} {
		cfg.Common, cfg.Callers, cfg.Targets = common, 8, max(cfg.Targets, 1)
		enough := int64(300)
		if cfg.Refill {
			enough = keysPerTarget + 1
		}
		var r *BundlesResult
		patiently(func(duration time.Duration) bool {
			var err error
			cfg.Duration = duration
			if r, err = Bundles(t.Context(), cfg); r == nil {
				t.Fatal(err)
			}
			return r.Keys >= enough
		})
		if r.Twice != 0 || r.Keys == 0 || r.Fetched <= 0 || r.Fetch.P50 <= 0 || len(r.Errors) != 0 {
			t.Errorf("%+v", r)
		}
		if cfg.Refill && r.Keys <= keysPerTarget {
			t.Errorf("%d keys: nobody refilled", r.Keys)
		}
		if !cfg.Refill && r.Keys != 300 {
			t.Errorf("%d keys handed out of 300", r.Keys)
		}
		figures(t, common.JSON, "bundles_per_s", "with_one_time_key_per_s", "fetch_ms", "keys_handed_out_twice",
			"errors")
	}
}

// patiently measures for longer and longer, up to 16 seconds: a busy machine gets little done in
// one.
func patiently(measure func(time.Duration) (enough bool)) {
	for duration := time.Second; !measure(duration) && duration < 16*time.Second; duration *= 2 {
	}
}

func TestAKeyThatIsHandedOutTwiceIsFoundOut(t *testing.T) {
	t.Parallel()
	target := newBundleTarget(&device{user: &user{}}, false)
	var got []fetched
	if err := json.Unmarshal([]byte(`[{"oneTimePreKey":{"keyId":7,"publicKey":"AAAA"}}]`), &got); err != nil {
		t.Fatal(err)
	}
	if target.handOut(got[0]) || !target.handOut(got[0]) {
		t.Error("the second hand-out of a key was not noticed")
	}
}

// TestIdleSocketsAreHeld is not parallel: the relay is in this process, and others' goroutines
// would be counted.
func TestIdleSocketsAreHeld(t *testing.T) {
	common, _ := beside(t)
	r, err := Idle(t.Context(), IdleConfig{Common: common, Sockets: 20, Hold: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if r.Broken != 0 || r.Connects <= 0 || r.PerSocket == nil || r.Goroutines == nil || *r.Goroutines < 1 {
		t.Errorf("%+v", r)
	}
	figures(t, common.JSON, "rss_bytes_per_socket", "goroutines_per_socket", "relay_cpu_us_per_socket_s", "broken")
}

func TestAProcessIsMeasuredWithoutMetrics(t *testing.T) {
	t.Parallel()
	common, _ := beside(t)
	common.Management, common.PID = "", os.Getpid() // the relay is in this process
	r, err := Idle(t.Context(), IdleConfig{Common: common, Sockets: 20, Hold: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if r.PerSocket == nil || *r.Held < 1<<20 || r.RelayCPU == nil || *r.RelayCPU <= 0 || r.RelayPeak == nil ||
		*r.RelayPeak < 1<<20 || r.Goroutines != nil {
		t.Errorf("%+v", r)
	}
	common.PID = 1 << 30
	if _, err := Idle(t.Context(), IdleConfig{Common: common, Sockets: 1, Hold: time.Second}); err == nil ||
		!strings.Contains(err.Error(), "--pid") {
		t.Errorf("a process that does not exist: %v", err)
	}
}

func TestABacklogIsDrained(t *testing.T) {
	t.Parallel()
	common, _ := beside(t)
	r, err := Backlog(t.Context(), BacklogConfig{Common: common, Devices: 3, Envelopes: 250, Size: 64,
		Patience: relaytest.Patience})
	if err != nil {
		t.Fatal(err)
	}
	if r.Lost != 0 || r.Duplicated != 0 || r.OutOfOrder != 0 || r.Envelopes != 200 || r.Drained <= 0 ||
		r.PerDevice.P50 <= 0 {
		t.Errorf("%+v", r)
	}
	figures(t, common.JSON, "drained_per_s", "device_ms", "lost", "duplicated")
}

func TestSocketsAreOpenedAndClosed(t *testing.T) {
	t.Parallel()
	common, _ := beside(t)
	var r *ConnectResult
	patiently(func(duration time.Duration) bool {
		var err error
		if r, err = Connect(t.Context(), ConnectConfig{Common: common, Callers: 3, Duration: duration}); r == nil {
			t.Fatal(err)
		}
		return r.Opened > 0
	})
	if r.Opened <= 0 || r.Open.P50 <= 0 || len(r.Errors) != 0 {
		t.Errorf("%+v", r)
	}
	figures(t, common.JSON, "sockets_opened_per_s", "open_ms", "errors")
}

func TestLogInsAreCounted(t *testing.T) {
	t.Parallel()
	common, _ := beside(t)
	var r *LoginResult
	patiently(func(duration time.Duration) bool {
		var err error
		if r, err = Login(t.Context(), LoginConfig{Common: common, Callers: 2, Duration: duration}); r == nil {
			t.Fatal(err)
		}
		return r.LogIns > 0
	})
	if r.LogIns <= 0 || r.LogIn.P50 <= 0 || len(r.Errors) != 0 {
		t.Errorf("%+v", r)
	}
	figures(t, common.JSON, "log_ins_per_s", "log_in_ms", "errors")
}

func TestARelayOfItsOwnIsToldApartAndLeavesNothingBehind(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	t.Setenv("OBSCURA_DATABASE_URL", "postgres://nobody@127.0.0.1:1/production") // must not be used
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Relay(t.Context(), RelayConfig{Common: Common{Program: program, PostgresBin: testdb.BinDir()},
		Devices: 10, Senders: 4, Size: 512, Batch: 1, Duration: time.Second, Floor: true})
	if err != nil {
		t.Fatal(err)
	}
	if r.Lost != 0 || r.AcceptedAll == 0 || r.RelayCPU == nil || *r.RelayCPU <= 0 || r.DatabaseCPU == nil ||
		*r.DatabaseCPU <= 0 ||
		r.GeneratorShare == nil || *r.GeneratorShare <= 0 || *r.GeneratorShare >= 1 || r.RelayPeak == nil ||
		*r.RelayPeak < 1<<20 || r.Floor == nil {
		t.Errorf("%+v", r)
	}
	left, err := os.ReadDir(temp)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	for _, pid := range children(os.Getpid()) {
		if _, err := os.Readlink(procFile(pid, "exe")); err == nil {
			if command, _ := os.ReadFile(procFile(pid, "cmdline")); bytes.Contains(command, []byte("serve")) {
				t.Errorf("the relay still runs: %q", command)
			}
		}
	}
}

func TestARelayOfItsOwnIsToldWhatToUse(t *testing.T) {
	t.Setenv("OBSCURA_RATE_LIMITS", "on")
	t.Setenv("DATABASE_URL", "postgres://nobody@127.0.0.1:1/production")
	t.Setenv("OBSCURA_DATABASE_CONNECTIONS", "7")
	for entry, want := range map[string]bool{
		"OBSCURA_RATE_LIMITS=off": true, "OBSCURA_RATE_LIMITS=on": false, "OBSCURA_DATABASE_URL=postgres://x/x": true,
		"DATABASE_URL=postgres://nobody@127.0.0.1:1/production": false, "OBSCURA_DATABASE_CONNECTIONS=7": true,
	} {
		if got := slices.Contains(environment("postgres://x/x", "folder"), entry); got != want {
			t.Errorf("%s: %v", entry, got)
		}
	}
}

func TestARelayThatCannotStartIsReported(t *testing.T) {
	t.Parallel()
	_, err := startChild(t.Context(), "/bin/false", "postgres://x/x", t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "did not start") {
		t.Errorf("got %v", err)
	}
}
