package storage

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/obscura-relay/obscura/schema"
)

// What a cluster needs.
const (
	oldestCitus = 13
	mostBuckets = 1024
	// shardsABucket is how many shards there are for each bucket. Citus hashes buckets into shards,
	// and those of one shard stay together: with more shards fewer have to.
	shardsABucket = 4
)

// Why nothing is done.
var (
	errNoCitus = fmt.Errorf("this database has no extension citus: put Citus %d or newer on all its servers, "+
		"with shared_preload_libraries = 'citus', and say CREATE EXTENSION citus in it", oldestCitus)
	errWorker    = errors.New("this server is a worker: name the database of the coordinator by --database-url")
	errPooler    = errors.New("a pooler stands before the coordinator: name PostgreSQL itself by --database-url")
	errNoWorkers = errors.New("the cluster has no worker that takes data: add some by citus_add_node")
	errNewSchema = errors.New("the database schema is newer than this binary: use the one that brought it there")
	errOtherwise = errors.New("tables of devices are distributed, and not together by their buckets: " +
		"that was not done by this command, which goes no further")
	errRelayRuns = errors.New("relays, or other commands, are connected to this database: stop them first")
	errTrial     = errors.New("this command has never been run on Citus, and no relay of this version can run " +
		"on what it makes: say --trial for a database that may be lost")
)

// Cluster is what is known of a database that may be one of several servers. Of what Citus knows
// there is nothing without it.
type Cluster struct {
	Schema  int64
	Buckets int
	// Claims reports receipts of batches that were stored in parts. A part is found by the number
	// of its bucket.
	Claims bool
	// ForeignKeys are those of tables of devices.
	ForeignKeys []ForeignKey
	// Misplaced reports rows in another bucket than their device's. It is looked for when the first
	// step was done and the second not: a relay that knew only the old number may have stored them.
	Misplaced bool
	// OldKeys are the tables of devices whose primary key lacks the bucket.
	OldKeys []string
	// Relays counts sessions of relays, and of commands other than this one.
	Relays int

	// Citus is its version, such as 13.2-1.
	Citus       string
	Coordinator bool
	// Pooled reports a pooler before the coordinator.
	Pooled bool
	// Replication is how many copies of each shard a new table gets.
	Replication string
	// Workers are the servers that take data.
	Workers []Worker
	// Asked has what each worker says, by its group. While one is unavailable Buckets is what
	// the shards tell, and Claims is not known.
	Asked map[int]WorkerAnswer
	// Tables has what each distributed table of devices is distributed with.
	Tables map[string]Distributed
	// Places has where each bucket is, once there is such a table.
	Places []BucketPlace
	// Copies are the distributed tables of which the coordinator still has the rows that were there
	// before.
	Copies []string
}

// ForeignKey is one of a table.
type ForeignKey struct{ Table, Name string }

// Worker is a server that takes data.
type Worker struct {
	Group int
	Name  string
	Port  int
}

// String is where it listens.
func (w Worker) String() string { return net.JoinHostPort(w.Name, strconv.Itoa(w.Port)) }

// Distributed says how a table is: two of one Together lie together.
type Distributed struct {
	Together int
	ByBucket bool
}

// BucketPlace says where a bucket is: in a shard, which a worker has.
type BucketPlace struct {
	Bucket int16
	Shard  int64
	Worker
}

// ClusterStep is one thing to do, in one transaction.
type ClusterStep struct {
	Does string
	sql  []string
}

// ofDevices are the tables that have buckets, the one that the others are put beside first: the
// column of the device, and the primary key that they have on one server.
var ofDevices = [TablesOfDevices]struct{ name, device, key string }{
	{"buckets", "", "bucket"},
	{"mailboxes", "device_id", "device_id"},
	{"messages", "device_id", "device_id, seq"},
	{"gaps", "device_id", "device_id, from_seq"},
	{"receipts", "sender_device_id", "sender_device_id, key, slot"},
	{"pre_key_stocks", "device_id", "device_id"},
	{"ec_pre_keys", "device_id", "device_id, key_id"},
	{"kyber_pre_keys", "device_id", "device_id, key_id"},
	{"push_tokens", "device_id", "device_id"},
	{"push_wakeups", "device_id", "device_id"},
}

// TablesOfDevices is how many there are, buckets itself among them.
const TablesOfDevices = 10

// tablesOfDevices are their names.
func tablesOfDevices() (names []string) {
	for _, t := range ofDevices {
		names = append(names, t.name)
	}
	return names
}

// Looked refuses a database that is no cluster, or that this binary cannot look at as one.
func (c *Cluster) Looked() error {
	switch major, _, _ := strings.Cut(c.Citus, "."); {
	case c.Citus == "":
		return errNoCitus
	case !atLeast(major, oldestCitus):
		return fmt.Errorf("this database has Citus %s: put %d or newer on all servers, and say "+
			"ALTER EXTENSION citus UPDATE", c.Citus, oldestCitus)
	case !c.Coordinator:
		return errWorker
	case len(c.Workers) == 0:
		return errNoWorkers
	case c.Schema < schema.Version:
		return errOldSchema
	case c.Schema > schema.Version:
		return errNewSchema
	}
	return nil
}

// Unavailable names the workers that are, each with the reason.
func (c *Cluster) Unavailable() error {
	var all []string
	for _, w := range c.Workers {
		if why := c.Asked[w.Group].Unavailable; why != nil {
			all = append(all, fmt.Sprintf("the worker %s is unavailable: %v", w, why))
		}
	}
	if len(all) == 0 {
		return nil
	}
	return errors.New(strings.Join(all, "; "))
}

// ready refuses a cluster whose servers are not as they must be.
func (c *Cluster) ready() error {
	if err := c.Unavailable(); err != nil {
		return err
	}
	for _, w := range c.Workers {
		switch a := c.Asked[w.Group]; {
		case a.Citus != c.Citus:
			return fmt.Errorf("the worker %s has Citus %s, and the coordinator %s: put one version on all servers, and say "+
				"ALTER EXTENSION citus UPDATE on each", w, cmp.Or(a.Citus, "not at all"), c.Citus)
		case a.Pooled:
			return fmt.Errorf("a pooler stands before the worker %s: name PostgreSQL itself to Citus, by citus_update_node", w)
		}
	}
	switch {
	case c.Pooled:
		return errPooler
	case c.Replication != "1":
		return fmt.Errorf("citus.shard_replication_factor is %s: set it to 1 on the coordinator; copies are made by "+
			"standbys of the workers", cmp.Or(c.Replication, "not known"))
	}
	return nil
}

func atLeast(number string, least int) bool {
	n, err := strconv.Atoi(number)
	return err == nil && n >= least
}

// Possible refuses a number of buckets that this cluster cannot have. One that stays is held to
// nothing: a worker that was added meanwhile would leave none that is right.
func (c *Cluster) Possible(buckets int) error {
	workers := len(c.Workers)
	switch {
	case c.Looked() != nil:
		return c.Looked()
	case c.ready() != nil:
		return c.ready()
	case len(c.Tables) > 0 && buckets != c.Buckets:
		return fmt.Errorf("tables are distributed into %d buckets already, and that number stays: say --buckets=%[1]d",
			c.Buckets)
	case len(c.Tables) > 0 || c.Claims && buckets == c.Buckets:
	case buckets < 1 || buckets > mostBuckets:
		return fmt.Errorf("--buckets must be from 1 to %d", mostBuckets)
	case buckets%workers != 0:
		return fmt.Errorf("--buckets must be a multiple of the workers, of which there are %d, "+
			"so that each gets as many", workers)
	}
	anchor := c.Tables["buckets"]
	for _, table := range c.Tables {
		if !table.ByBucket || table.Together != anchor.Together {
			return errOtherwise
		}
	}
	return nil
}

// InTheWay are the reasons for which a possible distribution may not begin now.
func (c *Cluster) InTheWay(buckets int, trial bool) (reasons []error) {
	if c.Relays > 0 {
		reasons = append(reasons, errRelayRuns)
	}
	if c.Claims && buckets != c.Buckets {
		reasons = append(reasons, fmt.Errorf("batches that were stored in parts are remembered by today's buckets, "+
			"and would be stored again when they are repeated: say --buckets=%d", c.Buckets))
	}
	if !trial {
		reasons = append(reasons, errTrial)
	}
	return reasons
}

// MayBegin is the first reason for which a distribution may not begin now.
func (c *Cluster) MayBegin(buckets int, trial bool) error {
	if err := c.Possible(buckets); err != nil {
		return err
	}
	for _, reason := range c.InTheWay(buckets, trial) {
		return reason
	}
	return nil
}

// Steps are what is left to do, in this order. Any of them can be the last one that was done; when
// nothing is left there are none. Where the buckets go is known once they are distributed.
func (c *Cluster) Steps(buckets int) (steps []ClusterStep) {
	if divide := c.divide(buckets); len(divide) > 0 {
		steps = append(steps, ClusterStep{
			fmt.Sprintf("divide what is kept for devices into %d buckets, and take the bucket into its keys", buckets),
			divide})
	}
	for _, t := range ofDevices {
		if _, is := c.Tables[t.name]; is {
			continue
		}
		how := fmt.Sprintf("colocate_with => 'none', shard_count => %d", shardsABucket*buckets)
		if t.name != "buckets" {
			how = "colocate_with => 'buckets'"
		}
		steps = append(steps, ClusterStep{"distribute the table " + t.name,
			[]string{fmt.Sprintf("SELECT create_distributed_table('%s', 'bucket', %s)", t.name, how)}})
	}
	if c.Places == nil {
		steps = append(steps, ClusterStep{
			fmt.Sprintf("move buckets until each of %d workers has %d, or as nearly as their shards allow", len(c.Workers),
				buckets/len(c.Workers)), nil})
	}
	for _, m := range c.moves() {
		steps = append(steps, ClusterStep{
			fmt.Sprintf("move %d buckets from %s to %s", m.buckets, m.from, m.to),
			[]string{fmt.Sprintf("SELECT citus_move_shard_placement(%d, %s, %d, %s, %d, shard_transfer_mode => 'block_writes')",
				m.shard, quote(m.from.Name), m.from.Port, quote(m.to.Name), m.to.Port)}})
	}
	var remove []string
	for _, t := range ofDevices {
		if _, is := c.Tables[t.name]; !is || slices.Contains(c.Copies, t.name) {
			remove = append(remove, "SELECT truncate_local_data_after_distributing_table('"+t.name+"')")
		}
	}
	if len(remove) > 0 {
		steps = append(steps, ClusterStep{"remove from the coordinator the rows that were copied", remove})
	}
	return steps
}

// divide is done at once or not at all: a relay that runs before the next step finds everything.
// All tables are locked before any is read. So nothing is stored between, and every row is put
// where it belongs.
func (c *Cluster) divide(buckets int) (sql []string) {
	if c.Buckets == buckets && !c.Misplaced && len(c.ForeignKeys) == 0 && len(c.OldKeys) == 0 {
		return nil
	}
	free := len(c.Tables) == 0
	if free {
		sql = append(sql, "LOCK TABLE "+strings.Join(tablesOfDevices()[1:], ", ")+" IN ACCESS EXCLUSIVE MODE")
	}
	for _, key := range c.ForeignKeys {
		sql = append(sql, fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s", name(key.Table), name(key.Name)))
	}
	for _, t := range ofDevices[1:] {
		if free {
			sql = append(sql, fmt.Sprintf("UPDATE %s SET bucket = %s WHERE bucket <> %[2]s", t.name, rightBucket(t.device, buckets)))
		}
		if slices.Contains(c.OldKeys, t.name) {
			sql = append(sql, fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %[1]s_pkey, ADD CONSTRAINT %[1]s_pkey "+
				"PRIMARY KEY (%s, bucket)", t.name, t.key))
		}
	}
	sql = append(sql, fmt.Sprintf("COMMENT ON TABLE buckets IS '%s%d'", dividedBy, buckets)) // see admit
	if c.Buckets != buckets {
		sql = append(sql, fmt.Sprintf("DELETE FROM buckets WHERE bucket >= %d", buckets),
			fmt.Sprintf("INSERT INTO buckets SELECT generate_series(0, %d) ON CONFLICT DO NOTHING", buckets-1))
	}
	return sql
}

// rightBucket is the one of the device that a column names: see Buckets.Bucket.
func rightBucket(column string, buckets int) string {
	return fmt.Sprintf("((get_byte(uuid_send(%s), 0) * 256 + get_byte(uuid_send(%[1]s), 1)) %% %d)", column, buckets)
}

// anyMisplaced asks whether a row lies in another bucket than its device's.
func anyMisplaced(buckets int) string {
	var some []string
	for _, t := range ofDevices[1:] {
		some = append(some, fmt.Sprintf("EXISTS (SELECT FROM %s WHERE bucket <> %s)", t.name, rightBucket(t.device, buckets)))
	}
	return "SELECT " + strings.Join(some, " OR ")
}

type move struct {
	shard    int64
	buckets  int
	from, to Worker
}

// moves bring the workers nearer to having as many buckets each, one shard at a time: the one that
// helps most goes to the worker that has least. They end when no move helps. The buckets of a shard
// go together.
func (c *Cluster) moves() (all []move) {
	buckets, home, has := map[int64]int{}, map[int64]Worker{}, map[int]int{}
	for _, p := range c.Places {
		buckets[p.Shard]++
		home[p.Shard] = p.Worker
		has[p.Group]++
	}
	shards := slices.Sorted(maps.Keys(home))
	for {
		least := slices.MinFunc(c.Workers, func(a, b Worker) int {
			return cmp.Or(cmp.Compare(has[a.Group], has[b.Group]), cmp.Compare(a.Group, b.Group))
		})
		best, gain := int64(0), 0
		for _, shard := range shards {
			n := buckets[shard]
			helps := n * (has[home[shard].Group] - has[least.Group] - n)
			if !slices.Contains(c.Workers, home[shard]) { // it takes no data any more
				helps = math.MaxInt
			}
			if helps > gain {
				best, gain = shard, helps
			}
		}
		if gain == 0 {
			return all
		}
		all = append(all, move{best, buckets[best], home[best], least})
		has[home[best].Group] -= buckets[best]
		has[least.Group] += buckets[best]
		home[best] = least
	}
}

func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

func name(text string) string { return `"` + strings.ReplaceAll(text, `"`, `""`) + `"` }
