package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stopWithin is how long the server has to end.
const stopWithin = 30 * time.Second

// The addresses that the documents show.
const (
	shownAPI        = "127.0.0.1:3000"
	shownManagement = "127.0.0.1:9090"
)

// runner runs commands in a copy of the checkout.
type runner struct {
	dir             string
	env             []string
	api, management string
	server          *server
}

// server is what a block marked `sh serve` started.
type server struct {
	cmd   *exec.Cmd
	log   bytes.Buffer
	ended chan struct{} // closed when the process has been reaped
}

// run runs the commands of the documents in order.
func run(ctx context.Context, root string, documents []document) (err error) {
	scratch, err := os.MkdirTemp("", "obscura-docs-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	r := &runner{dir: filepath.Join(scratch, "obscura")}
	if err := copyCheckout(ctx, root, r.dir); err != nil {
		return err
	}
	if err := track(ctx, r.dir); err != nil {
		return err
	}
	if r.api, err = freeAddress(); err != nil {
		return err
	}
	if r.management, err = freeAddress(); err != nil {
		return err
	}
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "OBSCURA_") && !strings.HasPrefix(variable, "DATABASE_URL=") &&
			!strings.HasPrefix(variable, "MAKE") {
			r.env = append(r.env, variable)
		}
	}
	defer func() {
		if r.server != nil {
			r.server.stop()
			if err != nil {
				fmt.Fprintf(os.Stderr, "--- what the server said last\n%s", lastLines(r.server.log.String()))
			}
		}
	}()
	for _, d := range documents {
		if err := r.document(ctx, d); err != nil {
			return fmt.Errorf("%s: %w", d.path, err)
		}
	}
	return leftovers(ctx, r.dir)
}

// document runs the blocks of one document in one shell, and starts its servers before. The
// document that starts the server is what people try first, and then again: its commands are run
// twice.
func (r *runner) document(ctx context.Context, d document) error {
	script, turns := "", 1
	for _, b := range d.blocks {
		text := strings.NewReplacer(shownAPI, r.api, shownManagement, r.management).Replace(b.text)
		if b.serve {
			if err := r.serve(ctx, text); err != nil {
				return fmt.Errorf("line %d: %w", b.line, err)
			}
			turns = 2
			continue
		}
		script += fmt.Sprintf("echo '=== %s:%d'\n%s", d.path, b.line, text)
	}
	if script == "" {
		return nil
	}
	for range turns {
		var printed bytes.Buffer
		cmd := r.command(ctx, script)
		cmd.Stdout, cmd.Stderr = io.MultiWriter(os.Stdout, &printed), os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%w; its commands printed last\n%s", err, lastLines(printed.String()))
		}
		if line, found := d.missing(printed.String()); found {
			return fmt.Errorf("its commands should have printed: %s", line)
		}
	}
	return nil
}

// lastLines returns the lines that are enough to see a failure by.
func lastLines(text string) string {
	const enough = 40
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-enough):], "\n") + "\n"
}

func (r *runner) command(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env, cmd.WaitDelay = r.dir, r.env, time.Second
	return cmd
}

// serve starts a server and waits until it is ready.
func (r *runner) serve(ctx context.Context, script string) error {
	if r.server != nil {
		return errors.New("a second server: one relay serves all documents")
	}
	s := &server{cmd: r.command(context.WithoutCancel(ctx), script), ended: make(chan struct{})}
	s.cmd.Env = append(s.cmd.Env, "OBSCURA_LISTEN="+r.api, "OBSCURA_MANAGEMENT_LISTEN="+r.management)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() { _ = s.cmd.Wait(); close(s.ended) }()
	r.server = s
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for !r.ready(ctx) {
		select {
		case <-poll.C:
		case <-s.ended:
			return errors.New("the server ended at once")
		case <-ctx.Done():
			return errors.New("the server did not get ready")
		}
	}
	return nil
}

func (r *runner) ready(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.management+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := (&http.Client{}).Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// stop does what Ctrl-C does in a terminal: everything in the foreground gets an interrupt.
func (s *server) stop() {
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGINT)
	select {
	case <-s.ended:
	case <-time.After(stopWithin):
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.ended
	}
}

// copyCheckout copies what is in the checkout and not ignored. Installed tools are shared, not
// copied.
func copyCheckout(ctx context.Context, root, dir string) error {
	list, err := exec.CommandContext(ctx, "git", "-C", root, "ls-files", "-z", "--cached", "--others",
		"--exclude-standard").Output()
	if err != nil {
		return fmt.Errorf("git cannot list the files of the checkout: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(list), "\x00"), "\x00") {
		from, to := filepath.Join(root, name), filepath.Join(dir, name)
		st, err := os.Stat(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted and not committed yet
		}
		if err != nil {
			return err
		}
		if st.IsDir() { // a link to a folder
			continue
		}
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, data, st.Mode().Perm()); err != nil {
			return err
		}
	}
	tools, err := filepath.Abs(filepath.Join(root, ".tools"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(tools, 0o755); err != nil { // what the commands install is kept for the next run
		return err
	}
	return os.Symlink(tools, filepath.Join(dir, ".tools"))
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
