package admin

import (
	"context"
	"fmt"
	"strings"

	"github.com/obscura-relay/obscura/internal/storage"
)

// OfCluster marks the commands that also take a database on which a distribution has ended
// half-way.
type OfCluster interface{ distributes() }

type ofCluster struct{}

func (ofCluster) distributes() {}

// ClusterStatus says which bucket is on which worker of a Citus cluster.
type ClusterStatus struct{ ofCluster }

type workerStatus struct {
	Worker  string `json:"worker"`
	Buckets int    `json:"buckets"`
	Bytes   *int64 `json:"bytes"` // nil: it did not answer
}

// Do implements Command.
func (ClusterStatus) Do(ctx context.Context, db *storage.DB) (any, error) {
	c, err := db.ReadCluster(ctx, 0)
	if err == nil {
		err = c.Looked()
	}
	if err != nil {
		return nil, err
	}
	status := struct {
		Citus       string `json:"citus"`
		Buckets     int    `json:"buckets"`
		Distributed string `json:"distributedTables"`
		// Fullest is what the fullest worker has of what it should have.
		Fullest string         `json:"fullest"`
		Workers []workerStatus `json:"workers"`
	}{c.Citus, c.Buckets, fmt.Sprintf("%d of %d", len(c.Tables), storage.TablesOfDevices), "-", []workerStatus{}}
	var sum, most int64
	for _, w := range c.Workers {
		one := workerStatus{Worker: w.String()}
		for _, p := range c.Places {
			if p.Group == w.Group {
				one.Buckets++
			}
		}
		if a := c.Asked[w.Group]; a.Unavailable == nil {
			one.Bytes = &a.Bytes
			sum, most = sum+a.Bytes, max(most, a.Bytes)
		}
		status.Workers = append(status.Workers, one)
	}
	if why := c.Unavailable(); why != nil {
		return nil, &Partial{status, why}
	}
	if sum > 0 {
		status.Fullest = fmt.Sprintf("%d %%", most*100*int64(len(c.Workers))/sum)
	}
	return status, nil
}

// intoBuckets are the arguments of what distributes.
type intoBuckets struct {
	Buckets int `env:"-" required:"" placeholder:"N" help:"Into how many buckets: a multiple of the workers, four for each or more, at most 1024. The number stays."`
}

type clusterPlan struct {
	Steps    []step   `json:"steps"`
	InTheWay []reason `json:"inTheWay"`
}

type step struct {
	Step string `json:"step"`
}

type reason struct {
	Reason string `json:"reason"`
}

// ClusterPlan says what ClusterDistribute would do.
type ClusterPlan struct {
	ofCluster
	intoBuckets
}

// Do implements Command.
func (p ClusterPlan) Do(ctx context.Context, db *storage.DB) (any, error) {
	c, err := db.ReadCluster(ctx, storage.Patience)
	if err == nil {
		err = c.Possible(p.Buckets)
	}
	if err != nil {
		return nil, err
	}
	plan := clusterPlan{[]step{}, []reason{}}
	for _, s := range c.Steps(p.Buckets) {
		plan.Steps = append(plan.Steps, step{s.Does})
	}
	for _, r := range c.InTheWay(p.Buckets, false) {
		plan.InTheWay = append(plan.InTheWay, reason{r.Error()})
	}
	return plan, nil
}

// ClusterDistribute spreads the tables of devices over the workers.
type ClusterDistribute struct {
	ofCluster
	intoBuckets
	Trial bool `env:"-" help:"Say that the database may be lost. Without it nothing is done."`
}

// Do implements Command.
func (p ClusterDistribute) Do(ctx context.Context, db *storage.DB) (any, error) {
	done, err := db.Distribute(ctx, p.Buckets, p.Trial)
	answer := struct {
		Done []step `json:"done"`
	}{[]step{}}
	for _, s := range done {
		answer.Done = append(answer.Done, step{s.Does})
	}
	if err != nil && len(done) > 0 { // an answer goes with no error
		var steps []string
		for _, s := range done {
			steps = append(steps, s.Does)
		}
		err = fmt.Errorf("%w\ndone before: %s", err, strings.Join(steps, "; "))
	}
	return answer, err
}
