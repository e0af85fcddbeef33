package mailbox

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Sockets of one device that open at the same instant, on two nodes, get one generation each, with
// none between them.
func TestSocketsThatOpenAtOnceGetAGenerationEach(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	nodes := []*node{start(t, url), start(t, url)}
	const devices, sockets = 3, 20
	var all [devices]core.DeviceID
	for i := range all {
		all[i] = nodes[0].newBox(t)
	}
	var mu sync.Mutex
	generations := map[core.DeviceID][]int64{} // guarded by mu
	sessions := map[int64]core.SessionID{}     // guarded by mu: of the first device, by generation
	var wg sync.WaitGroup
	for i := range devices * sockets {
		wg.Go(func() {
			p := core.Principal{Device: all[i%devices], Session: uuid.New()}
			opened, err := nodes[i%2].Open(context.Background(), p)
			if err != nil {
				t.Errorf("Open: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			generations[p.Device] = append(generations[p.Device], opened.Generation)
			if p.Device == all[0] {
				sessions[opened.Generation] = p.Session
			}
		})
	}
	wg.Wait()
	for device, got := range generations {
		slices.Sort(got)
		for i, generation := range got {
			if generation != int64(i)+1 {
				t.Fatalf("device %s: generations %v", device, got)
			}
		}
	}
	b := nodes[0].of(all[0])
	newest, err := storage.Queries.SocketSessions(t.Context(), nodes[0].main.Pool(),
		db.SocketSessionsParams{Bucket: b.number, DeviceIds: all[:1]})
	if err != nil || len(newest) != 1 || newest[0] != sessions[sockets] {
		t.Errorf("the newest socket is of session %v, want %v: %v", newest, sessions[sockets], err)
	}
}

// Who opens a socket of a mailbox that is being changed waits for it. Nobody else does.
func TestAHeldMailboxHoldsUpItsOwnSocketOnly(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewURL(t))
	held, free := n.newBox(t), n.newBox(t)
	waits := make(chan error, 1)
	n.tx(t, func(tx *storage.Tx) error {
		if _, err := lockMailboxes(context.Background(), tx, tx.Bucket(held), []core.DeviceID{held}); err != nil {
			return err
		}
		go func() {
			opened, err := n.Open(context.Background(), core.Principal{Device: held})
			if err == nil && opened.Generation != 1 {
				t.Errorf("generation %d, want 1", opened.Generation)
			}
			waits <- err
		}()
		for range 3 {
			if _, err := n.Open(t.Context(), core.Principal{Device: free}); err != nil {
				t.Errorf("the socket of another device: %v", err)
			}
		}
		testdb.AwaitWaiting(t, n.main.Pool(), 1) // for the lock
		return nil
	})
	if err := <-waits; err != nil {
		t.Error(err)
	}
}
