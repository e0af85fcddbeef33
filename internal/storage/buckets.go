package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
)

// Buckets is into how many buckets everything that is kept for devices is divided: 1, unless the
// database has more rows in buckets. All that is kept for a device lies in one, and each statement
// names it. Whoever locks rows of several devices does so in the order of buckets, and in each in
// that of the devices.
type Buckets int32

// Bucket is the one of a device.
func (n Buckets) Bucket(device core.DeviceID) int16 {
	return int16(int32(binary.BigEndian.Uint16(device[:])) % int32(n.known())) //nolint:gosec // below n
}

// known is n. What is done without knowing it would be done in the wrong buckets, or in none.
func (n Buckets) known() Buckets {
	if n == 0 {
		panic("storage: CheckSchema, which learns how many buckets there are, has not been called")
	}
	return n
}

// Place is a device with its bucket, as a statement about one device takes them.
type Place struct {
	Bucket   int16
	DeviceID core.DeviceID
}

// Place adds the bucket to a device.
func (n Buckets) Place(device core.DeviceID) Place { return Place{n.Bucket(device), device} }

// AllBuckets are their numbers, in order.
func (n Buckets) AllBuckets() iter.Seq[int16] {
	return func(yield func(int16) bool) {
		for bucket := range int16(n.known()) { //nolint:gosec // see LearnBuckets
			if !yield(bucket) {
				return
			}
		}
	}
}

// Divide are the devices of each bucket that has any, in the order of buckets; those of one bucket
// stay in the order in which they are.
func (n Buckets) Divide(devices []core.DeviceID) iter.Seq2[int16, []core.DeviceID] {
	return func(yield func(int16, []core.DeviceID) bool) {
		if n.known() == 1 {
			if len(devices) > 0 {
				yield(0, devices)
			}
			return
		}
		parts := map[int16][]core.DeviceID{}
		for _, device := range devices {
			bucket := n.Bucket(device)
			parts[bucket] = append(parts[bucket], device)
		}
		for _, bucket := range slices.Sorted(maps.Keys(parts)) {
			if !yield(bucket, parts[bucket]) {
				return
			}
		}
	}
}

// Tx is where statements run: a transaction, or a connection on which each is a transaction of its
// own. It knows the buckets of its database.
type Tx struct {
	db.DBTX
	Buckets
}

// LearnBuckets asks the database how many buckets there are.
func (d *DB) LearnBuckets(ctx context.Context) error {
	n, err := Queries.CountBuckets(ctx, d.pool)
	if err == nil && (n < 1 || n > math.MaxInt16) {
		err = fmt.Errorf("the table buckets has %d rows: it must have one for each bucket, from 0 on", n)
	}
	var row db.AdmitSessionRow
	if err == nil {
		row, err = Queries.AdmitSession(ctx, d.pool, LockDistribution)
	}
	if err == nil && otherwiseDivided(row.Divided, Buckets(n)) { //nolint:gosec // looked at above
		err = fmt.Errorf("the table buckets has %d rows, and its comment says %q: rows of other tables may lie in buckets "+
			"that are not there. Restore schema and data from one backup", n, row.Divided)
	}
	if err == nil {
		d.buckets.Store(int32(n)) //nolint:gosec // looked at above
		d.divide(Buckets(n))      //nolint:gosec // looked at above
	}
	return Redact(err)
}

// Buckets are those of the database, once CheckSchema has learned them.
func (d *DB) Buckets() Buckets { return Buckets(d.buckets.Load()) }

// errDistributes is why a session does not begin.
var errDistributes = errors.New("obscura cluster distribute is at work on this database: wait until it has ended")

// admitWithin bounds the question by which a session begins.
const admitWithin = 5 * time.Second

// admit refuses a new session while the database is being distributed, and after what is kept for
// devices was divided into other buckets than those that are known: a relay that was cut off from
// the database meanwhile would look for mail where it is not.
func (d *DB) admit(ctx context.Context, conn *pgx.Conn) error {
	row, err := askAdmission(ctx, conn)
	if err != nil {
		return err
	}
	if n := d.Buckets(); n > 0 && otherwiseDivided(row.Divided, n) {
		return core.Busy(fmt.Errorf("this process knows another number of buckets, %d, than the database has since obscura "+
			"cluster distribute: start it again", n))
	}
	return nil
}

// Admit refuses a session outside of the pools while the database is being distributed.
func Admit(ctx context.Context, conn *pgx.Conn) error {
	_, err := askAdmission(ctx, conn)
	return err
}

// askAdmission asks for a lock that is held for one statement only, so a pooler that gives each
// transaction another session does no harm. The command that takes the lock looks for sessions
// afterwards, and sees those that were admitted right before.
func askAdmission(ctx context.Context, conn *pgx.Conn) (db.AdmitSessionRow, error) {
	ctx, cancel := context.WithTimeout(ctx, admitWithin)
	defer cancel()
	row, err := Queries.AdmitSession(ctx, conn, LockDistribution)
	if err == nil && !row.Free {
		err = core.Busy(errDistributes)
	}
	return row, err
}

// dividedBy stands before the number of buckets in the comment on their table.
const dividedBy = "obscura cluster distribute: "

// otherwiseDivided tells whether a comment names another number of buckets. Comments that somebody
// else wrote name none.
func otherwiseDivided(comment string, n Buckets) bool {
	number, ours := strings.CutPrefix(comment, dividedBy)
	return ours && number != strconv.Itoa(int(n))
}
