package bench

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestABucketIsAtMostOnePointSixPercentWide(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(4*time.Minute)).Draw(t, "duration"))
		top := upper(bucketOf(d))
		if top < d || float64(top-d) > 0.016*float64(d) {
			t.Fatalf("%d lies in the bucket up to %d", d, top)
		}
		if bucketOf(top) != bucketOf(d) || bucketOf(top+1) != bucketOf(d)+1 {
			t.Fatalf("the bucket of %d does not end at %d", d, top)
		}
	})
}

func TestAQuantileIsThatOfTheSortedDurations(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		durations := rapid.SliceOfN(rapid.Int64Range(0, int64(time.Minute)), 1, 2000).Draw(t, "durations")
		var h histogram
		for _, d := range durations {
			h.record(time.Duration(d))
		}
		slices.Sort(durations)
		for _, q := range []float64{0, .5, .95, .99, .999, 1} {
			rank := max(int(q*float64(len(durations))+0.5), 1)
			exact := durations[rank-1]
			if got := int64(h.read().quantile(q)); got < exact || float64(got-exact) > 0.016*float64(exact) {
				t.Fatalf("quantile %v is %d, want %d", q, got, exact)
			}
		}
	})
}

func TestAHistogramTakesWhatIsOutOfItsRange(t *testing.T) {
	t.Parallel()
	var h histogram
	h.record(-time.Second)
	h.record(1000 * time.Hour)
	if c := h.read(); c[0] != 1 || c[buckets-1] != 1 || c.total() != 2 {
		t.Errorf("%d below, %d above, %d in all", c[0], c[buckets-1], c.total())
	}
	if q := new(counts).quantile(.99); q != 0 {
		t.Errorf("a quantile of nothing is %v", q)
	}
}

func TestAReadingSinceAnotherHoldsTheDifference(t *testing.T) {
	t.Parallel()
	var h histogram
	h.record(time.Second)
	before := h.read()
	h.record(time.Millisecond)
	if d := h.read().since(before); d.total() != 1 || d.quantile(1) > 2*time.Millisecond {
		t.Errorf("%d in all, the largest %v", d.total(), d.quantile(1))
	}
}
