package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	gen "github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

type ownDevice struct {
	ID        uuid.UUID  `json:"deviceId"`
	Number    uint8      `json:"deviceNumber"`
	Name      *string    `json:"name"`
	CreatedAt *time.Time `json:"createdAt"`
}

func devicesOf(ctx context.Context, db *storage.DB, id core.UserID) ([]ownDevice, error) {
	list, err := devices(db).List(ctx, id)
	shown := make([]ownDevice, 0, len(list))
	for _, d := range list {
		shown = append(shown, ownDevice{d.ID, d.Number, d.Name, inSeconds(&d.CreatedAt)})
	}
	return shown, err
}

// ListDevices lists a user's devices, in the order of their numbers.
type ListDevices struct{ OfUser }

// Do implements Command.
func (c ListDevices) Do(ctx context.Context, db *storage.DB) (any, error) {
	return c.with(ctx, db, func(id core.UserID) (any, error) { return devicesOf(ctx, db, id) })
}

// RemoveDevice removes one of a user's devices.
type RemoveDevice struct {
	OfUser
	Device string `arg:"" help:"Number or id of the device."`
}

var errNoDevice = errors.New("the user has no such device: name one by its number or id, as `obscura admin devices list` does")

// Do implements Command.
func (c RemoveDevice) Do(ctx context.Context, db *storage.DB) (any, error) {
	return c.with(ctx, db, func(id core.UserID) (any, error) {
		list, err := devices(db).List(ctx, id)
		for _, d := range list {
			if c.Device == d.ID.String() || c.Device == strconv.Itoa(int(d.Number)) {
				return struct {
					Removed uuid.UUID `json:"removed"`
				}{d.ID}, devices(db).Remove(ctx, id, d.ID)
			}
		}
		if err == nil {
			err = errNoDevice
		}
		return nil, err
	})
}

// ShowMailbox shows how much mail waits for a user's devices.
type ShowMailbox struct{ OfUser }

type gap struct {
	From   int64  `json:"from"`
	To     int64  `json:"to"`
	Reason string `json:"reason"`
}

type gaps []gap

// String implements fmt.Stringer.
func (g gaps) String() string {
	var all []string
	for _, one := range g {
		all = append(all, fmt.Sprintf("%d-%d %s", one.From, one.To, one.Reason))
	}
	return strings.Join(all, ", ")
}

var gapReasons = map[core.GapReason]string{core.GapExpired: "expired", core.GapCap: "cap",
	core.GapTakeover: "takeover", core.GapQuarantined: "quarantined"}

// Do implements Command.
func (c ShowMailbox) Do(ctx context.Context, db *storage.DB) (any, error) {
	type mailbox struct {
		Device       uuid.UUID  `json:"deviceId"`
		Number       int16      `json:"deviceNumber"`
		Pending      int32      `json:"pending"`
		PendingBytes int64      `json:"pendingBytes"`
		Oldest       *time.Time `json:"oldest"`
		Accepted     int64      `json:"accepted"`
		Acknowledged int64      `json:"acknowledged"`
		Gaps         gaps       `json:"gaps"`
	}
	return c.with(ctx, db, func(id core.UserID) (any, error) {
		devices, err := storage.Ask(ctx, db, storage.Queries.DevicesOfUser, id)
		slices.SortFunc(devices, func(a, b gen.DevicesOfUserRow) int { return int(a.Number - b.Number) })
		shown := make([]mailbox, 0, len(devices))
		for _, d := range devices {
			place := db.Buckets().Place(d.ID)
			r, err := storage.Ask(ctx, db, storage.Queries.InspectMailbox, gen.InspectMailboxParams(place))
			if storage.IsNoRows(err) { // removed in this instant
				continue
			}
			if err != nil {
				return nil, err
			}
			m := mailbox{Device: d.ID, Number: d.Number, Pending: r.Pending, PendingBytes: r.PendingBytes,
				Accepted: r.Accepted, Acknowledged: r.AckedSeq, Gaps: gaps{}}
			if r.Pending > 0 {
				m.Oldest = inSeconds(&r.Oldest)
			}
			found, err := storage.Ask(ctx, db, storage.Queries.GapsOf, gen.GapsOfParams(place))
			if err != nil {
				return nil, err
			}
			for _, g := range found {
				m.Gaps = append(m.Gaps, gap{g.FromSeq, g.ToSeq, gapReasons[core.GapReason(g.Reason)]})
			}
			shown = append(shown, m)
		}
		return shown, err
	})
}
