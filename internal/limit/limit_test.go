package limit

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestRateText(t *testing.T) {
	var r Rate
	if err := r.UnmarshalText([]byte("20/1m")); err != nil || r != (Rate{20, time.Minute}) {
		t.Errorf("20/1m = %v, %v", r, err)
	}
	if r.String() != "20/1m0s" {
		t.Errorf("String() = %s", r)
	}
	for _, bad := range []string{"", "20", "0/1m", "-1/1m", "x/1m", "20/0s", "20/", "20/-1s"} {
		if err := r.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestABurstThenTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New[string](Rate{3, 3 * time.Second})
		for i := range 3 {
			if wait := l.Take("a"); wait != 0 {
				t.Fatalf("event %d must wait %v", i, wait)
			}
		}
		if wait := l.Take("a"); wait <= 0 || wait > time.Second {
			t.Errorf("the fourth event waits %v, want up to 1s", wait)
		}
		if wait := l.Take("b"); wait != 0 {
			t.Errorf("another key waits %v", wait)
		}
		<-time.After(time.Second) // fake time
		if wait := l.Take("a"); wait != 0 {
			t.Errorf("after a second it still waits %v: a refused event was counted", wait)
		}
	})
}

func TestKeysAtRestAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New[int](Rate{1, time.Second})
		for i := range 1000 {
			l.Take(i)
		}
		<-time.After(2 * time.Minute) // fake time
		l.Take(-1)
		l.Sweep()
		if n := len(l.buckets); n != 1 {
			t.Errorf("%d keys are kept, want 1", n)
		}
	})
}

func TestKeysAreBounded(t *testing.T) {
	l := New[int](Rate{1, time.Hour})
	for i := range MaxKeys + 10 {
		l.Take(i)
	}
	if n := len(l.buckets); n > MaxKeys {
		t.Errorf("%d keys are kept, want at most %d", n, MaxKeys)
	}
}

func TestANilLimiterAllows(t *testing.T) {
	var l *Limiter[string]
	if l.Take("a") != 0 {
		t.Error("a nil limiter refused")
	}
}
