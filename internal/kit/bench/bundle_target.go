package bench

import (
	"context"
	"sync"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
)

// A bundleTarget is a device whose bundles are fetched, and its ledger of one-time keys.
type bundleTarget struct {
	device *device
	path   string
	kyber  bool

	refilling sync.WaitGroup

	mu     sync.Mutex
	out    map[int32]bool // guarded by mu: key ids that were handed out
	since  int            // guarded by mu: hand-outs since the last refill
	nextID int            // guarded by mu: the id of the next new key
	busy   bool           // guarded by mu: a refill is under way
}

func newBundleTarget(dev *device, kyber bool) *bundleTarget {
	return &bundleTarget{device: dev, path: "/v1/users/" + dev.user.id.String(), kyber: kyber, out: map[int32]bool{},
		nextID: 1000}
}

// handOut notes a key and reports whether it was handed out before.
func (b *bundleTarget) handOut(got fetched) (twice bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := got.OneTimePreKey.KeyID
	twice = b.out[id]
	b.out[id] = true
	b.since++
	return twice
}

// refillAt is how many hand-outs make a device upload as many new keys: before the low-keys notice,
// whose answer would come too late at this speed.
const refillAt = keysPerTarget / 2

// refill uploads new keys for those that were handed out, when there are enough, beside the
// fetches.
func (b *bundleTarget) refill(ctx context.Context, l *bundleLoad) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy || b.since < refillAt {
		return
	}
	n, first := min(b.since, keysPerTarget), b.nextID
	b.busy, b.since, b.nextID = true, b.since-n, b.nextID+n
	b.refilling.Go(func() {
		// Clients in the field send their signed pre-key again with every upload.
		upload := client.KeyUpload{SignedPreKey: &b.device.signed, OneTimePreKeys: prekeytest.PreKeys(first, n)}
		if b.kyber {
			upload.KyberPreKeys = b.device.identity.KyberPreKeys(first, n)
		}
		err := b.device.session.UploadKeys(ctx, upload)
		b.mu.Lock()
		b.busy = false
		b.mu.Unlock()
		if err != nil {
			l.errors.add("refill: " + kindOf(err))
			return
		}
		if l.window.holds(l.window.now()) {
			l.refills.Add(1)
		}
	})
}
