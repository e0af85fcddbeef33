package sealed_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// A removed token stops working everywhere within a second, also in the middle of a storm.
func TestARemovedTokenStopsWorkingOnAllNodes(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	nodes := []*relaytest.Relay{relay, relaytest.StartOn(t, relay.DatabaseURL)}
	bob := relay.Register(t).NewDevice(t)
	token := bob.NewDeliveryToken(t)
	var gone atomic.Pointer[time.Time]
	var before, within, after atomic.Int32 // stored, by when they were asked for; after: refused
	var senders sync.WaitGroup
	for i := range 8 {
		senders.Go(func() {
			for !t.Failed() {
				asked, removed := time.Now(), gone.Load()
				request := &obscurapb.SendMessageRequest{
					Messages: []*obscurapb.Submission{relaytest.Sealed(bob.ID, "x", token)}}
				status, answer := nodes[i%2].TrySealed(t, uuid.New(), request)
				switch stored := status == http.StatusOK && len(answer) == 0; {
				case status != http.StatusOK:
					t.Errorf("status %d %s", status, answer)
				case removed == nil && stored:
					before.Add(1)
				case stored && asked.Sub(*removed) > time.Second:
					t.Errorf("stored, asked for %v after the removal", asked.Sub(*removed))
				case stored:
					within.Add(1)
				case removed != nil && asked.Sub(*removed) > time.Second:
					if after.Add(1) > 20 {
						return
					}
				}
			}
		})
	}
	wait.Eventually(t, "some are stored", func() bool { return before.Load() > 50 })
	bob.RemoveDeliveryToken(t, token)
	now := time.Now()
	gone.Store(&now)
	senders.Wait()
	t.Logf("%d stored before, %d within a second, then %d refused", before.Load(), within.Load(), after.Load())
}

// One key, many tries at once on two nodes: one of them is stored.
func TestASealedBatchIsStoredOnceByManyAtOnce(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	nodes := []*relaytest.Relay{relay, relaytest.StartOn(t, relay.DatabaseURL)}
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	token := bob.NewDeliveryToken(t)
	var all sync.WaitGroup
	for n := range 5 {
		key := uuid.New()
		request := &obscurapb.SendMessageRequest{
			Messages: []*obscurapb.Submission{relaytest.Sealed(bob.ID, fmt.Sprint(n), token)}}
		for i := range 10 {
			all.Go(func() {
				status, answer := nodes[i%2].TrySealed(t, key, request)
				if status != http.StatusOK || len(answer) != 0 {
					t.Errorf("%d %s", status, answer)
				}
			})
		}
		all.Go(func() { // in the same batches
			if status, answer := alice.TrySend(t, nil, relaytest.To(bob.ID, "named")); status != http.StatusOK {
				t.Errorf("%d %s", status, answer)
			}
		})
	}
	all.Wait()
	if envelopes, _, _ := bob.Connect(t).Drain(); len(envelopes) != 10 {
		t.Errorf("%d envelopes, want 5 sealed and 5 named", len(envelopes))
	}
}

// Each token is one sender, beside those with a name: 50 of a flooder's do not push out an honest
// correspondent's mail nor a friend's, and share what is left among themselves.
func TestAFloodThroughTokensEvictsItself(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	friend, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	honest := bob.NewDeliveryToken(t)
	e2e.SendMany(t, friend, bob, "friend", 10)
	for i := range 10 {
		relay.SendSealed(t, uuid.New(), relaytest.Sealed(bob.ID, fmt.Sprintf("honest-%d", i), honest))
	}
	for i := range 50 {
		token := bob.NewDeliveryToken(t)
		var batch []*obscurapb.Submission
		for range 40 { // 2000 in all
			batch = append(batch, relaytest.Sealed(bob.ID, fmt.Sprintf("flood-%d", i), token))
		}
		if failed := relay.SendSealed(t, uuid.New(), batch...); len(failed) != 0 {
			t.Fatal(failed)
		}
	}
	envelopes, _, last := bob.Connect(t).Drain()
	if last != 2020 || len(envelopes) != core.MailboxCap {
		t.Fatalf("%d envelopes up to %d", len(envelopes), last)
	}
	kept := map[string]int{}
	for _, e := range envelopes {
		name, _, _ := strings.Cut(string(e.GetMessage()), "-")
		kept[name]++
		kept[string(e.GetMessage())]++
	}
	if kept["honest"] != 10 || kept["friend"] != 10 {
		t.Errorf("%d and %d of 10 honest envelopes are left", kept["honest"], kept["friend"])
	}
	for i := range 50 {
		if n := kept[fmt.Sprintf("flood-%d", i)]; n < 18 || n > 21 {
			t.Errorf("token %d keeps %d, want a fiftieth of 980", i, n)
		}
	}
}

// A wrong token counts among the credentials that are not valid, also when the answer speaks of an
// audience.
func TestAGuessBesideAnAudienceCounts(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, e2e.Limits(3, "credentials"))
	bob := relay.Register(t).NewDevice(t)
	guess := &obscurapb.SendMessageRequest{
		Audiences: []*obscurapb.Audience{{UserId: bob.User.ID[:], DevicesVersion: 2}},
		Messages:  []*obscurapb.Submission{relaytest.Sealed(bob.ID, "x", relaytest.DeliveryToken())}}
	for i, want := range []int{200, 200, 200, 429} {
		if got, answer := relay.TrySealed(t, uuid.New(), guess); got != want {
			t.Fatalf("guess %d: status %d, %s", i+1, got, answer)
		}
	}
}

// Who has a token sends no more with it by putting a thousand submissions into a request.
func TestAManifoldRequestCountsManyTimesByItsToken(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, e2e.Limits(4, "token-sends"))
	bob := relay.Register(t).NewDevice(t)
	token := bob.NewDeliveryToken(t)
	to := func(n int) *obscurapb.SendMessageRequest {
		shared := &obscurapb.SharedSubmission{Message: []byte("x")}
		for range n {
			id := uuid.New()
			shared.Recipients = append(shared.Recipients,
				&obscurapb.SharedRecipient{SubmissionId: id[:], DeviceId: bob.ID[:], DeliveryToken: token})
		}
		return &obscurapb.SendMessageRequest{Shared: []*obscurapb.SharedSubmission{shared}}
	}
	for _, step := range []struct{ submissions, want int }{{250, 200}, {100, 200}, {1, 429}} {
		if got, answer := relay.TrySealed(t, uuid.New(), to(step.submissions)); got != step.want {
			t.Errorf("%d submissions: status %d, %s", step.submissions, got, answer)
		}
	}
}
