package conform

import (
	"bytes"
	"net/http"
	"time"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
)

const (
	certificatesPath = "/v1/certificates/"
	senderPath       = certificatesPath + "sender"
	rootPath         = certificatesPath + "root"
)

// certify asks for the certificate of a device, and reads it under the relay's trust root.
func (t *try) certify(d *device) (*prekeytest.SenderCertificate, client.SenderCertificate) {
	a := t.call("GET", rootPath, "", nil)
	t.offered(a)
	root := into[client.TrustRoot](a.want(http.StatusOK, "")).PublicKey
	answer := into[client.SenderCertificate](t.call("GET", senderPath, d.token, nil).want(http.StatusOK, ""))
	c, err := prekeytest.ParseSenderCertificate(answer.Certificate, root)
	if err != nil {
		t.fail("the certificate cannot be used: %v", err)
	}
	return c, answer
}

var certificateChecks = []check{
	{"certificates.sender", "A sender certificate descends from the trust root, and names the device, its number, its user and its identity key.", func(t *try) {
		d := t.device()
		c, _ := t.certify(d)
		t.must(c.SenderUUID == d.id.String(), "the sender UUID is not the device id")
		t.must(c.SenderE164 == d.user.id.String(), "the E.164 field is not the user id")
		t.must(int64(c.Device) == int64(d.number), "the sender device is %d, the device number %d", c.Device, d.number)
		t.must(bytes.Equal(c.IdentityKey, d.keys.IdentityKey), "the identity key is not that of the device")
	}},
	{"certificates.expiry", "A sender certificate expires at a full hour, 24 to 25 hours after it was made, and the answer says when.", func(t *try) {
		c, answer := t.certify(t.device())
		left := time.Until(c.Expires)
		t.must(left > 24*time.Hour-5*time.Minute && left < 25*time.Hour+5*time.Minute, "it expires in %s", left.Round(time.Second))
		t.must(c.Expires.Equal(c.Expires.Truncate(time.Hour)), "it does not expire at a full hour")
		t.must(answer.ExpiresAt == c.Expires.Unix(), "expiresAt is not when the certificate expires")
	}},
	{"certificates.token", "A sender certificate needs the token of a device: 401 without one, 403 for a user-scoped one.", func(t *try) {
		d := t.device()
		a := t.call("GET", senderPath, "", nil)
		t.offered(a)
		a.wantError(http.StatusUnauthorized, "(no token)")
		a = t.call("GET", senderPath, d.user.token, nil)
		a.wantError(http.StatusForbidden, "(user-scoped)")
		t.must(a.code() == "device_required", "%s: %s, want device_required", a.asked, a.said())
	}},
	{"certificates.takeover", "After a takeover the certificate has the new identity key, and the device's other sessions get none.", func(t *try) {
		d := t.device()
		other := t.session(d).Token
		before, _ := t.certify(d)
		identity, _ := t.takeOver(d)
		t.ends(other)
		t.call("GET", senderPath, other, nil).wantError(http.StatusUnauthorized, "(a session that a takeover ended)")
		after, _ := t.certify(d)
		t.must(!bytes.Equal(after.IdentityKey, before.IdentityKey), "the identity key is the one from before")
		t.must(bytes.Equal(after.IdentityKey, identity.Public), "the identity key is another one")
	}},
}
