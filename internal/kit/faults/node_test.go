package faults_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// node is one process of the relay, and after a restart the next one.
type node struct {
	name     string
	db       *link  // its way to the database
	folder   string // where it works and keeps its data, whichever process it is
	env      []string
	socket   *os.File // held open for it, as systemd does; nil: it listens by itself
	complain func(format string, args ...any)

	mu         sync.Mutex
	api        string        // guarded by mu: empty while it does not run
	management string        // guarded by mu
	process    *os.Process   // guarded by mu
	ended      chan struct{} // guarded by mu: closed when the process has been reaped
	expected   bool          // guarded by mu: somebody ends it
	status     *os.ProcessState
	tail       []string // guarded by mu: the last lines of the log
}

// start starts the process and waits until it listens.
func (n *node) start(t testing.TB) {
	t.Helper()
	folder, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	listening, ended := make(chan struct{}), make(chan struct{})
	go n.own(filepath.Join(folder, "obscura"), listening, ended)
	select {
	case <-listening:
	case <-ended:
		t.Fatalf("node %s did not start:\n%s", n.name, n.lastWords())
	case <-time.After(patience):
		t.Fatalf("node %s did not start in time:\n%s", n.name, n.lastWords())
	}
}

// own runs the process to its end. The kernel kills it when this thread ends, so the thread stays
// here.
func (n *node) own(path string, listening, ended chan struct{}) {
	defer close(ended)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(context.Background(), path, "serve")
	if n.socket != nil { // LISTEN_PID is not known before
		cmd = exec.CommandContext(context.Background(), "sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" serve`, path)
		cmd.ExtraFiles = []*os.File{n.socket}
	}
	cmd.Dir, cmd.Env = n.folder, n.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		n.complain("node %s: %v", n.name, err)
		return
	}
	n.mu.Lock()
	n.process, n.ended, n.expected, n.tail = cmd.Process, ended, false, nil
	n.mu.Unlock()
	n.follow(stderr, sync.OnceFunc(func() { close(listening) }))
	_ = cmd.Wait() // ProcessState tells the same
	n.mu.Lock()
	n.api, n.management, n.status = "", "", cmd.ProcessState
	expected := n.expected
	n.mu.Unlock()
	if !expected {
		n.complain("node %s ended by itself: %s\n%s", n.name, cmd.ProcessState, n.lastWords())
	}
}

// follow reads the log: where the node listens, and what must never be there.
func (n *node) follow(log io.Reader, listening func()) {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct{ Msg, API, Management string }
		if bytes.Contains(lines.Bytes(), []byte(`"listening"`)) { // most lines are of requests
			_ = json.Unmarshal(lines.Bytes(), &line)
		}
		n.mu.Lock()
		n.tail = append(n.tail[max(0, len(n.tail)-60):], lines.Text())
		if line.Msg == "listening" {
			n.api, n.management = line.API, line.Management
		}
		n.mu.Unlock()
		if line.Msg == "listening" {
			listening()
		}
		if strings.Contains(lines.Text(), "panic") || strings.Contains(lines.Text(), "DATA RACE") {
			n.complain("node %s: %s", n.name, lines.Text())
		}
	}
}

func (n *node) lastWords() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.tail, "\n")
}

// url is where the API is, empty while the node does not run.
func (n *node) url() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.api
}

// end sends a signal and waits for the end of the process; it returns how it ended.
func (n *node) end(t testing.TB, sig syscall.Signal) *os.ProcessState {
	t.Helper()
	n.mu.Lock()
	process, ended := n.process, n.ended
	n.expected = true
	n.mu.Unlock()
	if process == nil {
		return nil
	}
	_ = process.Signal(sig) // it may have ended
	select {
	case <-ended:
	case <-time.After(patience):
		_ = process.Kill()
		t.Errorf("node %s did not end on %s:\n%s", n.name, sig, n.lastWords())
		<-ended
	}
	return n.status
}

// ready asks /readyz.
func (n *node) ready(t testing.TB) (status int, parts map[string]string) {
	t.Helper()
	n.mu.Lock()
	management := n.management
	n.mu.Unlock()
	if management == "" {
		return 0, nil
	}
	status, body, err := ask(management + "/readyz")
	if err != nil {
		return 0, nil
	}
	if err := json.Unmarshal(body, &parts); err != nil {
		t.Errorf("/readyz: %v", err)
	}
	return status, parts
}

// awaitNotReady waits until /readyz names a part that is broken. The node is alive all the while.
func (n *node) awaitNotReady(t testing.TB, part string) {
	t.Helper()
	wait.Eventually(t, fmt.Sprintf("node %s names %s as not ready", n.name, part), func() bool {
		status, parts := n.ready(t)
		return status == http.StatusServiceUnavailable && parts["status"] != "ready" && parts[part] != "" &&
			parts[part] != "ok"
	})
	n.mu.Lock()
	management := n.management
	n.mu.Unlock()
	if status, _, err := ask(management + "/livez"); err != nil || status != http.StatusOK {
		t.Errorf("/livez of node %s: %d, %v", n.name, status, err)
	}
}

func (n *node) awaitReady(t testing.TB) {
	t.Helper()
	if !wait.Within(patience, func() bool { status, _ := n.ready(t); return status == http.StatusOK }) {
		status, parts := n.ready(t)
		t.Fatalf("node %s did not become ready by itself: %d %v\n%s", n.name, status, parts, n.lastWords())
	}
}

var askHTTP = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func ask(url string) (status int, body []byte, err error) {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	response, err := askHTTP.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(response.Body)
	return response.StatusCode, body, err
}
