package obscura_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestABrokenSocketIsReplaced(t *testing.T) {
	t.Parallel()
	relay, network := join(t, relaytest.Start(t), obscura.Options{})
	alice, bob := newDevice(t, relay), newDevice(t, relay)
	next := listen(t, t.Context(), bob.Gateway())
	for _, text := range []string{"one", "two", "three"} {
		send(t, alice, bob, text)
		e := nextEnvelope(t, next)
		if string(e.Message) != text {
			t.Fatalf("received %q, want %q", e.Message, text)
		}
		if text == "one" { // the relay does not hear this
			network.swallow()
			bob.Gateway().Acknowledge(e)
		}
	}
	network.cut()
	if e := nextEnvelope(t, next); string(e.Message) != "two" {
		t.Errorf("then %q, want two: one was acknowledged, though the relay does not know", e.Message)
	}
	if e := nextEnvelope(t, next); string(e.Message) != "three" {
		t.Errorf("then %q", e.Message)
	}
	other, err := relay.Resume(bob.Tokens())
	if err != nil {
		t.Fatal(err)
	}
	pending(t, other, 2)
}

func TestTheRelayRestarts(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	relay, _ := join(t, r, obscura.Options{})
	alice, bob := newDevice(t, relay), newDevice(t, relay)
	next := listen(t, t.Context(), bob.Gateway())
	send(t, alice, bob, "before")
	bob.Gateway().Acknowledge(nextEnvelope(t, next))
	r.Stop()
	sent := make(chan error, 1)
	go func() { // while there is no relay
		_, err := alice.Send(t.Context(),
			obscura.NewBatch(obscura.Submission{DeviceID: bob.DeviceID(), Message: []byte("meanwhile")}))
		sent <- err
	}()
	relaytest.StartOn(t, r.DatabaseURL, func(c *app.Config) { c.Listen = strings.TrimPrefix(r.API, "http://") })
	if e := nextEnvelope(t, next); string(e.Message) != "meanwhile" {
		t.Errorf("then %q", e.Message)
	}
	if err := <-sent; err != nil {
		t.Errorf("send: %v", err)
	}
}

func TestANewerSocketDisplacesThisOne(t *testing.T) {
	t.Parallel()
	relay, _ := join(t, relaytest.Start(t), obscura.Options{})
	device := newDevice(t, relay)
	next := listen(t, t.Context(), device.Gateway())
	if _, err := next(); err != nil {
		t.Fatal(err)
	}
	other, err := relay.Resume(device.Tokens())
	if err != nil {
		t.Fatal(err)
	}
	newer := listen(t, t.Context(), other.Gateway())
	if _, err := newer(); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = next()
	}
	var e *obscura.Error
	if !errors.Is(err, obscura.ErrDisplaced) || !errors.As(err, &e) || e.Status != 4409 {
		t.Errorf("the older one ended with %v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	r := relaytest.Start(t)
	relay, _ := join(t, r, obscura.Options{})
	device := newDevice(t, relay)
	nowhere, err := obscura.New("http://"+closed.Addr().String(), obscura.Options{HTTPClient: r.HTTP()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := nowhere.Resume(device.Tokens())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var refused *net.OpError
	if _, err := s.Send(ctx, batch()); !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &refused) {
		t.Errorf("send: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for event, err := range s.Gateway().Events(ctx) {
		if gone, ok := event.(*obscura.Disconnected); n == 0 && (!ok || !errors.As(gone.Err, &refused)) {
			t.Errorf("first %+v, %v", event, err)
		}
		if n++; n == 2 && !errors.Is(err, context.Canceled) {
			t.Errorf("then %+v, %v", event, err)
		}
		cancel()
	}
	if n != 2 {
		t.Errorf("%d events, want two", n)
	}
}
