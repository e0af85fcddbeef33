package mailbox

import (
	"context"
	"slices"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Audience says which of a user's devices a sender knows.
type Audience struct {
	User core.UserID
	// Version is that of the list of devices that the sender has. No list has version 0.
	Version uint64
}

// audienceWeight is what an audience costs: a row to read.
const audienceWeight = 512

// DeviceList is the devices of a user as they are now.
type DeviceList struct {
	User core.UserID
	// Version is 0 for a user who does not exist or has no device.
	Version uint64
	// Devices are in the order of their numbers.
	Devices []ListedDevice
}

// ListedDevice is a device in a DeviceList.
type ListedDevice struct {
	ID             core.DeviceID
	Number         uint8
	RegistrationID int32
}

// ChangedError says that nothing of a batch was stored, because audiences of it have other devices
// than the sender knows.
type ChangedError struct {
	// Lists are the devices of these audiences now.
	Lists []DeviceList
}

// Error implements error.
func (*ChangedError) Error() string { return "an audience has other devices than the sender knows" }

// CountDevicesChange advances the version of a user's devices, and returns the new one. It locks
// the user's mailboxes: a batch for one of them that names the old version was stored before, or is
// refused; where there are several buckets see nameVersions. The caller holds the user's lock, and
// locks nothing afterwards that others lock before mailboxes.
func CountDevicesChange(ctx context.Context, tx *storage.Tx, user core.UserID) (version int64, err error) {
	q := storage.Queries
	rows, err := q.DevicesOfUser(ctx, tx, user)
	if err != nil {
		return 0, err
	}
	devices := make([]core.DeviceID, len(rows))
	for i, row := range rows {
		devices[i] = row.ID
	}
	for bucket, some := range tx.Divide(devices) {
		if err := q.HoldMailboxes(ctx, tx, db.HoldMailboxesParams{Bucket: bucket, DeviceIds: some}); err != nil {
			return 0, err
		}
	}
	return q.CountDevicesChange(ctx, tx, user)
}

// checkAudiences finds the requests that name a version that is not the current one. A user whom a
// request may not ask about is not looked up for it: the time must not tell whether there is one.
func (p *pass) checkAudiences(ctx context.Context, conn *storage.Tx) error {
	var users []core.UserID
	for _, r := range p.requests {
		for _, a := range r.batch.Audiences {
			if r.mayAsk(a.User) {
				users = append(users, a.User)
			}
		}
	}
	versions, err := devicesVersions(ctx, conn, users)
	if err != nil {
		return err
	}
	var changed []core.UserID
	for i, r := range p.requests {
		for _, a := range r.batch.Audiences {
			known := func(l DeviceList) bool { return l.User == a.User }
			current := a.Version != 0 && a.Version == versions[a.User] && r.mayAsk(a.User)
			if !current && !slices.ContainsFunc(p.answers[i].changed, known) {
				p.answers[i].changed = append(p.answers[i].changed, DeviceList{User: a.User})
				if r.mayAsk(a.User) {
					changed = append(changed, a.User)
				}
			}
		}
	}
	if len(changed) == 0 {
		return nil
	}
	lists, err := deviceLists(ctx, conn, core.Distinct(changed))
	for n, answer := range p.answers {
		for i := range answer.changed {
			user := answer.changed[i].User
			if now := lists[user]; now != nil && p.requests[n].mayAsk(user) {
				answer.changed[i] = *now
			}
		}
	}
	return err
}

// nameVersions notes which version each submission names: that of the audience that is its device's
// user, 0 for none. A device may be taken over between the look at the versions and the transaction
// that stores, where these are two. Then its mailbox says a higher version; see insertMessages.
func (p *pass) nameVersions(ctx context.Context, conn *storage.Tx) error {
	var devices []core.DeviceID
	for _, r := range p.requests {
		for i := range r.batch.Submissions {
			// what no token opens is not looked up: a stranger might learn whether it exists
			if len(r.batch.Audiences) > 0 && r.mayWrite(i) {
				devices = append(devices, r.batch.Submissions[i].Device)
			}
		}
	}
	if len(devices) == 0 {
		return nil
	}
	rows, err := storage.Queries.OwnersOf(ctx, conn, core.Distinct(devices))
	owners := make(map[core.DeviceID]core.UserID, len(rows))
	for _, row := range rows {
		owners[row.ID] = row.UserID
	}
	for _, r := range p.requests {
		for i := range r.batch.Submissions {
			for _, a := range r.batch.Audiences {
				if owners[r.batch.Submissions[i].Device] == a.User {
					r.batch.Submissions[i].version = int64(a.Version) //nolint:gosec // it was the current one, or nothing is stored
				}
			}
		}
	}
	return err
}

func devicesVersions(ctx context.Context, tx *storage.Tx, users []core.UserID) (map[core.UserID]uint64, error) {
	if len(users) == 0 {
		return nil, nil
	}
	rows, err := storage.Queries.DevicesVersions(ctx, tx, core.Distinct(users))
	versions := make(map[core.UserID]uint64, len(rows))
	for _, row := range rows {
		versions[row.ID] = uint64(row.DevicesVersion) //nolint:gosec // positive
	}
	return versions, err
}

func deviceLists(ctx context.Context, tx *storage.Tx, users []core.UserID) (map[core.UserID]*DeviceList, error) {
	rows, err := storage.Queries.PublicDevices(ctx, tx, users)
	lists := make(map[core.UserID]*DeviceList, len(users))
	for _, row := range rows {
		list := lists[row.UserID]
		if list == nil {
			list = &DeviceList{User: row.UserID, Version: uint64(row.DevicesVersion)} //nolint:gosec // positive
			lists[row.UserID] = list
		}
		list.Devices = append(list.Devices, ListedDevice{row.ID, uint8(row.Number), //nolint:gosec // 1 to 127
			row.RegistrationID})
	}
	return lists, err
}
