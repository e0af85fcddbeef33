package obscura

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
)

// Correction is what to do about a batch that was for old devices.
type Correction struct {
	// Changes are what became of the devices of each audience that has others.
	Changes []DevicesChange
	// Rest is the batch, with its key, without the submissions that are to be encrypted again and
	// with the versions of now. Add what was encrypted, and send it.
	Rest Batch
}

// DevicesChange is what became of a user's devices.
type DevicesChange struct {
	// DeviceList is all devices of the user now, with their identity keys. It is the known list the
	// next time.
	DeviceList
	// Bundles are of devices that were added or taken over, by device number. Drop the libsignal
	// session that there may be, and make another.
	Bundles []client.PreKeyBundle
	// Gone are devices that were removed: drop the libsignal sessions with them.
	Gone []uuid.UUID
	// Again are the ids of the submissions, shared ones too, that were for this user, each once and
	// in the order of the batch: encrypt what they carry again, for all devices of DeviceList. None
	// when the devices turn out to be those that are known.
	Again []uuid.UUID
}

// DeviceListOf returns what the bundles of all devices of a user tell of them.
func DeviceListOf(user uuid.UUID, bundles []client.PreKeyBundle) DeviceList {
	list := DeviceList{Audience: Audience{UserID: user}}
	for i := range bundles {
		b := &bundles[i]
		list.DevicesVersion = b.DevicesVersion
		list.Devices = append(list.Devices, listed(b.DeviceID, b.DeviceNumber, b.RegistrationID, b.IdentityKey))
	}
	return list
}

// Correct finds out what to do about a batch that Send refused with changed. For each audience that
// has other devices it fetches the list of them, and the bundles of those that known does not have
// with the same registration id and identity key; known are the devices with which the application
// has sessions, for each of these users. The device of this session is left out. A list is at least
// as new as the refusal; when devices change once more, the next Send says so.
//
// After an error call it again. Codes: rate_limited (30 fetches of bundles in 10
// minutes for a user).
func (s *Session) Correct(ctx context.Context, batch Batch, changed *DevicesChangedError,
	known ...DeviceList) (Correction, error) {
	return correct(batch, changed, known, func(k DeviceList) (DevicesChange, error) {
		return devicesChange(k, s.DeviceID(), func() (client.UserDevices, error) { return s.Devices(ctx, k.UserID) },
			func(devices []uuid.UUID) ([]client.PreKeyBundle, error) { return s.Bundles(ctx, k.UserID, devices...) })
	})
}

// correct takes a batch apart by what became of the devices that are known.
func correct(batch Batch, changed *DevicesChangedError, known []DeviceList,
	changeOf func(known DeviceList) (DevicesChange, error)) (Correction, error) {
	c := Correction{Rest: batch}
	c.Rest.Submissions, c.Rest.Shared = slices.Clip(batch.Submissions), slices.Clip(batch.Shared)
	for i := range changed.Lists {
		user := changed.Lists[i].UserID
		k := slices.IndexFunc(known, func(l DeviceList) bool { return l.UserID == user })
		if k < 0 {
			return Correction{}, errors.New("a user whose devices have changed is not among those that are known")
		}
		change, err := changeOf(known[k])
		if err != nil {
			return Correction{}, err
		}
		c.Rest.Audiences = audiencesNow(c.Rest.Audiences, change.Audience)
		if len(change.Bundles)+len(change.Gone) > 0 {
			c.Rest, change.Again = split(c.Rest, func(device uuid.UUID) bool {
				return find(known[k].Devices, device) != nil || find(change.Devices, device) != nil
			})
		}
		c.Changes = append(c.Changes, change)
	}
	return c, nil
}

// devicesChange compares the devices of a user with those that are known, and fetches bundles for
// the difference, except for the caller's own device.
func devicesChange(known DeviceList, own uuid.UUID, list func() (client.UserDevices, error),
	bundles func(devices []uuid.UUID) ([]client.PreKeyBundle, error)) (DevicesChange, error) {
	change := DevicesChange{DeviceList: DeviceList{Audience: Audience{UserID: known.UserID}}}
	now, err := list()
	if err != nil && !notFound(err) {
		return change, err
	}
	change.DevicesVersion = now.DevicesVersion
	var fresh []uuid.UUID
	for i := range now.Devices {
		n := &now.Devices[i]
		d := listed(n.DeviceID, n.DeviceNumber, n.RegistrationID, n.IdentityKey)
		change.Devices = append(change.Devices, d)
		if d.ID != own && !d.isKnown(find(known.Devices, d.ID)) {
			fresh = append(fresh, d.ID)
		}
	}
	for _, d := range known.Devices {
		if find(change.Devices, d.ID) == nil {
			change.Gone = append(change.Gone, d.ID)
		}
	}
	if len(fresh) > 0 {
		// Those of a device that has gone meanwhile are missing; the next Send says so.
		if change.Bundles, err = bundles(fresh); err != nil && !notFound(err) {
			return change, err
		}
	}
	return change, nil
}

func listed(id uuid.UUID, number, registration int32, identity []byte) ListedDevice {
	return ListedDevice{ID: id, Number: uint32(number), RegistrationID: uint32(registration), IdentityKey: identity} //nolint:gosec // small
}

// isKnown reports whether a device is still the one that is known.
func (d *ListedDevice) isKnown(known *ListedDevice) bool {
	return known != nil && known.RegistrationID == d.RegistrationID &&
		(known.IdentityKey == nil || bytes.Equal(known.IdentityKey, d.IdentityKey))
}

func find(devices []ListedDevice, id uuid.UUID) *ListedDevice {
	for i := range devices {
		if devices[i].ID == id {
			return &devices[i]
		}
	}
	return nil
}

func notFound(err error) bool {
	e := refusal(err)
	return e != nil && e.Status == http.StatusNotFound
}

// audiencesNow gives a user the version of now, or leaves out one who has no device.
func audiencesNow(audiences []Audience, now Audience) (result []Audience) {
	for _, a := range audiences {
		if a.UserID != now.UserID {
			result = append(result, a)
		} else if now.DevicesVersion > 0 {
			result = append(result, now)
		}
	}
	return result
}

// split takes the submissions for some devices out of a batch.
func split(b Batch, out func(device uuid.UUID) bool) (rest Batch, ids []uuid.UUID) {
	take := func(device, id uuid.UUID) bool {
		if !out(device) {
			return false
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
		return true
	}
	rest = Batch{Key: b.Key, Audiences: b.Audiences}
	for _, m := range b.Submissions {
		if !take(m.DeviceID, m.ID) {
			rest.Submissions = append(rest.Submissions, m)
		}
	}
	for _, shared := range b.Shared {
		left := SharedSubmission{Message: shared.Message, Quiet: shared.Quiet}
		for _, r := range shared.Recipients {
			if !take(r.DeviceID, r.ID) {
				left.Recipients = append(left.Recipients, r)
			}
		}
		if len(left.Recipients) > 0 {
			rest.Shared = append(rest.Shared, left)
		}
	}
	return rest, ids
}
