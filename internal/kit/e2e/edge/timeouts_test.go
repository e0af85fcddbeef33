package edge_test

import (
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestAnIdleConnectionIsClosed(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, func(c *app.Config) { c.IdleTimeout = 300 * time.Millisecond })
	w := e2e.DialWire(t, relay)
	w.Send("GET /openapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n")
	w.ReplyTo("GET", "/openapi.yaml").Want(t, 200, "")
	idle := time.Now()
	if !w.Ended() {
		t.Fatal("the connection stays open")
	}
	if took := time.Since(idle); took < 200*time.Millisecond || took > 5*time.Second {
		t.Errorf("it was closed after %v", took)
	}
}

func TestAConnectionThatNeverSpeaksIsClosed(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, func(c *app.Config) { c.ReadTimeout = 300 * time.Millisecond })
	begun := time.Now()
	if !e2e.DialWire(t, relay).Ended() {
		t.Fatal("the connection stays open")
	}
	if took := time.Since(begun); took < 200*time.Millisecond || took > 5*time.Second {
		t.Errorf("it was closed after %v", took)
	}
}

func TestABodyThatTricklesInIsCutOff(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, func(c *app.Config) { c.ReadTimeout = 500 * time.Millisecond })
	w := e2e.DialWire(t, relay)
	w.Send("POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n")
	stop := make(chan struct{})
	defer close(stop)
	go func() { // a byte now and then must not keep the connection for ever
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if _, err := w.Write([]byte(" ")); err != nil {
					return
				}
			}
		}
	}()
	w.Reply().Want(t, 408, "request_timeout")
}

func TestAReaderThatStopsReadingIsCutOff(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, func(c *app.Config) { c.WriteTimeout = 300 * time.Millisecond })
	w := e2e.DialWire(t, relay)
	requests := strings.Repeat("GET /openapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n", 100)
	// Some 30 kB each; when the buffers between us are full the relay's write waits, and then ends.
	for i := range 20_000 {
		if _, err := w.Write([]byte(requests)); err != nil {
			if strings.Contains(err.Error(), "timeout") {
				t.Errorf("after %d requests the relay neither answers nor closes", i*100)
			}
			return
		}
	}
	t.Error("the relay took everything and was never read")
}
