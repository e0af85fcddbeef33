package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/obscura-relay/obscura/internal/limit"
)

// Reserves are what is kept for those who have the most need of it.
type Reserves struct {
	ReserveDisk   Size `default:"1GiB" placeholder:"SIZE" help:"Free disk that is kept, in the folders of the private PostgreSQL and of the blobs. With less, new accounts are refused (503 overloaded); with half of it log-ins too, with a quarter new devices and uploads, with an eighth messages. Acknowledgements and deletions always go on. 0B: the disk is not looked at."`
	ReserveMemory Size `default:"128MiB" placeholder:"SIZE" help:"Free memory that is kept. The least of three counts: of the machine, of the cgroup (version 2), of GOMEMLIMIT. Requests are refused in the same order. 0B: memory is not looked at."`
	ReserveQueues int  `default:"50" placeholder:"PERCENT" help:"Free part of two queues that is kept. Messages to store: new accounts, log-ins and uploads are refused in the same order, messages when it is full. Passwords to hash: new accounts are refused, so that log-ins have room. 0: queues are not looked at."`
}

const (
	// pressureEvery is how often the relay looks what is left. A fast disk takes 100 MB meanwhile,
	// with the log of the database.
	pressureEvery = time.Second / 4
	// pressurePatience is how long it waits for a disk.
	pressurePatience = time.Second
	// pressureCalm is for how long a level must have been lower before it falls.
	pressureCalm = 10 * time.Second
)

// Disk says how many bytes of the disk that a folder is on are free.
type Disk func(folder string) (free float64, err error)

// WithDisk has the relay ask for free disk elsewhere.
func WithDisk(d Disk) Option { return func(r *relay) { r.disk = d } }

func freeDisk(folder string) (float64, error) {
	var at unix.Statfs_t
	err := unix.Statfs(folder, &at)
	return float64(at.Bavail) * float64(at.Bsize), err
}

// resource is something that can run short. The goroutine of watchPressure owns what changes.
type resource struct {
	name    string
	queue   bool // what is free is a part of 1, and of others bytes
	reserve float64
	most    limit.Pressure
	measure func() (free float64, err error)

	level  limit.Pressure
	high   time.Time        // when the level was last as high as it is
	broken bool             // it could not be measured when it was looked at last
	answer chan measurement // of a measurement under way
}

type measurement struct {
	free float64
	err  error
}

// pressure is what the relay runs short of.
type pressure struct {
	now       atomic.Int32 // the highest level
	resources []*resource
}

// Level is what has to give way.
func (p *pressure) Level() limit.Pressure { return limit.Pressure(p.now.Load()) }

// resources are those of this relay, by the names that the metrics and the log give them.
func (r *relay) resources(cfg Config) []*resource {
	var all []*resource
	disk := func(name, folder string) {
		if folder != "" {
			all = append(all, &resource{name: name, reserve: float64(cfg.ReserveDisk), most: limit.RefuseSends,
				measure: func() (float64, error) { return r.disk(folder) }})
		}
	}
	if r.db.cluster != nil {
		disk("disk_of_database", cfg.DataDir)
	}
	disk("disk_of_blobs", r.store.Folder())
	queue := func(name string, most limit.Pressure, full func() float64) {
		all = append(all, &resource{name: name, queue: true, reserve: float64(cfg.ReserveQueues) / 100, most: most,
			measure: func() (float64, error) { return 1 - full(), nil }})
	}
	queue("queue_of_sends", limit.RefuseUploads, r.mailbox.FullSends)
	queue("queue_of_passwords", limit.RefuseAccounts, r.accounts.FullHashing)
	all = append(all, &resource{name: "memory", reserve: float64(cfg.ReserveMemory), most: limit.RefuseSends,
		measure: freeMemory})
	return slices.DeleteFunc(all, func(q *resource) bool { return q.reserve == 0 })
}

// watchPressure looks again and again what is left.
func (r *relay) watchPressure(ctx context.Context) error {
	look := func() {
		highest := limit.NoPressure
		for _, q := range r.pressure.resources {
			r.look(ctx, q)
			highest = max(highest, q.level)
		}
		r.pressure.now.Store(int32(highest))
	}
	look()
	return every(ctx, pressureEvery, look)
}

// look raises a level at once, and lets it fall when it has been lower for a while. One that cannot
// be measured stays.
func (r *relay) look(ctx context.Context, q *resource) {
	free, err := q.ask(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		if !q.broken {
			r.logger.Warn("could not find out how much is free; what is refused stays as it is", "component", "pressure",
				"resource", q.name, "error", err)
		}
		q.broken = true
		return
	}
	q.broken = false
	r.metrics.Free(q.name, free)
	level, now := limit.PressureOf(free, q.reserve, q.most), time.Now()
	if level >= q.level {
		q.high = now
	}
	switch {
	case level > q.level:
		r.logger.Warn("something runs short; new accounts are refused first, then log-ins, then uploads, then sends",
			"component", "pressure", "resource", q.name, "free", q.text(free), "refused", level.String())
		q.level = level
	case level < q.level && now.Sub(q.high) >= pressureCalm:
		r.logger.Info("there is room again", "component", "pressure", "resource", q.name, "free", q.text(free),
			"refused", level.String())
		q.level, q.high = level, now
	}
	r.metrics.Pressure(q.name, int(q.level))
}

// text is how much is free, with its unit.
func (q *resource) text(free float64) string {
	if q.queue {
		return fmt.Sprintf("%.0f%%", 100*free)
	}
	return fmt.Sprintf("%.0fMiB", free/(1<<20))
}

var errSlow = errors.New("no answer within a second")

// ask measures in a goroutine of its own: a disk may hang, and is then not asked a second time.
func (q *resource) ask(ctx context.Context) (float64, error) {
	if q.answer == nil {
		answer := make(chan measurement, 1)
		q.answer = answer
		go func() {
			free, err := q.measure()
			answer <- measurement{free, err}
		}()
	}
	select {
	case got := <-q.answer:
		q.answer = nil
		return got.free, got.err
	case <-time.After(pressurePatience):
		return 0, errSlow
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
