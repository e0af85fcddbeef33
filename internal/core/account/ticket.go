package account

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/batch"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Tickets are made and taken for many sockets at once: when a node ends, all its clients come to
// the others.

// ticketLifetime is how long a gateway ticket is valid.
const ticketLifetime = 30 * time.Second

// ticketLimits bound the requests that wait for a ticket, and those that bring one.
var ticketLimits = batch.Limits{BatchItems: 512, BatchWeight: 512, QueueItems: 8192, QueueWeight: 8192}

// ticketHash is what the database keeps of a ticket.
type ticketHash = [sha256.Size]byte

// newTicket is a ticket to be made.
type newTicket struct {
	hash  ticketHash
	owner core.Principal
}

// NewTicket makes a single-use key to the gateway for a device-scoped principal. Returns
// core.ErrUnauthorized when its session has ended, or core.Unavailable when too many wait.
func (s *Service) NewTicket(ctx context.Context, p core.Principal) (string, error) {
	ticket := newSecret()
	t := newTicket{sha256.Sum256([]byte(ticket)), p}
	made, err := s.newTickets.Do(ctx, t, 1)
	if err == nil && !made { // its session has ended, or is held: then wait for it
		err = s.cfg.DB.ActInPipeline(ctx, p, func(tx *storage.Tx) error {
			return storage.Queries.InsertTicket(ctx, tx, db.InsertTicketParams{
				Hash: t.hash[:], SessionID: p.Session, Lifetime: storage.Interval(ticketLifetime)})
		})
	}
	return ticket, err
}

// TakeTicket uses a ticket up and returns who it was made for. Of two at the same instant, on any
// nodes, one gets it; the other, like every bad ticket, gets errTicket. Returns core.Unavailable
// when too many wait.
func (s *Service) TakeTicket(ctx context.Context, ticket string) (core.Principal, error) {
	if !isSecret(ticket) { // and so nobody's; the database need not look
		return core.Principal{}, errTicket
	}
	p, err := s.tickets.Do(ctx, sha256.Sum256([]byte(ticket)), 1)
	if err == nil && !p.DeviceScoped() {
		err = errTicket
	}
	return p, err
}

// insertTickets reports which tickets it has made.
func (s *Service) insertTickets(ctx context.Context, tickets []newTicket) ([]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, batch.TxTime)
	defer cancel()
	arg := db.InsertTicketsParams{Lifetime: storage.Interval(ticketLifetime)}
	nth := make(map[ticketHash]int, len(tickets))
	for i := range tickets {
		t := &tickets[i]
		arg.Hashes = append(arg.Hashes, t.hash[:])
		arg.SessionIds, arg.UserIds = append(arg.SessionIds, t.owner.Session), append(arg.UserIds, t.owner.User)
		nth[t.hash] = i
	}
	hashes, err := storage.Ask(ctx, s.cfg.DB, storage.Queries.InsertTickets, arg)
	made := make([]bool, len(tickets))
	for _, hash := range hashes {
		made[nth[ticketHash(hash)]] = true
	}
	return made, err
}

// takeTickets returns whom each ticket was made for: nobody for a bad one, and when a ticket comes
// twice, for the second.
func (s *Service) takeTickets(ctx context.Context, tickets []ticketHash) ([]core.Principal, error) {
	ctx, cancel := context.WithTimeout(ctx, batch.TxTime)
	defer cancel()
	hashes := make([][]byte, len(tickets))
	nth := make(map[ticketHash]int, len(tickets))
	for i := range tickets {
		hashes[i] = tickets[i][:]
		nth[tickets[i]] = i
	}
	rows, err := storage.Ask(ctx, s.cfg.DB, storage.Queries.TakeTickets, hashes)
	owners := make([]core.Principal, len(tickets))
	for i := range rows {
		if row := &rows[i]; row.Valid {
			owners[nth[ticketHash(row.Hash)]] = principalOf(
				db.SessionByIDRow{ID: row.ID, UserID: row.UserID, DeviceID: row.DeviceID, Number: row.Number})
		}
	}
	return owners, err
}
