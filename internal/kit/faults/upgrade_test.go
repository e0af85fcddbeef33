package faults_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestUpgrades replaces processes of the relay. The socket stays open meanwhile, as systemd keeps
// it, so no request is refused or lost.
func TestUpgrades(t *testing.T) {
	t.Parallel()
	address, socket := heldSocket(t)
	w := newWorldAt(t, false, address, socket)
	t.Run("another process serves meanwhile", func(t *testing.T) {
		w.upgrade(t, func(t *testing.T, r *run) {
			for _, n := range []*node{w.nodes[0], w.nodes[1], w.nodes[0]} {
				stop(t, n)
				n.start(t)
				r.progress(t, 4*senders)
			}
		})
	})
	t.Run("connections wait meanwhile", func(t *testing.T) {
		w.upgrade(t, func(t *testing.T, r *run) {
			stop(t, w.nodes[1])
			for range 3 {
				stop(t, w.nodes[0])
				w.nodes[0].start(t)
				r.progress(t, 4*senders)
			}
			w.nodes[1].start(t)
		})
	})
}

// upgrade plays a load during which nobody may be refused.
func (w *world) upgrade(t *testing.T, replace func(t *testing.T, r *run)) {
	var l *ledger
	w.play(t, load{}, func(t *testing.T, r *run) {
		l = r.ledger
		ctx, leave := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		for range 8 {
			asking.Go(func() {
				if err := keepAsking(ctx, strings.TrimPrefix(w.held, "http://")); err != nil {
					t.Error(err)
				}
			})
		}
		replace(t, r)
		leave()
		asking.Wait()
	})
	if l.refused+l.broken+l.noSocket > 0 {
		t.Errorf("requests were refused or lost: %s", l)
	}
}

// keepAsking asks on one connection after the other, never twice, and leaves one only when an
// answer says that it was the last.
func keepAsking(ctx context.Context, address string) error {
	for ctx.Err() == nil {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		err = askOn(ctx, conn)
		_ = conn.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func askOn(ctx context.Context, conn net.Conn) error {
	answers := bufio.NewReader(conn)
	for n := 1; pause(ctx, rand.N(drainTime/4)); n++ {
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if _, err := io.WriteString(conn, "GET /v1/info HTTP/1.1\r\nHost: relay\r\n\r\n"); err != nil {
			return fmt.Errorf("request %d on a connection cannot be sent: %w", n, err)
		}
		answer, err := http.ReadResponse(answers, nil) //nolint:bodyclose // it is read to its end
		if err != nil {
			return fmt.Errorf("request %d on a connection has no answer: %w", n, err)
		}
		if _, err = io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
			return fmt.Errorf("request %d on a connection was answered with %d: %w", n, answer.StatusCode, err)
		}
		if answer.Close {
			return nil
		}
	}
	return nil
}

// heldSocket listens on a free port without ever accepting.
func heldSocket(t *testing.T) (address string, socket *os.File) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if socket, err = l.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	return l.Addr().String(), socket
}
