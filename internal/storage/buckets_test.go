package storage_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/storage"
)

func deviceAt(first, second byte) core.DeviceID { return core.DeviceID{0: first, 1: second, 15: 1} }

func TestABucketFollowsFromTheFirstTwoBytes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n      storage.Buckets
		device core.DeviceID
		want   int16
	}{
		{1, uuid.Max, 0}, {3, deviceAt(0, 5), 2}, {3, deviceAt(1, 0), 1}, {32767, deviceAt(0xff, 0xff), 1},
		{32767, deviceAt(0x7f, 0xfe), 32766},
	} {
		if got := c.n.Bucket(c.device); got != c.want {
			t.Errorf("of %d buckets %v has %d, want %d", c.n, c.device, got, c.want)
		}
	}
}

func TestDevicesAreDividedInTheOrderOfBuckets(t *testing.T) {
	t.Parallel()
	devices := []core.DeviceID{deviceAt(0, 1), deviceAt(0, 2), deviceAt(0, 3), deviceAt(0, 4)}
	for n, want := range map[storage.Buckets][]core.DeviceID{
		1: devices, 3: {devices[2], devices[0], devices[3], devices[1]},
	} {
		var got []core.DeviceID
		last := int16(-1)
		for bucket, some := range n.Divide(devices) {
			for _, device := range some {
				if bucket <= last || n.Bucket(device) != bucket {
					t.Errorf("%v is given as one of bucket %d, after %d", device, bucket, last)
				}
			}
			got, last = append(got, some...), bucket
		}
		if !slices.Equal(got, want) {
			t.Errorf("of %d buckets: %v, want %v", n, got, want)
		}
	}
	for range storage.Buckets(1).Divide(nil) {
		t.Error("there is a bucket without a device")
	}
}

func TestTheNumberOfBucketsIsThatOfTheDatabase(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	d := open(t, url)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a bucket was given before their number was known")
			}
		}()
		d.Buckets().Bucket(uuid.New())
	}()
	testdb.Exec(t, url, "INSERT INTO buckets VALUES (100), (101)")
	before := d.CheckSchema(t.Context())
	n := d.Buckets()
	testdb.Exec(t, url, "DELETE FROM buckets")
	if err := d.CheckSchema(t.Context()); before != nil || n < 3 || err == nil {
		t.Errorf("%d buckets, %v; of none: %v", n, before, err)
	}
}

// Anybody may write a comment on a table.
func TestCommentsOnTheTableOfBuckets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		comment, refused string
	}{
		{"one row per bucket", ""},
		{"4", ""},
		{"obscura cluster distribute: 1", ""},
		{"obscura cluster distribute: 4", `the table buckets has 1 rows, and its comment says "obscura cluster distribute: 4"`},
	} {
		url := testdb.NewDivided(t, 1)
		testdb.Exec(t, url, "COMMENT ON TABLE buckets IS '"+c.comment+"'")
		d := open(t, url)
		err := d.CheckSchema(t.Context())
		if c.refused != "" {
			if err == nil || !strings.HasPrefix(err.Error(), c.refused) {
				t.Errorf("%s: %v", c.comment, err)
			}
			continue
		}
		d.Pool().Reset()
		if err = errors.Join(err, d.Ready(t.Context())); err != nil {
			t.Errorf("%s: %v", c.comment, err)
		}
	}
}
