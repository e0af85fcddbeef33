package storage

import (
	"context"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
)

// Notices are what a transaction announces: Notify in it, and Committed after it.
type Notices []core.Notice

// Notify has the other nodes hear of them when tx is committed.
func (n Notices) Notify(ctx context.Context, tx db.DBTX) error {
	for _, notice := range n {
		if err := Queries.Notify(ctx, tx,
			db.NotifyParams{Channel: core.NoticeChannel, Payloads: notice.Payloads()}); err != nil {
			return err
		}
	}
	return nil
}

// Committed tells this node, at once, unless the transaction failed with err. It returns err.
func (n Notices) Committed(err error, node core.Announcer) error {
	if err == nil {
		for _, notice := range n {
			node.Announce(notice)
		}
	}
	return err
}
