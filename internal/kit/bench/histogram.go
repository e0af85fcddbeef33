package bench

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// A histogram counts durations in buckets that are at most 1.6 % wide: 64 for every power of two of
// nanoseconds. Recording is one atomic addition, from any goroutine.
type histogram struct {
	counts [buckets]atomic.Uint64
}

const (
	subBits = 6
	subs    = 1 << subBits
	// The last bucket holds everything above four minutes.
	buckets = (38 - subBits + 1) * subs
)

// bucketOf is the index of a duration's bucket. Durations below 64 ns have one each.
func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < subs {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return min((shift+1)*subs+int(v>>shift)-subs, buckets-1)
}

// upper is the largest duration of a bucket.
func upper(bucket int) time.Duration {
	if bucket < subs {
		return time.Duration(bucket)
	}
	shift := bucket/subs - 1
	return time.Duration((bucket%subs+subs+1)<<shift - 1)
}

func (h *histogram) record(d time.Duration) { h.counts[bucketOf(d)].Add(1) }

// counts is a histogram at one instant.
type counts [buckets]uint64

func (h *histogram) read() *counts {
	c := new(counts)
	for i := range c {
		c[i] = h.counts[i].Load()
	}
	return c
}

// since is what was recorded after an earlier reading.
func (c *counts) since(earlier *counts) *counts {
	d := new(counts)
	for i := range d {
		d[i] = c[i] - earlier[i]
	}
	return d
}

func (c *counts) total() (n uint64) {
	for _, k := range c {
		n += k
	}
	return n
}

// quantile is a duration that the share q of all does not exceed; 0 when there are none.
func (c *counts) quantile(q float64) time.Duration {
	total := c.total()
	rank := max(uint64(q*float64(total)+0.5), 1)
	for i, k := range c {
		if k >= rank {
			return upper(i)
		}
		rank -= k
	}
	return 0
}

// Percentiles are those of a latency, in milliseconds.
type Percentiles struct {
	P50  float64 `json:"p50"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
}

func (c *counts) percentiles() Percentiles {
	ms := func(q float64) float64 { return round(float64(c.quantile(q)) / 1e6) }
	return Percentiles{P50: ms(.5), P95: ms(.95), P99: ms(.99), P999: ms(.999)}
}
