package faults_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"

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
