// Package device keeps a user's devices: their numbers, names, and the moment they come and go.
//
// Invariants: a user has at most core.MaxDevices; a device number is unique within its user and
// rests after its device is gone, if somebody may remember it: a bundle was handed out, or mail was
// sent by it; a device exists with its keys and its mailbox or not at all. On failure nothing has
// changed.
package device

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/account"
	"github.com/obscura-relay/obscura/internal/core/blob"
	"github.com/obscura-relay/obscura/internal/core/keys"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
	"github.com/obscura-relay/obscura/internal/core/push"
	"github.com/obscura-relay/obscura/internal/storage"
)

// numberRest is how long a device number is not given out again: others' mail for the old device
// may be pending for 30 days, and theirs to us may cross it.
const numberRest = 60 * 24 * time.Hour

// ErrTooMany says that the user has as many devices as there may be.
var ErrTooMany = core.NewError(core.Forbidden, "device_limit", "A user has at most 10 devices.")

// errNoNumber says that all device numbers are in use or at rest.
var errNoNumber = core.NewError(core.Forbidden, "device_numbers_exhausted",
	"All 127 device numbers are in use, or rest for 60 days after a device that others know was removed.")

// Device is one device of a user.
type Device struct {
	ID core.DeviceID
	// Number is 1 to 127, unique within the user.
	Number uint8
	// Name is nil when the client gave none.
	Name      *string
	CreatedAt time.Time
}

// Config is what a Service needs.
type Config struct {
	DB       *storage.DB
	Accounts *account.Service
	Node     core.Announcer
}

// Service is the use cases of devices. Make it with New.
type Service struct{ cfg Config }

// New makes a Service.
func New(cfg Config) *Service { return &Service{cfg} }

// Create registers a device with its first keys and makes a session for it. Returns ErrTooMany,
// errNoNumber or the errors of keys.Check.
func (s *Service) Create(ctx context.Context, p core.Principal, name *string, first keys.Publication) (account.Tokens,
	error) {
	if first.Signed == nil {
		return account.Tokens{}, keys.ErrTakeoverUnsigned
	}
	if err := keys.Check(first.Identity, &first); err != nil {
		return account.Tokens{}, err
	}
	device := uuid.New()
	var tokens account.Tokens
	err := s.cfg.DB.Across().ActAlone(ctx, p, func(tx *storage.Tx) error {
		q := storage.Queries
		number, err := nextNumber(ctx, tx, p.User)
		if err != nil {
			return err
		}
		arg := db.InsertDeviceParams{ID: device, UserID: p.User, Number: number, Name: name,
			RegistrationID: first.RegistrationID, IdentityKey: first.Identity,
			SignedPreKeyID: first.Signed.ID, SignedPreKey: first.Signed.Public, SignedPreKeySig: first.Signed.Signature}
		if _, err := q.InsertDevice(ctx, tx, arg); err != nil {
			return err
		}
		if err := q.InsertPreKeyStock(ctx, tx, db.InsertPreKeyStockParams(tx.Place(device))); err != nil {
			return err
		}
		if err := mailbox.Create(ctx, tx, device); err != nil {
			return err
		}
		first.Signed = nil // stored with the device
		if err := keys.StoreFirst(ctx, tx, p.User, device, &first); err != nil {
			return err
		}
		if _, err := mailbox.CountDevicesChange(ctx, tx, p.User); err != nil {
			return err
		}
		tokens, err = s.cfg.Accounts.NewSession(ctx, tx,
			core.Principal{User: p.User, Device: device, DeviceNumber: uint8(number)}) //nolint:gosec // 1 to 127
		return err
	})
	return tokens, err
}

// nextNumber chooses a number for a new device. The caller holds the user's lock, so two devices
// that are registered at once get two numbers and the limit is exact.
func nextNumber(ctx context.Context, tx *storage.Tx, user core.UserID) (int16, error) {
	q := storage.Queries
	n, err := q.CountDevices(ctx, tx, user)
	if err != nil {
		return 0, err
	}
	if n >= core.MaxDevices {
		return 0, ErrTooMany
	}
	number, err := q.NextDeviceNumber(ctx, tx,
		db.NextDeviceNumberParams{UserID: user, Rest: storage.Interval(numberRest)})
	return number, storage.NoRowsAs(err, errNoNumber)
}

// List returns a user's devices in the order of their numbers.
func (s *Service) List(ctx context.Context, user core.UserID) ([]Device, error) {
	devices := []Device{}
	err := s.cfg.DB.Do(ctx, func(conn *storage.Tx) error {
		rows, err := storage.Queries.DevicesOfUser(ctx, conn, user)
		for _, row := range rows {
			devices = append(devices, deviceOf(row))
		}
		return err
	})
	slices.SortFunc(devices, func(a, b Device) int { return int(a.Number) - int(b.Number) })
	return devices, err
}

// Public is what others may know of a device.
type Public struct {
	ID             core.DeviceID
	Number         uint8
	RegistrationID int32
	Identity       []byte
}

// Public returns a user's devices in the order of their numbers, and the version of this list.
// Returns keys.ErrUserUnknown, also for a user without devices.
func (s *Service) Public(ctx context.Context, user core.UserID) (version int64, devices []Public, err error) {
	err = s.cfg.DB.Do(ctx, func(conn *storage.Tx) error {
		rows, err := storage.Queries.PublicDevices(ctx, conn, []core.UserID{user})
		for _, row := range rows {
			version = row.DevicesVersion
			devices = append(devices, Public{row.ID, uint8(row.Number), //nolint:gosec // 1 to 127
				row.RegistrationID, row.IdentityKey})
		}
		return err
	})
	if err == nil && devices == nil {
		err = keys.ErrUserUnknown
	}
	return version, devices, err
}

// Get returns one of the user's own devices, or keys.ErrDeviceGone.
func (s *Service) Get(ctx context.Context, user core.UserID, id core.DeviceID) (Device, error) {
	var row db.DeviceOfUserRow
	err := s.cfg.DB.Do(ctx, func(conn *storage.Tx) (err error) {
		row, err = storage.Queries.DeviceOfUser(ctx, conn, db.DeviceOfUserParams{ID: id, UserID: user})
		return err
	})
	return deviceOf(db.DevicesOfUserRow(row)), storage.NoRowsAs(err, keys.ErrDeviceGone)
}

// Rename names one of the user's own devices. Returns keys.ErrDeviceGone.
func (s *Service) Rename(ctx context.Context, p core.Principal, id core.DeviceID, name string) (Device, error) {
	var row db.RenameDeviceRow
	err := s.cfg.DB.Act(ctx, p, func(tx *storage.Tx) (err error) {
		row, err = storage.Queries.RenameDevice(ctx, tx, db.RenameDeviceParams{ID: id, UserID: p.User, Name: &name})
		return storage.NoRowsAs(err, keys.ErrDeviceGone)
	})
	return deviceOf(db.DevicesOfUserRow(row)), err
}

func deviceOf(row db.DevicesOfUserRow) Device {
	return Device{ID: row.ID, Number: uint8(row.Number), Name: row.Name, CreatedAt: row.CreatedAt} //nolint:gosec // 1 to 127
}

// Delete removes one of the user's own devices with its keys, mail and backup; its tokens and
// sockets stop working on every node. Returns keys.ErrDeviceGone.
func (s *Service) Delete(ctx context.Context, p core.Principal, id core.DeviceID) error {
	var notices storage.Notices
	err := s.cfg.DB.Across().ActAlone(ctx, p, func(tx *storage.Tx) (err error) {
		notices, err = remove(ctx, tx, p.User, id)
		return err
	})
	return notices.Committed(err, s.cfg.Node)
}

// Remove is Delete for the operator. Returns core.ErrNoUser or keys.ErrDeviceGone.
func (s *Service) Remove(ctx context.Context, user core.UserID, id core.DeviceID) error {
	var notices storage.Notices
	err := s.cfg.DB.ActFor(ctx, user, func(tx *storage.Tx) (err error) {
		notices, err = remove(ctx, tx, user, id)
		return err
	})
	return notices.Committed(err, s.cfg.Node)
}

// remove deletes a device of a user whose row is locked.
func remove(ctx context.Context, tx *storage.Tx, user core.UserID, id core.DeviceID) (storage.Notices, error) {
	q := storage.Queries
	if _, err := q.DeviceOfUser(ctx, tx, db.DeviceOfUserParams{ID: id, UserID: user}); err != nil {
		return nil, storage.NoRowsAs(err, keys.ErrDeviceGone)
	}
	ended, err := q.DeleteOtherDeviceSessions(ctx, tx,
		db.DeleteOtherDeviceSessionsParams{DeviceID: id, Keep: uuid.Nil})
	if err != nil {
		return nil, err
	}
	notices := storage.Notices{
		{Kind: core.NoticeEnded, IDs: ended},
		{Kind: core.NoticeRevoked, IDs: []core.DeviceID{id}, Generation: math.MaxInt64},
	}
	if err := notices.Notify(ctx, tx); err != nil {
		return nil, err
	}
	if err := keys.Retire(ctx, tx, user, id); err != nil {
		return nil, err
	}
	return notices, Erase(ctx, tx, user, id)
}

// Erase deletes a device with everything that is kept for it, and puts its number to rest if need
// be. Locks are taken in the order of an upload: stock, device, mailbox, backup.
func Erase(ctx context.Context, tx *storage.Tx, user core.UserID, id core.DeviceID) error {
	q := storage.Queries
	stock, err := q.LockPreKeyStock(ctx, tx, db.LockPreKeyStockParams(tx.Place(id)))
	if err != nil {
		return storage.NoRowsAs(err, keys.ErrDeviceGone)
	}
	if stock.Remembered {
		if err := q.RetireDeviceNumber(ctx, tx, id); err != nil {
			return err
		}
	}
	if err := push.Forget(ctx, tx, id); err != nil {
		return err
	}
	if _, err := mailbox.CountDevicesChange(ctx, tx, user); err != nil {
		return err
	}
	if _, err := q.DeleteDevice(ctx, tx, db.DeleteDeviceParams{ID: id, UserID: user}); err != nil {
		return err
	}
	if err := mailbox.Erase(ctx, tx, id); err != nil {
		return err
	}
	return blob.EraseDevice(ctx, tx, id)
}

// Export is everything that is kept for one device.
type Export struct {
	Device    Device
	Inventory keys.Inventory
	// Accepted counts the envelopes ever accepted, Pending those that wait, with PendingBytes of
	// ciphertext.
	Accepted     int64
	Pending      int32
	PendingBytes int64
	// Acknowledged is the highest acknowledged sequence; Gaps are those not forgotten yet.
	Acknowledged int64
	Gaps         []core.Gap
	// PushToken is nil for a device that has none.
	PushToken *push.Registration
	// Receipts counts the batches of the device that are remembered, SocketsOpened its connections.
	Receipts, SocketsOpened int64
}

// Export lists everything that is kept for the user's devices, each as of one moment.
func (s *Service) Export(ctx context.Context, user core.UserID) ([]Export, error) {
	devices, err := s.List(ctx, user)
	if err != nil {
		return nil, err
	}
	var out []Export
	for _, d := range devices {
		e := Export{Device: d}
		err := s.cfg.DB.Of(d.ID).InTx(ctx, func(tx *storage.Tx) (err error) {
			if e.Inventory, err = keys.InventoryOf(ctx, tx, d.ID); err != nil {
				return err
			}
			box, err := storage.Queries.MailboxSummary(ctx, tx, db.MailboxSummaryParams(tx.Place(d.ID)))
			if err != nil {
				return storage.NoRowsAs(err, keys.ErrDeviceGone)
			}
			e.Accepted, e.Pending, e.PendingBytes = box.NextSeq-1, box.Pending, box.PendingBytes
			e.Acknowledged, e.Receipts, e.SocketsOpened = box.AckedSeq, box.Receipts, box.Generation
			gaps, err := storage.Queries.GapsOf(ctx, tx, db.GapsOfParams(tx.Place(d.ID)))
			for _, g := range gaps {
				e.Gaps = append(e.Gaps, core.Gap{From: g.FromSeq, To: g.ToSeq, Reason: core.GapReason(g.Reason)})
			}
			if err != nil {
				return err
			}
			e.PushToken, err = push.RegistrationOf(ctx, tx, d.ID)
			return err
		})
		if errors.Is(err, keys.ErrDeviceGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}
