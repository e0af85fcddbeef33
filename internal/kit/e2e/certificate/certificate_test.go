package certificate_test

import (
	"bytes"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/admin"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

func trustRoot(t *testing.T, relay *relaytest.Relay) []byte {
	t.Helper()
	var root client.TrustRoot
	got := e2e.Ask{Method: "GET", Path: "/v1/certificates/root"}.To(t, relay).Want(t, 200, "")
	if err := json.Unmarshal(got.Body, &root); err != nil {
		t.Fatal(err)
	}
	return root.PublicKey
}

func ask(token string) e2e.Ask {
	return e2e.Ask{Method: "GET", Path: "/v1/certificates/sender", Token: token}
}

// certify asks for a certificate of a device and reads it as a client does.
func certify(t *testing.T, relay *relaytest.Relay, token string, root []byte) (*prekeytest.SenderCertificate, int64) {
	t.Helper()
	var answer client.SenderCertificate
	if err := json.Unmarshal(ask(token).To(t, relay).Want(t, 200, "").Body, &answer); err != nil {
		t.Fatal(err)
	}
	c, err := prekeytest.ParseSenderCertificate(answer.Certificate, root)
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Certificate) > 400 {
		t.Errorf("a certificate of %d bytes", len(answer.Certificate))
	}
	return c, answer.ExpiresAt
}

func TestCertificateNamesTheDevice(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	user.NewDevice(t)
	d := user.NewDevice(t)
	before := time.Now()
	c, expiresAt := certify(t, relay, d.Token, trustRoot(t, relay))
	if c.SenderUUID != d.ID.String() || c.SenderE164 != user.ID.String() || c.Device != 2 ||
		!bytes.Equal(c.IdentityKey, d.Identity.Public) {
		t.Errorf("%+v", c)
	}
	least := before.Add(24*time.Hour - time.Second)
	if c.Expires.Before(least) || c.Expires.After(least.Add(time.Hour+time.Minute)) ||
		!c.Expires.Equal(c.Expires.Truncate(time.Hour)) {
		t.Errorf("it expires at %s", c.Expires)
	}
	if c.Expires.Unix() != expiresAt {
		t.Errorf("the answer says %d, the certificate %d", expiresAt, c.Expires.Unix())
	}
}

func TestCertificateNeedsADevice(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	ask("").To(t, relay).Want(t, 401, "unauthorized")
	ask(relay.Register(t).Token).To(t, relay).Want(t, 403, "device_required")
}

func TestNodesThatStartAtOnceShareOneTrustRoot(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	nodes := make([]*relaytest.Relay, 4)
	var wg sync.WaitGroup
	for i := range nodes {
		wg.Go(func() { nodes[i] = relaytest.StartOn(t, url) })
	}
	wg.Wait()
	d := nodes[0].Register(t).NewDevice(t)
	root := trustRoot(t, nodes[0])
	for _, node := range nodes {
		if got := trustRoot(t, node); !bytes.Equal(got, root) {
			t.Errorf("trust roots %x and %x", root, got)
		}
		if c, _ := certify(t, node, d.Token, root); c.ServerID != 1 {
			t.Errorf("server certificate %d", c.ServerID)
		}
	}
	nodes[0].Stop()
	if got := trustRoot(t, relaytest.StartOn(t, url)); !bytes.Equal(got, root) {
		t.Error("a restart has made another trust root")
	}
}

// TestAReplacedTrustRootSignsOnAllNodes has a trust root stolen: whoever trusts the new one takes
// nothing that the old one has signed.
func TestAReplacedTrustRootSignsOnAllNodes(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	nodes := []*relaytest.Relay{relaytest.StartOn(t, url), relaytest.StartOn(t, url)}
	d := nodes[0].Register(t).NewDevice(t)
	stolen := trustRoot(t, nodes[0])
	e2e.Administer(t, nodes[0], admin.RotateCertificates{})
	e2e.Administer(t, nodes[0], admin.RotateTrustRoot{})
	for _, node := range nodes {
		wait.Eventually(t, "the node has the new root", func() bool { return !bytes.Equal(trustRoot(t, node), stolen) })
		root := trustRoot(t, node)
		c, _ := certify(t, node, d.Token, root)
		if c.ServerID != 1 || !bytes.Equal(root, trustRoot(t, nodes[0])) {
			t.Errorf("server certificate %d, trust root %x", c.ServerID, root)
		}
	}
	var answer client.SenderCertificate
	if err := json.Unmarshal(ask(d.Token).To(t, nodes[0]).Want(t, 200, "").Body, &answer); err != nil {
		t.Fatal(err)
	}
	if _, err := prekeytest.ParseSenderCertificate(answer.Certificate, stolen); err == nil {
		t.Error("the stolen root still signs")
	}
}

// TestCertificateOfAnEndedSessionIsRefused has the session end behind the back of a node that
// remembers its token.
func TestCertificateOfAnEndedSessionIsRefused(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	db := e2e.Database(t, relay)
	user := relay.Register(t)
	root := trustRoot(t, relay)
	for what, end := range map[string]string{
		"session ended":  "DELETE FROM sessions WHERE device_id = $1",
		"has expired":    "UPDATE sessions SET expires_at = now() WHERE device_id = $1",
		"device removed": "DELETE FROM devices WHERE id = $1",
	} {
		d := user.NewDevice(t)
		certify(t, relay, d.Token, root)
		e2e.Execute(t, db, end, d.ID)
		if got := ask(d.Token).To(t, relay); got.Status != 401 {
			t.Errorf("%s: status %d", what, got.Status)
		}
	}
}

func TestCertificateAfterATakeover(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	d := relay.Register(t).NewDevice(t)
	other := e2e.LogInOnDevice(t, relay, d)
	root := trustRoot(t, relay)
	certify(t, relay, other.Token, root)
	identity := prekeytest.NewIdentity()
	e2e.WantUpload(t, d, e2e.TakeoverBy(identity), 200, "")
	ask(other.Token).To(t, relay).Want(t, 401, "unauthorized")
	if c, _ := certify(t, relay, d.Token, root); !bytes.Equal(c.IdentityKey, identity.Public) {
		t.Error("the certificate has the identity key from before the takeover")
	}
}
