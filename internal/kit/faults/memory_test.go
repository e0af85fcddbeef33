package faults_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// TestUploadsAreNeverWholeInMemory uploads the largest attachments to a real process, alone and
// many at once, and asks the kernel for the most memory that it had meanwhile. Nothing runs beside
// it: the 1.6 GB that it syncs would hold up the commits of the others, and theirs its own.
func TestUploadsAreNeverWholeInMemory(t *testing.T) {
	const size = 50 << 20
	w := newWorld(t, false)
	n := w.nodes[0]
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last lines of the node's log:\n%s", n.lastWords())
		}
	})
	// On the other node: what hashing a password takes, and leaves behind, would hide what uploads
	// take.
	device := relaytest.At(t, w.nodes[1].url()).Register(t).NewDevice(t)
	upload := func(size int64) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url()+"/v1/attachments",
			io.NopCloser(io.LimitReader(zeros{}, size)))
		if err != nil {
			t.Error(err)
			return
		}
		request.ContentLength = size
		request.Header.Set("Authorization", "Bearer "+device.Token)
		request.Header.Set("Content-Type", "application/octet-stream")
		response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true},
			Timeout: 4 * patience}).Do(request)
		if err != nil {
			t.Error(err)
			return
		}
		defer response.Body.Close()
		if body, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusCreated {
			t.Errorf("status %d, %s", response.StatusCode, body)
		}
	}
	atOnce := func(n int, size int64) {
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() { upload(size) })
		}
		wg.Wait()
	}
	atOnce(1, 1<<20) // a connection to the database, and whatever else is made once
	for _, c := range []struct{ uploads, most int }{{1, 2 << 10}, {32, 64 << 10}} {
		before := n.memory(t, "VmRSS")
		n.resetPeak(t)
		atOnce(c.uploads, size)
		rise := n.memory(t, "VmHWM") - before
		t.Logf("%d uploads of 50 MiB: from %d KiB by %d KiB", c.uploads, before, rise)
		if rise > c.most {
			t.Errorf("%d uploads take %d KiB, more than %d", c.uploads, rise, c.most)
		}
	}
}

// TestSharedBodiesWaitAsTheyCame sends as many requests at once as one account may while the
// database holds them up: each stands for sixteen times its size, or for a thousand recipients in
// two thousand bytes.
func TestSharedBodiesWaitAsTheyCame(t *testing.T) {
	const most = 48 << 10
	w := newWorld(t, false)
	n := w.nodes[0]
	client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
	devices := newDevices(t, w.nodes[1].url(), client, 4) // on the other node, as above
	recipient := func() *obscurapb.SharedRecipient {
		id := uuid.New()
		return &obscurapb.SharedRecipient{SubmissionId: id[:], DeviceId: devices[0].id[:], Prefix: []byte("prefix")}
	}
	large := &obscurapb.SharedSubmission{Message: make([]byte, core.MaxMessage-2<<10)}
	for range 16 {
		large.Recipients = append(large.Recipients, recipient())
	}
	lost := &obscurapb.SharedSubmission{Message: []byte("x"), Recipients: append(
		slices.Repeat([]*obscurapb.SharedRecipient{{}}, core.MaxRecipients-1), recipient())}
	send := func(d *device, shared *obscurapb.SharedSubmission) int {
		body, err := proto.Marshal(&obscurapb.SendMessageRequest{Shared: []*obscurapb.SharedSubmission{shared}})
		if err != nil {
			t.Error(err)
		}
		key := uuid.New()
		return d.call(t.Context(), http.MethodPost, n.url()+"/v1/messages", "application/x-protobuf", body, &key).status
	}
	for _, d := range devices[:2] { // what is made once
		if status := send(d, large); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
	}
	conn, err := w.server.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, c := range []struct {
		what, hold string
		sender     *device
		requests   int
		shared     *obscurapb.SharedSubmission
	}{
		{"many without ids wait for a mark", `SELECT FROM pre_key_stocks FOR UPDATE`, devices[2], 300, lost},
		{"large ones wait for a mark", `SELECT FROM pre_key_stocks FOR UPDATE`, devices[3], 64, large},
		{"large ones wait in the queue", `SELECT FROM mailboxes FOR UPDATE`, devices[1], 64, large},
	} {
		if _, err := conn.Exec(t.Context(), "BEGIN; "+c.hold); err != nil {
			t.Fatal(err)
		}
		before := n.memory(t, "VmRSS")
		n.resetPeak(t)
		var wg sync.WaitGroup
		for range c.requests {
			wg.Go(func() {
				if status := send(c.sender, c.shared); status != http.StatusServiceUnavailable {
					t.Errorf("%s: status %d", c.what, status)
				}
			})
		}
		wg.Wait()
		rise := n.memory(t, "VmHWM") - before
		if _, err := conn.Exec(t.Context(), "ROLLBACK"); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s, %d: from %d KiB by %d KiB", c.what, c.requests, before, rise)
		if rise > most {
			t.Errorf("%s: they take %d KiB, more than %d", c.what, rise, most)
		}
	}
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// memory reads a line of /proc/PID/status, in KiB.
func (n *node) memory(t testing.TB, name string) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.pid()))
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := bytes.Cut(status, []byte(name+":"))
	kib, err := strconv.Atoi(string(bytes.Fields(line)[0]))
	if err != nil {
		t.Fatal(err)
	}
	return kib
}

// resetPeak makes VmHWM begin anew.
func (n *node) resetPeak(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", n.pid()), []byte("5"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (n *node) pid() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process.Pid
}
