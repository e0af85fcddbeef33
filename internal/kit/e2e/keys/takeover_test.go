package keys_test

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

func TestATakeoverDropsKeysAndReportsPendingMailAsAGap(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	e2e.WantUpload(t, bob, client.KeyUpload{SignedPreKey: signedKey(bob.Identity, 1000),
		LastResortKyberPreKey: kyberKey(bob.Identity, 1000)}, http.StatusOK, "")
	for _, text := range []string{"1", "2", "3", "4", "5", "6"} {
		alice.Send(t, nil, relaytest.To(bob.ID, text))
	}
	socket := bob.Connect(t)
	mail, _, _ := socket.Drain()
	socket.Ack(mail[0], mail[2]) // pending: 2 and 4 to 6
	wait.Eventually(t, "the acknowledgements are stored", func() bool {
		got, err := bob.GetAccountWithResponse(t.Context())
		return err == nil && got.JSON200.Devices[0].Mailbox.Pending == 4
	})
	identity := prekeytest.NewIdentity()
	upload := e2e.TakeoverBy(identity)
	e2e.WantUpload(t, bob, upload, http.StatusOK, "")
	if code := socket.CloseCode(); code != 4401 {
		t.Errorf("the socket was closed with %d, want 4401", code)
	}

	// Keys: only the new ones, with lower ids than before.
	inventory := keyInventory(t, bob)
	want := digestOf(identity.Public, *upload.SignedPreKey, nil, upload.OneTimePreKeys, upload.KyberPreKeys)
	if !bytes.Equal(inventory.Digest, want) || inventory.RegistrationID != 99 ||
		inventory.LastResortKyberPreKeyID != nil {
		t.Errorf("inventory: %+v", inventory)
	}
	b := e2e.FetchBundle(t, alice, bob.User.ID)
	if !bytes.Equal(b.IdentityKey, identity.Public) || b.RegistrationID != 99 || b.SignedPreKey.KeyID != 0 ||
		b.OneTimePreKey.KeyID != 2 || b.KyberPreKey.KeyID != 3 {
		t.Errorf("bundle: %+v", b)
	}
	if b.DeviceID != bob.ID || b.DeviceNumber != bob.Number {
		t.Errorf("the device has become %v, number %d", b.DeviceID, b.DeviceNumber)
	}
	if b = e2e.FetchBundle(t, alice, bob.User.ID); b.KyberPreKey != nil {
		t.Errorf("the old last-resort key is still handed out: %d", b.KyberPreKey.KeyID)
	}

	// Mail: the gaps first, then what was sent to the new identity.
	alice.Send(t, nil, relaytest.To(bob.ID, "7"))
	socket = bob.Connect(t)
	mail, gaps, drained := socket.Drain()
	if len(gaps) != 2 || gaps[0].GetFrom() != 2 || gaps[0].GetTo() != 2 || gaps[1].GetFrom() != 4 ||
		gaps[1].GetTo() != 6 {
		t.Errorf("gaps: %v, want 2..2 and 4..6", gaps)
	}
	for _, gap := range gaps {
		if gap.GetReason() != obscurapb.Gap_REASON_TAKEOVER {
			t.Errorf("reason: %v", gap.GetReason())
		}
	}
	if len(mail) != 1 || mail[0].GetSequence() != 7 || string(mail[0].GetMessage()) != "7" || drained != 7 {
		t.Errorf("mail: %v, drained %d", mail, drained)
	}
}

func TestATakeoverEndsTheDevicesOtherSessionsAndNoneElse(t *testing.T) {
	t.Parallel()
	one := relaytest.Start(t)
	two := relaytest.StartOn(t, one.DatabaseURL)
	d := one.Register(t).NewDevice(t)
	sibling := d.User.NewDevice(t)
	other := e2e.LogInOnDevice(t, one, d).On(two)
	if !e2e.MayUse(t, d) || !e2e.MayUse(t, other) || !e2e.MayUse(t, d.On(two)) {
		t.Fatal("a token does not work")
	}
	socket, siblingSocket := other.Connect(t), sibling.Connect(t)
	socket.Drain()
	siblingSocket.Drain()
	ticket, err := other.CreateGatewayTicketWithResponse(t.Context())
	if err != nil || ticket.JSON201 == nil {
		t.Fatalf("ticket: %s, %v", ticket.Body, err)
	}

	identity := prekeytest.NewIdentity()
	e2e.WantUpload(t, d, e2e.TakeoverBy(identity), http.StatusOK, "")
	taken := time.Now()
	wait.Eventually(t, "the other session's token stops working", func() bool { return !e2e.MayUse(t, other) })
	if code := socket.CloseCode(); code != 4401 {
		t.Errorf("its socket was closed with %d, want 4401", code)
	}
	if took := time.Since(taken); took > 2*time.Second {
		t.Errorf("it took %v, more than two seconds", took)
	}
	if got := e2e.Refresh(other.Refresh).To(t, one).Status; got != http.StatusUnauthorized {
		t.Errorf("its refresh token: %d", got)
	}
	if late, status := two.Dial(t, "?ticket="+ticket.JSON201.Ticket, nil); late != nil ||
		status != http.StatusUnauthorized {
		t.Errorf("its ticket opens a socket: %d", status)
	}

	// The session that made it goes on, on every node, with the token and the refresh token it has.
	if !e2e.MayUse(t, d) || !e2e.MayUse(t, d.On(two)) {
		t.Error("the session that made the takeover has ended")
	}
	d.On(two).Connect(t).Drain()
	if got := e2e.Refresh(d.Refresh).To(t, one).Status; got != http.StatusOK {
		t.Errorf("its refresh token: %d", got)
	}
	if !e2e.MayUse(t, sibling) {
		t.Error("another device of the user has lost its session")
	}
	failed := d.Send(t, nil, relaytest.To(sibling.ID, "still there?"))
	if len(failed) != 0 || len(siblingSocket.Envelopes(1)) != 1 {
		t.Error("another device of the user has lost its socket")
	}
	if got, err := d.User.ListDevicesWithResponse(t.Context()); err != nil || len(got.JSON200.Devices) != 2 {
		t.Errorf("the user-scoped session: %s, %v", got.Body, err)
	}
}

func TestATakeoverNeedsASignedPreKeyOfTheNewIdentity(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	alice.Send(t, nil, relaytest.To(bob.ID, "kept"))
	socket := bob.Connect(t)
	socket.Drain()
	identity := prekeytest.NewIdentity()
	wantUnchanged(t, bob, func() {
		unsigned := e2e.TakeoverBy(identity)
		unsigned.SignedPreKey = nil
		e2e.WantUpload(t, bob, unsigned, http.StatusBadRequest, "signed_pre_key_missing")
		bySomebodyElse := e2e.TakeoverBy(identity)
		bySomebodyElse.SignedPreKey = signedKey(bob.Identity, 7)
		e2e.WantUpload(t, bob, bySomebodyElse, http.StatusBadRequest, "invalid_signature")
		oldKyber := e2e.TakeoverBy(identity)
		oldKyber.KyberPreKeys = bob.Identity.KyberPreKeys(7, 1)
		e2e.WantUpload(t, bob, oldKyber, http.StatusBadRequest, "invalid_signature")
	})
	// The old socket is still the live one, and the mail is still there.
	alice.Send(t, nil, relaytest.To(bob.ID, "live"))
	if live := socket.Envelopes(1); live[0].GetSequence() != 2 {
		t.Errorf("live: %v", live)
	}
}

func TestTheSameIdentityAgainIsNoTakeover(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	other := e2e.LogInOnDevice(t, relay, bob)
	alice.Send(t, nil, relaytest.To(bob.ID, "one"))
	socket := bob.Connect(t)
	socket.Drain()
	registration := int32(12)
	e2e.WantUpload(t, bob, client.KeyUpload{IdentityKey: &bob.Identity.Public, RegistrationID: &registration,
		OneTimePreKeys: prekeytest.PreKeys(50, 1)}, http.StatusOK, "")
	wantStock(t, bob, []int32{1, 2, 3, 4, 5, 50}, []int32{1, 2})
	if got := keyInventory(t, other).RegistrationID; got != 12 {
		t.Errorf("registration id %d, want the new one", got)
	}
	alice.Send(t, nil, relaytest.To(bob.ID, "two"))
	if live := socket.Envelopes(1); live[0].GetSequence() != 2 {
		t.Errorf("live: %v", live)
	}
	if mail, gaps, _ := bob.Connect(t).Drain(); len(mail) != 2 || len(gaps) != 0 {
		t.Errorf("mail %v, gaps %v", mail, gaps)
	}
	// The rules of rotation hold: this is not a takeover.
	e2e.WantUpload(t, bob, client.KeyUpload{IdentityKey: &bob.Identity.Public, RegistrationID: &registration,
		SignedPreKey: signedKey(bob.Identity, 0)},
		http.StatusBadRequest, "key_id_not_higher")
}
