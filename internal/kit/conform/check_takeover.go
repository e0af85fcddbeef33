package conform

import (
	"bytes"
	"net/http"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
)

// takeOver replaces the identity of a device, with key ids below the old ones.
func (t *try) takeOver(d *device) (*prekeytest.Identity, client.KeyUpload) {
	identity := newIdentity(false)
	registration := d.keys.RegistrationID%16383 + 1
	key := identity.SignedPreKey(1)
	keys := client.KeyUpload{IdentityKey: &identity.Public, RegistrationID: &registration, SignedPreKey: &key,
		OneTimePreKeys: prekeytest.PreKeys(70, 1)}
	t.upload(d, keys, http.StatusOK, "(takeover)")
	return identity, keys
}

var takeoverChecks = []check{
	{"keys.takeover", "Another identity key replaces the device's, with any key ids, and drops all its old keys.",
		func(t *try) {
			caller, target := t.device(), t.user()
			d := t.deviceOf(target, 3, 2)
			identity, keys := t.takeOver(d)
			got := t.inventory(d)
			t.must(bytes.Equal(got.Digest, digest(identity.Public, *keys.SignedPreKey, nil, keys.OneTimePreKeys, nil)),
				"old keys are still held, or new ones are not")
			b := t.bundle(caller, target.id)
			t.must(b.DeviceID == d.id && b.DeviceNumber == d.number, "the device has another id or number")
			t.must(bytes.Equal(b.IdentityKey, identity.Public) && b.RegistrationID == *keys.RegistrationID,
				"the bundle has the old identity")
			t.must(b.SignedPreKey.KeyID == 1 && b.OneTimePreKey != nil && b.OneTimePreKey.KeyID == 70 &&
				b.KyberPreKey == nil, "the bundle has old keys")
		}},
	{"keys.takeover-mail", "A takeover drops pending mail and reports it as a gap; what comes later is delivered.",
		func(t *try) {
			sender, d := t.device(), t.device()
			t.postMany(sender, d, "old", 3)
			t.takeOver(d)
			t.post(sender, mail(d.id, "new"))
			got := t.pending(d)
			t.must(len(got.envelopes) == 1 && string(got.envelopes[0].GetMessage()) == "new",
				"%d envelopes are pending after a takeover, want the newer one", len(got.envelopes))
			t.must(got.envelopes[0].GetSequence() == 4, "the next sequence after three that were dropped is %d, want 4",
				got.envelopes[0].GetSequence())
			t.must(got.dropped(obscurapb.Gap_REASON_TAKEOVER) == 3,
				"%d envelopes are reported as dropped by the takeover, want 3", got.dropped(obscurapb.Gap_REASON_TAKEOVER))
		}},
	{"keys.takeover-sessions",
		"A takeover closes the device's socket and ends its other sessions within a second; its own goes on.",
		func(t *try) {
			d := t.device()
			other := t.session(d)
			t.works(other.Token, "the token of a log-in")
			s := t.connect(d)
			s.drain(false)
			t.takeOver(d)
			s.closes(4401, "after a takeover")
			t.ends(other.Token)
			t.call("POST", "/v1/sessions/refresh", "",
				client.RefreshTokenBody{RefreshToken: other.RefreshToken}).wantError(http.StatusUnauthorized,
				"(another session, after a takeover)")
			t.works(d.token, "the token that made the takeover")
			t.pending(d)
			t.refreshed(d.refresh, "(the session that made the takeover)")
			t.works(d.user.token, "the user-scoped token")
		}},
}
