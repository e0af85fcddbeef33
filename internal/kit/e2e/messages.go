package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// Devices registers n devices, ten a user.
func Devices(t testing.TB, relay *relaytest.Relay, n int) []*relaytest.Device {
	t.Helper()
	var all []*relaytest.Device
	var user *relaytest.User
	for i := range n {
		if i%10 == 0 {
			user = relay.Register(t)
		}
		all = append(all, user.NewDevice(t))
	}
	return all
}

// SendMany sends n messages "name-0", "name-1" and so on in batches of 100.
func SendMany(t testing.TB, from *relaytest.Device, to *relaytest.Device, name string, n int) {
	t.Helper()
	for sent := 0; sent < n; {
		var batch []*obscurapb.Submission
		for ; sent < n && len(batch) < core.MaxSubmissions; sent++ {
			batch = append(batch, relaytest.To(to.ID, fmt.Sprintf("%s-%d", name, sent)))
		}
		if failed := from.Send(t, nil, batch...); len(failed) != 0 {
			t.Fatalf("failed: %v", failed)
		}
	}
}

// Texts are the messages of envelopes, as one text.
func Texts(envelopes []*obscurapb.Envelope) string {
	parts := make([]string, len(envelopes))
	for i, e := range envelopes {
		parts[i] = string(e.GetMessage())
	}
	return strings.Join(parts, " ")
}

// InOrder fails unless sequences are from, from+1 and so on.
func InOrder(t testing.TB, envelopes []*obscurapb.Envelope, from uint64) {
	t.Helper()
	for i, e := range envelopes {
		if e.GetSequence() != from+uint64(i) {
			t.Fatalf("position %d has sequence %d, want %d", i, e.GetSequence(), from+uint64(i))
		}
	}
}

// Ticket makes a gateway ticket.
func Ticket(t testing.TB, d *relaytest.Device) string {
	t.Helper()
	got, err := d.CreateGatewayTicketWithResponse(t.Context())
	if err != nil || got.JSON201 == nil {
		t.Fatalf("no ticket: %v, %v", err, got)
	}
	return got.JSON201.Ticket
}

// Disconnect ends a socket and waits for nothing.
func Disconnect(s *relaytest.Socket) { _ = s.CloseNow() }

// SlowPoll makes the poll so rare that only notices deliver in time.
func SlowPoll(cfg *app.Config) { cfg.PollInterval = time.Hour }

// InSenderOrder fails unless each sender's messages, which are "sender-number", have arrived in
// the order in which that sender sent them.
func InSenderOrder(t *testing.T, envelopes []*obscurapb.Envelope) {
	t.Helper()
	next := map[string]int{}
	for _, e := range envelopes {
		sender, _, _ := strings.Cut(string(e.GetMessage()), "-")
		if want := fmt.Sprintf("%s-%d", sender, next[sender]); string(e.GetMessage()) != want {
			t.Fatalf("%s arrived, want %s", e.GetMessage(), want)
		}
		next[sender]++
	}
}
