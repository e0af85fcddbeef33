package push

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// hanging hangs, except for the endpoint "good".
type hanging struct {
	hung atomic.Int32
	good chan struct{}
}

func (h *hanging) Send(ctx context.Context, to Token) Result {
	if to.Address == "good" {
		close(h.good)
		return Result{Outcome: Delivered}
	}
	h.hung.Add(1)
	<-ctx.Done()
	return Result{Outcome: Failed}
}

func (*hanging) Close() {}

func TestEndpointsThatHangHoldUpOnlyTheirLike(t *testing.T) {
	t.Parallel()
	s, _, inside := service(t, Times{Grace: time.Millisecond, Jitter: time.Millisecond, Linger: time.Millisecond,
		Ask: time.Millisecond, Poll: 10 * time.Millisecond, Send: time.Hour, Lease: 2 * time.Hour,
		Backoff: time.Minute})
	sender := &hanging{good: make(chan struct{})}
	s.cfg.Senders, s.kinds, s.logLimits = map[Kind]Sender{WebPush: sender}, []int16{int16(WebPush)},
		map[Kind]*logLimiter{WebPush: {}}
	populate(t, inside, 3*sendsAtOnce, 1)
	for _, sql := range []string{
		`UPDATE push_tokens SET kind = 3, address = 'https://hangs', p256dh = '', auth = ''`,
		`UPDATE push_tokens SET address = 'good', woken_at = now() + interval '-1 minute', registered_at = now() - interval '1 hour'
			WHERE device_id = (SELECT max(device_id::text)::uuid FROM push_tokens)`,
		`INSERT INTO push_wakeups (device_id, kind, seq, due_at, attempts)
			SELECT device_id, 3, 1, CASE address WHEN 'good' THEN now() + interval '1 second' ELSE now() END, 0 FROM push_tokens`,
	} {
		if _, err := inside.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { _ = s.Run(ctx); close(ended) }()
	select {
	case <-sender.good:
	case <-time.After(20 * time.Second):
		t.Error("the one that answers waits for those that hang")
	}
	if n := sender.hung.Load(); n != strangersAtOnce {
		t.Errorf("%d hang", n)
	}
	cancel()
	<-ended
}
