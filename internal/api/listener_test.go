package api

import (
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/obscura-relay/obscura/internal/limit"
)

// scarce is a listener that has no file descriptors left for a while, and then ends.
type scarce struct {
	net.Listener
	failures int
}

func (s *scarce) Accept() (net.Conn, error) {
	if s.failures--; s.failures < 0 {
		return nil, net.ErrClosed
	}
	return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
}

func TestTheServerWaitsForFileDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // fake time
		begun := time.Now()
		conn, err := NewListener(&scarce{failures: 20}, nil, nil).Accept()
		if conn != nil || err != net.ErrClosed { //nolint:errorlint // this very value
			t.Errorf("%v, %v", conn, err)
		}
		if took := time.Since(begun); took < 5*time.Second || took > 20*time.Second {
			t.Errorf("it waited %v", took)
		}
	})
}

func TestConnectionsAreAcceptedAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // fake time
		var p pace
		atOnce := acceptsAtOnce * limit.Cores
		begun := time.Now()
		for range 10*atOnce + 1 {
			p.wait()
		}
		if took := time.Since(begun); took != 10*acceptPause {
			t.Errorf("ten pauses took %s", took)
		}
		time.Sleep(2 * acceptPause) // fake time
		begun = time.Now()
		for range atOnce {
			p.wait()
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("after a quiet time the first few waited %s", took)
		}
	})
}
