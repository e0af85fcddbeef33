package storage

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/obscura-relay/obscura/schema"
)

func worker(group int) Worker { return Worker{group, fmt.Sprintf("worker%d", group), 5432} }

// ready is a cluster of so many workers on which nothing is distributed.
func ready(workers int) *Cluster {
	c := &Cluster{Schema: schema.Version, Buckets: 1, Citus: "13.2-1", Coordinator: true, OldKeys: []string{"messages"},
		ForeignKeys: []ForeignKey{{"push_tokens", "push_tokens_device_id_fkey"}}, Tables: map[string]Distributed{},
		Replication: "1", Asked: map[int]WorkerAnswer{}}
	for n := range workers {
		c.Workers = append(c.Workers, worker(n+1))
		c.Asked[n+1] = WorkerAnswer{Citus: c.Citus}
	}
	return c
}

// spread has everything distributed, with the buckets in shards of these groups.
func spread(c *Cluster, groups ...int) *Cluster {
	c.OldKeys, c.ForeignKeys, c.Buckets = nil, nil, len(groups)
	for _, t := range ofDevices {
		c.Tables[t.name] = Distributed{7, true}
	}
	for n, group := range groups {
		c.Places = append(c.Places, BucketPlace{int16(n), int64(n), worker(group)})
	}
	return c
}

func TestADistributionIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		change  func(c *Cluster)
		buckets int
		want    string
	}{
		{func(*Cluster) {}, 8, ""},
		{func(c *Cluster) { c.Citus = "" }, 8, "no extension citus"},
		{func(c *Cluster) { c.Citus = "12.1-1" }, 8, "Citus 12.1-1: put 13 or newer"},
		{func(c *Cluster) { c.Citus = "9.5-1" }, 8, "Citus 9.5-1"},
		{func(c *Cluster) { c.Citus = "next" }, 8, "Citus next"},
		{func(c *Cluster) { c.Citus = "14.0-1" }, 8, ""},
		{func(c *Cluster) { c.Coordinator = false }, 8, "this server is a worker"},
		{func(c *Cluster) { c.Pooled = true }, 8, "a pooler stands before the coordinator"},
		{func(c *Cluster) { c.Replication = "2" }, 8, "shard_replication_factor is 2: set it to 1"},
		{func(c *Cluster) { c.Replication = "" }, 8, "shard_replication_factor is not known"},
		{func(c *Cluster) { c.Asked[3] = WorkerAnswer{Citus: "13.1-1"} }, 8, "worker3:5432 has Citus 13.1-1, and the coordinator 13.2-1"},
		{func(c *Cluster) { c.Asked[3] = WorkerAnswer{} }, 8, "worker3:5432 has Citus not at all"},
		{func(c *Cluster) { c.Asked[3] = WorkerAnswer{Citus: "13.2-1", Pooled: true} }, 8, "a pooler stands before the worker worker3:5432"},
		{func(c *Cluster) { c.Asked[3] = WorkerAnswer{Unavailable: errNoCitus} }, 8, "worker3:5432 is unavailable: this database"},
		{func(c *Cluster) { c.Workers = nil }, 8, "no worker that takes data"},
		{func(c *Cluster) { c.Schema-- }, 8, "older than this binary"},
		{func(c *Cluster) { c.Schema++ }, 8, "newer than this binary"},
		{func(*Cluster) {}, 0, "--buckets must be from 1 to 1024"},
		{func(*Cluster) {}, -4, "--buckets must be from 1 to 1024"},
		{func(*Cluster) {}, 1028, "--buckets must be from 1 to 1024"},
		{func(*Cluster) {}, 1024, ""},
		{func(*Cluster) {}, 6, "a multiple of the workers, of which there are 4"},
		{func(c *Cluster) { c.Relays = 1 }, 8, "stop them first"},
		{func(c *Cluster) { c.Claims = true }, 8, "say --buckets=1"},
		{func(c *Cluster) { c.Claims, c.Buckets = true, 8 }, 8, ""},
		{func(c *Cluster) { spread(c, 1, 2, 3, 4) }, 4, ""},
		{func(c *Cluster) { spread(c, 1, 2, 3, 4) }, 8, "say --buckets=4"},
		{func(c *Cluster) { spread(c, 1, 2, 3, 4) }, 6, "say --buckets=4"},
		{func(c *Cluster) { spread(c, 1, 2, 3, 4) }, 0, "say --buckets=4"},
		{func(c *Cluster) { spread(c, 1, 2, 3, 4, 1, 2) }, 6, ""}, // a worker was added
		{func(c *Cluster) { spread(c, 1, 2, 3, 4, 1, 2) }, 8, "say --buckets=6"},
		{func(c *Cluster) { spread(c, 1, 2, 3, 4, 1, 2); delete(c.Tables, "gaps") }, 6, ""},
		{func(c *Cluster) { spread(c, 1, 2, 3, 4, 1, 2); clear(c.Tables) }, 6, "a multiple of the workers"},
		{func(c *Cluster) { spread(c, 1, 2, 3, 4, 1, 2); clear(c.Tables) }, 8, ""},
		{func(c *Cluster) { c.Claims, c.Buckets = true, 6 }, 6, ""},
		{func(c *Cluster) { c.Claims, c.Buckets = true, 6 }, 8, "say --buckets=6"},
		{func(c *Cluster) { c.Claims, c.Buckets = true, 6 }, 9, "a multiple of the workers"},
		{func(c *Cluster) { spread(c, 1, 2, 3, 4); c.Tables["gaps"] = Distributed{7, false} }, 4, "not together by their buckets"},
		{func(c *Cluster) { spread(c, 1, 2, 3, 4); c.Tables["gaps"] = Distributed{8, true} }, 4, "not together by their buckets"},
		{func(c *Cluster) { spread(c, 1, 2, 3, 4); delete(c.Tables, "buckets") }, 4, "not together by their buckets"},
	} {
		cluster := ready(4)
		c.change(cluster)
		for group, a := range cluster.Asked { // unless it is said otherwise, workers have what the coordinator has
			if a == (WorkerAnswer{Citus: "13.2-1"}) {
				cluster.Asked[group] = WorkerAnswer{Citus: cluster.Citus}
			}
		}
		if err := cluster.MayBegin(c.buckets, true); (err == nil) != (c.want == "") ||
			err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v into %d buckets: %v, want %q", cluster, c.buckets, err, c.want)
		}
	}
	if err := ready(4).MayBegin(8, false); !errors.Is(err, errTrial) {
		t.Error(err)
	}
}

func TestTheStepsAreWhatIsLeftToDo(t *testing.T) {
	t.Parallel()
	whole := ready(2).Steps(4)
	if len(whole) != 2+TablesOfDevices+1 || len(whole[0].sql) != 1+1+1+9+3 ||
		!strings.HasPrefix(whole[0].sql[0], "LOCK TABLE mailboxes, ") ||
		!strings.HasPrefix(whole[1].Does, "distribute the table buckets") {
		t.Errorf("from the beginning: %d steps, %q", len(whole), whole)
	}
	placed := spread(ready(2), 1, 2, 1, 2)
	if left := placed.Steps(4); len(left) != 0 {
		t.Errorf("when all is done: %v", left)
	}
	delete(placed.Tables, "gaps")
	placed.Copies = []string{"messages"}
	if left := placed.Steps(4); len(left) != 2 || left[0].Does != "distribute the table gaps" || len(left[1].sql) != 2 {
		t.Errorf("after a break: %v", left)
	}
	skewed := spread(ready(2), 1, 1, 1, 2).Steps(4)
	if len(skewed) != 1 || len(skewed[0].sql) != 1 || !strings.Contains(skewed[0].sql[0], "(0, 'worker1', 5432, 'worker2', 5432,") {
		t.Errorf("of uneven workers: %v", skewed)
	}
}

func TestBucketsMoveUntilNoMoveHelps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		workers int
		groups  []int // of shards
		shards  []int // of buckets
		moves   int
		want    []int // buckets of the workers
	}{
		{2, []int{1, 2}, []int{0, 0, 1, 1}, 0, []int{2, 2}},
		{2, []int{1, 1, 1, 1}, []int{0, 1, 2, 3}, 2, []int{2, 2}},
		{4, []int{1, 1, 1, 1}, []int{0, 1, 2, 3}, 3, []int{1, 1, 1, 1}},
		{2, []int{1}, []int{0, 0, 0, 0}, 0, []int{4, 0}}, // one shard has them all: moving it helps nobody
		{2, []int{1, 1}, []int{0, 0, 0, 1}, 1, []int{1, 3}},
		{3, []int{1, 1, 2, 3}, []int{0, 1, 2, 3, 0, 3}, 1, []int{2, 2, 2}},
		{2, []int{9, 9}, []int{0, 1}, 2, []int{1, 1}}, // a server that takes no data any more
	} {
		cluster := ready(c.workers)
		for bucket, shard := range c.shards {
			cluster.Places = append(cluster.Places, BucketPlace{int16(bucket), int64(shard), worker(c.groups[shard])})
		}
		moves := cluster.moves()
		for _, m := range moves {
			for i, p := range cluster.Places {
				if p.Shard == m.shard {
					cluster.Places[i].Worker = m.to
				}
			}
		}
		got := make([]int, c.workers)
		for _, p := range cluster.Places {
			got[p.Group-1]++
		}
		slices.Sort(got)
		slices.Sort(c.want)
		if len(moves) != c.moves || !slices.Equal(got, c.want) || len(cluster.moves()) != 0 {
			t.Errorf("%v of %v: %v, then %v", c.shards, c.groups, moves, got)
		}
	}
}
