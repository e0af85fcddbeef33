package mailbox

import (
	"context"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/batch"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Opened is where a socket begins.
type Opened struct {
	// Generation orders the sockets of a device: the newest has the highest.
	Generation int64
	// Floor is a sequence below which nothing is pending.
	Floor int64
	// Last is the last sequence accepted so far: the end of the backlog. 0 when there was none
	// ever.
	Last int64
}

// errNoMailbox says that the device is gone.
var errNoMailbox = core.NewError(core.Unauthorized, "unauthorized", "The device is gone.")

// socketLimits bound the sockets that wait to be opened.
var socketLimits = batch.Limits{BatchItems: 512, BatchWeight: 512, QueueItems: 8192, QueueWeight: 8192}

// newSocket is a socket to be opened.
type newSocket struct {
	core.Principal
	givenUp <-chan struct{} // closed when nobody waits for it any more
}

// Open begins a socket of the principal's device: older sockets of the device are out of date from
// now on. Returns errNoMailbox, or core.Unavailable when too many wait.
func (s *Service) Open(ctx context.Context, p core.Principal) (Opened, error) {
	b := s.of(p.Device)
	opened, err := b.sockets.Do(ctx, newSocket{p, ctx.Done()}, 1)
	if err != nil || opened.Generation > 0 {
		return opened, err
	}
	// It is gone, or held: then wait for it.
	// Durable: a generation must never come twice.
	row, err := storage.Ask(ctx, s.cfg.DB.In(b.number), storage.Queries.OpenMailbox,
		db.OpenMailboxParams{Bucket: b.number, DeviceID: p.Device, SessionID: &p.Session})
	if storage.IsNoRows(err) {
		err = errNoMailbox
	}
	return Opened{Generation: row.Generation, Floor: row.FloorSeq, Last: row.NextSeq - 1}, err
}

// openSockets opens those whose mailbox nobody holds. Several of one device get one generation
// after the other, in the order in which they came.
func (s *Service) openSockets(ctx context.Context, b *bucket, sockets []newSocket) ([]Opened, error) {
	ctx, cancel := context.WithTimeout(ctx, s.txTime)
	defer cancel()
	askers := make(map[core.DeviceID][]int, len(sockets))
	for i := range sockets {
		select {
		case <-sockets[i].givenUp: // or it would displace a socket, and nobody has the newer one
			continue
		default:
		}
		askers[sockets[i].Device] = append(askers[sockets[i].Device], i)
	}
	arg := db.OpenMailboxesParams{Bucket: b.number}
	for device, those := range askers {
		arg.DeviceIds = append(arg.DeviceIds, device)
		arg.SessionIds = append(arg.SessionIds, sockets[those[len(those)-1]].Session)
		arg.Sockets = append(arg.Sockets, int32(len(those))) //nolint:gosec // at most a batch
	}
	rows, err := storage.Ask(ctx, s.cfg.DB.In(b.number), storage.Queries.OpenMailboxes, arg)
	opened := make([]Opened, len(sockets))
	for _, row := range rows {
		those := askers[row.DeviceID]
		for n, i := range those {
			older := len(those) - 1 - n
			opened[i] = Opened{Generation: row.Generation - int64(older), Floor: row.FloorSeq, Last: row.NextSeq - 1}
		}
	}
	return opened, err
}
