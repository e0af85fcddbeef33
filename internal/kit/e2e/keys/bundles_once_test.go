package keys_test

import (
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// tally is what concurrent fetchers got from one device.
type tally struct {
	mu        sync.Mutex
	ec, kyber []int32 // guarded by mu
}

// fetchAll fetches with n goroutines until exhausted says that nothing more will come, and checks
// that each of them gets higher and higher ids when ascending.
func (all *tally) fetchAll(t testing.TB, wg *sync.WaitGroup, n int, d *relaytest.Device, target *relaytest.Device,
	ascending bool, exhausted func() bool) {
	for range n {
		wg.Go(func() {
			lastEC, lastKyber := int32(-1), int32(-1)
			for {
				last := exhausted() // before the fetch: what comes later is not waited for
				got, err := d.GetPreKeyBundlesWithResponse(t.Context(), target.User.ID, nil)
				if err != nil || got.JSON200 == nil || len(*got.JSON200) != 1 {
					t.Errorf("bundles: %s, %v", got.Body, err)
					return
				}
				b := (*got.JSON200)[0]
				if b.OneTimePreKey == nil && b.KyberPreKey == nil {
					if last {
						return
					}
					continue
				}
				all.mu.Lock()
				if k := b.OneTimePreKey; k != nil {
					if ascending && k.KeyID <= lastEC {
						t.Errorf("EC key %d after %d", k.KeyID, lastEC)
					}
					lastEC = k.KeyID
					all.ec = append(all.ec, k.KeyID)
				}
				if k := b.KyberPreKey; k != nil {
					if ascending && k.KeyID <= lastKyber {
						t.Errorf("Kyber key %d after %d", k.KeyID, lastKyber)
					}
					lastKyber = k.KeyID
					all.kyber = append(all.kyber, k.KeyID)
				}
				all.mu.Unlock()
			}
		})
	}
}

// want checks that every id from 1 to n was handed out once.
func (all *tally) want(t testing.TB, n int32) {
	t.Helper()
	for kind, ids := range map[string][]int32{"EC": all.ec, "Kyber": all.kyber} {
		slices.Sort(ids)
		if !slices.Equal(ids, idRange(1, n)) {
			t.Errorf("%s keys handed out: %v, want each of 1 to %d once", kind, ids, n)
		}
	}
}

func TestEveryOneTimeKeyIsHandedOutExactlyOnce(t *testing.T) {
	t.Parallel()
	for name, nodes := range map[string]int{"one node": 1, "two nodes": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			relay := relaytest.Start(t)
			caller, target := relay.Register(t).NewDevice(t), e2e.PlainDevice(t, relay.Register(t), 100)
			var all tally
			var wg sync.WaitGroup
			exhausted := func() bool { return true }
			if nodes == 2 {
				there := caller.On(relaytest.StartOn(t, relay.DatabaseURL))
				all.fetchAll(t, &wg, 32, there, target, true, exhausted)
			}
			all.fetchAll(t, &wg, 64/nodes, caller, target, true, exhausted)
			wg.Wait()
			all.want(t, 100)
			wantStock(t, target, nil, nil)
		})
	}
}

// Uploads bring lower and lower ids while two nodes hand out: none is hidden, none comes twice.
func TestKeysUploadedDuringHandOutsAreHandedOutOnce(t *testing.T) {
	t.Parallel()
	const batches, size = 40, 10
	relay := relaytest.Start(t)
	two := relaytest.StartOn(t, relay.DatabaseURL)
	caller, target := relay.Register(t).NewDevice(t), e2e.PlainDevice(t, relay.Register(t), 0)
	var all tally
	var wg sync.WaitGroup
	var uploaded atomic.Bool
	all.fetchAll(t, &wg, 8, caller, target, false, uploaded.Load)
	all.fetchAll(t, &wg, 8, caller.On(two), target, false, uploaded.Load)
	for i := range batches {
		first := (batches-1-i)*size + 1
		upload := client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(first, size),
			KyberPreKeys: target.Identity.KyberPreKeys(first, size)}
		e2e.WantUpload(t, target, upload, http.StatusOK, "")
		wait.Eventually(t, "there is room for more keys", func() bool {
			inventory := keyInventory(t, target)
			return inventory.OneTimePreKeyCount <= 100-size && inventory.KyberPreKeyCount <= 100-size
		})
	}
	uploaded.Store(true)
	wg.Wait()
	all.want(t, batches*size)
	wantStock(t, target, nil, nil)
}

func TestTheOwnerIsToldWhenItsKeysRunLow(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	two := relaytest.StartOn(t, relay.DatabaseURL)
	for name, from := range map[string]*relaytest.Relay{"from the same node": relay, "from another node": two} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			caller, owner := relay.Register(t).NewDevice(t).On(from), e2e.PlainDevice(t, relay.Register(t), 22)
			socket := owner.Connect(t)
			socket.Drain()
			if s := socket.Status; s.GetOneTimePreKeyCount() != 22 || s.GetKyberPreKeyCount() != 22 ||
				s.GetMinThreshold() != 20 {
				t.Errorf("status on connect: %v", s)
			}
			e2e.FetchBundle(t, caller, owner.User.ID)
			e2e.FetchBundle(t, caller, owner.User.ID)
			caller.Send(t, nil, relaytest.To(owner.ID, "20 are enough"))
			if frame, err := socket.Frame(); err != nil || frame.GetEnvelopeBatch() == nil {
				t.Errorf("with 20 keys left: %v, %v; want the envelope and no notice", frame, err)
			}
			e2e.FetchBundle(t, caller, owner.User.ID)
			frame, err := socket.Frame()
			if s := frame.GetPreKeyStatus(); err != nil || s.GetOneTimePreKeyCount() != 19 ||
				s.GetKyberPreKeyCount() != 19 || s.GetMinThreshold() != 20 {
				t.Errorf("with 19 keys left: %v, %v; want a PreKeyStatus of 19 and 19", frame, err)
			}
			// Only one kind is low.
			e2e.WantUpload(t, owner, client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(100, 70)}, http.StatusOK, "")
			e2e.FetchBundle(t, caller, owner.User.ID)
			frame, err = socket.Frame()
			if s := frame.GetPreKeyStatus(); err != nil || s.GetOneTimePreKeyCount() != 88 ||
				s.GetKyberPreKeyCount() != 18 {
				t.Errorf("with 18 Kyber keys left: %v, %v", frame, err)
			}
		})
	}
}
