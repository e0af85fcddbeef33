package api

import (
	"time"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/limit"
)

// refusedFrom is the pressure from which on an operation is refused. All others go on: refreshes,
// sockets with their acknowledgements, fetches, and whatever deletes.
var refusedFrom = map[string]limit.Pressure{
	"createUser":       limit.RefuseAccounts,
	"createSession":    limit.RefuseLogIns,
	"createDevice":     limit.RefuseUploads,
	"uploadAttachment": limit.RefuseUploads,
	"uploadBackup":     limit.RefuseUploads,
	"sendMessages":     limit.RefuseSends,
	sealedSends:        limit.RefuseSends,
}

// errOverloaded is the answer under pressure. The state is looked at four times a second, and falls
// after ten seconds.
var errOverloaded = &core.Error{Kind: core.Unavailable, Code: "overloaded", RetryAfter: 10 * time.Second,
	Sentence: "The relay is running short of room and does not take this for now; try again later."}

// press refuses an operation that has to give way, before anything is spent on it.
func (s *server) press(op *operation) error {
	if from, ok := refusedFrom[op.id]; ok && s.cfg.Pressure() >= from {
		return errOverloaded
	}
	return nil
}
