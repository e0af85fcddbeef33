package gateway_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// The library pools what a socket consists of: a goroutine that outlived its handler would write
// into a stranger's socket. Hundreds of sockets end with RST while mail is on its way to them;
// everybody must see only what was sent to them.
func TestEverybodySeesOnlyTheirOwnEnvelopes(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	const n, lives, senders = 40, 12, 4
	readers, writers := e2e.Devices(t, relay, n), e2e.Devices(t, relay, senders)
	var stop atomic.Bool
	var sent [n]atomic.Int64
	var sending, reading sync.WaitGroup
	for i := range senders {
		sending.Go(func() {
			for !stop.Load() {
				var batch []*obscurapb.Submission
				for range 20 {
					to := rand.IntN(n)
					batch = append(batch,
						relaytest.To(readers[to].ID, readers[to].ID.String()+strings.Repeat(".", rand.IntN(3000))))
					sent[to].Add(1)
				}
				writers[i].Send(t, nil, batch...)
			}
		})
	}
	for i := range n {
		reading.Go(func() {
			for range lives {
				if err := liveShortly(t.Context(), t, relay, readers[i]); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	reading.Wait()
	stop.Store(true)
	sending.Wait()
	db := e2e.Database(t, relay)
	for i, d := range readers { // and nothing is missing
		if accepted := e2e.Count(t, db, "SELECT next_seq - 1 FROM mailboxes WHERE device_id = $1",
			d.ID); int64(accepted) != sent[i].Load() {
			t.Errorf("%d accepted, %d sent", accepted, sent[i].Load())
		}
		envelopes, _, _ := d.Connect(t).Drain()
		for _, e := range envelopes {
			if !strings.HasPrefix(string(e.GetMessage()), d.ID.String()) {
				t.Fatal("somebody else's envelope in the mailbox")
			}
		}
	}
}

// liveShortly connects, reads and acknowledges a few frames, and vanishes.
func liveShortly(ctx context.Context, t testing.TB, relay *relaytest.Relay, d *relaytest.Device) error {
	s, err := dialRaw(ctx, t, relay, d.Token)
	if err != nil {
		return err
	}
	defer s.reset()
	last := uint64(0)
	for range rand.IntN(6) {
		frame, err := s.Frame()
		if err != nil {
			return err
		}
		ack := &obscurapb.AckMessage{}
		for _, e := range frame.GetEnvelopeBatch().GetEnvelopes() {
			if !strings.HasPrefix(string(e.GetMessage()), d.ID.String()) {
				return fmt.Errorf("device %s got %.36s", d.ID, e.GetMessage())
			}
			if e.GetSequence() <= last {
				return fmt.Errorf("%d after %d", e.GetSequence(), last)
			}
			last = e.GetSequence()
			ack.MessageIds = append(ack.MessageIds, e.GetId())
		}
		data, err := proto.Marshal(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Ack{Ack: ack}})
		if err != nil {
			return err
		}
		if err := s.Write(ctx, websocket.MessageBinary, data); err != nil {
			return err
		}
	}
	return nil
}
