package bench

import (
	"context"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// usage is what the processes have consumed at one instant. What cannot be seen is zero.
type usage struct {
	at                         time.Time
	relay, database, generator time.Duration // CPU time
	wal                        float64       // bytes
	hasWAL                     bool
	settled                    float64 // acknowledged envelopes that the relay has deleted
	hasSettled                 bool
}

func (t *target) usage(ctx context.Context) usage {
	u := usage{at: time.Now(), generator: ownCPU()}
	u.wal, u.hasWAL = t.wal(ctx)
	m := t.scrape()
	u.settled, u.hasSettled = m["obscura_envelopes_acknowledged_total"]
	u.relay = time.Duration(m["process_cpu_seconds_total"] * float64(time.Second))
	if pid := t.pid(); pid != 0 {
		u.relay = familyCPU(pid)
	}
	if t.dbPID != 0 {
		u.database = familyCPU(t.dbPID)
	}
	return u
}

// Cost is what a scenario consumed. A figure is absent when it could not be seen.
type Cost struct {
	RelayCPU     *float64 `json:"relay_cpu_seconds,omitempty"`
	DatabaseCPU  *float64 `json:"database_cpu_seconds,omitempty"`
	GeneratorCPU float64  `json:"generator_cpu_seconds"`
	// GeneratorShare is the load's part of all the CPU time that was spent, 0 to 1.
	GeneratorShare *float64 `json:"generator_cpu_share,omitempty"`
	// CPUPerThousand is CPU time of the relay for a thousand operations, in seconds.
	CPUPerThousand *float64 `json:"relay_cpu_seconds_per_thousand,omitempty"`
	// DatabasePerThousand is that of PostgreSQL.
	DatabasePerThousand *float64 `json:"database_cpu_seconds_per_thousand,omitempty"`
	// RelayPeak is the relay's largest resident memory, in bytes.
	RelayPeak *int64 `json:"relay_peak_bytes,omitempty"`
	// WALPerOperation is bytes of PostgreSQL's log for one operation.
	WALPerOperation *float64 `json:"wal_bytes_per_message,omitempty"`
	CPUs            int      `json:"cpus"`
}

// cost compares two instants between which so many operations were done.
func (t *target) cost(from, to usage, operations int64) Cost {
	c := Cost{GeneratorCPU: round((to.generator - from.generator).Seconds()), CPUs: runtime.NumCPU()}
	per := func(seconds float64) *float64 {
		return ptr(round(seconds / float64(max(operations, 1)) * 1000))
	}
	if relay := (to.relay - from.relay).Seconds(); to.relay > 0 {
		c.RelayCPU, c.CPUPerThousand = ptr(round(relay)), per(relay)
	}
	if database := (to.database - from.database).Seconds(); to.database > 0 {
		c.DatabaseCPU, c.DatabasePerThousand = ptr(round(database)), per(database)
	}
	if c.RelayCPU != nil && c.DatabaseCPU != nil {
		c.GeneratorShare = ptr(round(c.GeneratorCPU / max(c.GeneratorCPU+*c.RelayCPU+*c.DatabaseCPU, 1e-9)))
	}
	if from.hasWAL && to.hasWAL {
		c.WALPerOperation = ptr(round((to.wal - from.wal) / float64(max(operations, 1))))
	}
	if pid := t.pid(); pid != 0 {
		c.RelayPeak = ptr(memory(pid, "VmHWM"))
	}
	return c
}

// cpu is CPU time of relay and database for one operation, in microseconds; 0 when one is not
// known.
func (c Cost) cpu() float64 {
	if c.CPUPerThousand == nil || c.DatabasePerThousand == nil {
		return 0
	}
	return (*c.CPUPerThousand + *c.DatabasePerThousand) * 1000 // seconds a thousand
}

// resident is the relay's resident memory now, in bytes; 0 when it cannot be seen.
func (t *target) resident() int64 {
	if pid := t.pid(); pid != 0 {
		return memory(pid, "VmRSS")
	}
	return int64(t.scrape()["process_resident_memory_bytes"])
}

// scrape reads the relay's metrics that have no labels; nil when they cannot be seen.
func (t *target) scrape() map[string]float64 {
	if t.metrics == "" {
		return nil
	}
	management, err := newAPI(strings.TrimSuffix(t.metrics, "/metrics"), 1)
	if err != nil {
		return nil
	}
	defer management.close()
	values := map[string]float64{}
	err = management.do("GET", "/metrics", "", "", nil, func(body []byte) error {
		for _, line := range strings.Split(string(body), "\n") {
			name, value, ok := strings.Cut(line, " ")
			if !ok || strings.HasPrefix(line, "#") {
				continue
			}
			if v, err := strconv.ParseFloat(value, 64); err == nil {
				values[name] = v
			}
		}
		return nil
	})
	if err != nil {
		return nil
	}
	return values
}

// value is 0 for what is not known.
func value(p *float64) float64 {
	if p == nil {
		return 0
	}
	return *p
}

func ptr[T any](v T) *T { return &v }

// round keeps three decimals: more would be noise.
func round(v float64) float64 {
	s, err := strconv.ParseFloat(strconv.FormatFloat(v, 'f', 3, 64), 64)
	if err != nil {
		return v
	}
	return s
}
