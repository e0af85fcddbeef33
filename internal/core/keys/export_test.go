package keys

import (
	"context"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// MaxRemembered is how many keys of a kind are remembered.
const MaxRemembered = maxRemembered

// SetTxTime changes how long one hand-out may take. Call it before Run.
func (s *Service) SetTxTime(d time.Duration) { s.txTime = d }

// Store stores an upload, which is a takeover or none.
func Store(ctx context.Context, tx *storage.Tx, p core.Principal, upload int64, takeover bool, u *Publication) error {
	return store(ctx, tx, target{p.User, p.Device, upload, takeover}, u)
}
