package faults_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

func TestFaultsOfClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	t.Run("clients vanish", func(t *testing.T) { w.play(t, load{}, vanish) })
	t.Run("a network swallows everything", func(t *testing.T) { w.play(t, load{silence: true}, swallow) })
	t.Run("a reader is slow", func(t *testing.T) {
		w.play(t, load{filling: 24 << 10, manners: []manner{prompt, prompt, lazy}}, slowReader)
	})
	t.Run("a device is taken over", func(t *testing.T) { w.play(t, load{}, takeOver) })
	t.Run("a device is deleted", func(t *testing.T) { w.play(t, load{}, deleteDevice) })
	t.Run("a mailbox is full", func(t *testing.T) { w.play(t, load{manners: []manner{prompt, never}}, fillMailbox) })
}

// vanish leaves connections behind that are neither read nor closed, while the same devices come
// back.
func vanish(t *testing.T, r *run) {
	for range 2 {
		for _, recipient := range r.recipients[1:] {
			recipient.mayDisplace.Store(true)
			before := recipient.opened.Load()
			wait.Eventually(t, "a connection to leave", func() bool { return recipient.connected.Load() == 1 })
			recipient.abandon()
			wait.Eventually(t, "the device is back", func() bool {
				return recipient.opened.Load() > before && recipient.connected.Load() == 1
			})
		}
		r.progress(t, senders)
	}
	wait.Eventually(t, "one live socket for each device", func() bool { return r.world.sockets(t) <= len(r.recipients) })
}

// swallow puts something between clients and a node that stops forwarding, in the middle of
// everything, and closes nothing.
func swallow(t *testing.T, r *run) {
	fronts := r.world.openFronts(t)
	defer r.world.closeFronts()
	for _, recipient := range r.recipients {
		recipient.mayDisplace.Store(true)
		recipient.reconnect()
	}
	for i := range fronts {
		r.progress(t, senders)
		up := fronts[i].poison(upstream, fault{silent: true})
		down := fronts[i].poison(downstream, fault{silent: true})
		for _, recipient := range r.recipients { // they notice, by their own timers
			recipient.abandon()
		}
		r.progress(t, senders)
		up()
		down()
	}
}

// slowReader stops reading for as long as everybody else needs to get everything.
func slowReader(t *testing.T, r *run) {
	slow := r.recipients[1]
	slow.reading.Lock()
	defer slow.reading.Unlock()
	r.progress(t, 8*senders)
	r.gate.Lock()
	defer r.gate.Unlock()
	for _, recipient := range r.recipients {
		last := uint64(r.world.numbers(t, `SELECT next_seq - 1 FROM mailboxes WHERE device_id = $1`, recipient.id)[0])
		if recipient == slow {
			if recipient.missing(last) == 0 {
				t.Error("the slow reader has everything: nothing was tested")
			}
			continue
		}
		wait.Eventually(t, "nobody else notices", func() bool { return recipient.missing(last) == 0 })
	}
}

// takeOver replaces a device's identity while mail for it is pending and more comes.
func takeOver(t *testing.T, r *run) {
	victim := r.recipients[len(r.recipients)-1] // it never acknowledges: there is mail to drop
	wait.Eventually(t, "mail to drop", func() bool { return len(r.world.mailbox(t, victim.id).pending) > 0 })
	identity := prekeytest.NewIdentity()
	first := identity.NewDevice(3, 1)
	got, err := relaytest.At(t, r.world.anyEntrance()).Client(*victim.token.Load()).UploadKeysWithResponse(t.Context(),
		client.KeyUpload{IdentityKey: &first.IdentityKey, RegistrationID: &first.RegistrationID,
			SignedPreKey:   &first.SignedPreKey,
			OneTimePreKeys: first.OneTimePreKeys, KyberPreKeys: first.KyberPreKeys,
			LastResortKyberPreKey: first.LastResortKyberPreKey})
	if err != nil || got.StatusCode() != http.StatusOK {
		t.Fatalf("takeover: %v, %d", err, got.StatusCode())
	}
	wait.Eventually(t, "the gap is reported", func() bool {
		victim.book.mu.Lock()
		defer victim.book.mu.Unlock()
		return len(victim.gapped) > 0
	})
}

// stopWithin is how soon a revoked socket must be closed: a second by the contract, and some for
// this machine.
const stopWithin = 3 * time.Second

// deleteDevice deletes a device that mail is being sent to.
func deleteDevice(t *testing.T, r *run) {
	victim := r.recipients[len(r.recipients)-1]
	wait.Eventually(t, "the device is connected", func() bool { return victim.connected.Load() == 1 })
	now := time.Now()
	victim.deleted.Store(&now)
	got, err := relaytest.At(t,
		r.world.anyEntrance()).Client(victim.account.Token).DeleteDeviceWithResponse(t.Context(), victim.id)
	if err != nil || got.StatusCode() != http.StatusOK {
		t.Fatalf("delete: %v, %d", err, got.StatusCode())
	}
	now = time.Now()
	victim.erased.Store(&now)
	if !wait.Within(stopWithin, func() bool { return victim.connected.Load() == 0 }) {
		t.Error("the socket of a deleted device was not closed in time")
	}
}

// fillMailbox sends more than a mailbox holds.
func fillMailbox(t *testing.T, r *run) {
	full := r.recipients[1]
	stored := func() int64 {
		return r.world.numbers(t, `SELECT next_seq - 1 FROM mailboxes WHERE device_id = $1`, full.id)[0]
	}
	s := r.senders[0]
	r.gate.Lock()
	defer r.gate.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for stored() < 1100 {
		if s.flood(ctx, full, 100); ctx.Err() != nil {
			t.Fatalf("the mailbox has had %d envelopes in %s: %s", stored(), patience, r.ledger)
		}
	}
	full.refresh(t)
	wait.Eventually(t, "what was dropped is reported", func() bool {
		full.book.mu.Lock()
		defer full.book.mu.Unlock()
		return len(full.gapped) > 0
	})
}
