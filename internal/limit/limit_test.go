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
	for per, want := range map[time.Duration]string{time.Minute: "20/1m", 10 * time.Minute: "20/10m",
		24 * time.Hour:   "20/24h",
		90 * time.Second: "20/1m30s", 10 * time.Second: "20/10s", time.Hour + time.Second: "20/1h0m1s",
		70 * time.Minute: "20/1h10m"} {
		if got := (Rate{20, per}).String(); got != want {
			t.Errorf("String() = %s, want %s", got, want)
		}
	}
	for _, bad := range []string{"", "20", "0/1m", "-1/1m", "x/1m", "20/0s", "20/", "20/-1s"} {
		if err := r.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestABurstThenTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, r := range []Rate{{3, 3 * time.Second}, {7, 7*time.Second + 3}, {1, time.Second}} {
			l := New[string](r)
			for i := range r.Events {
				if wait := l.Take("a"); wait != 0 {
					t.Fatalf("%v: event %d must wait %v", r, i, wait)
				}
			}
			if wait := l.Take("a"); wait <= time.Second-10 || wait > time.Second {
				t.Errorf("%v: the next event waits %v, want 1s", r, wait)
			}
			if wait := l.Take("b"); wait != 0 {
				t.Errorf("%v: another key waits %v", r, wait)
			}
			<-time.After(time.Second) // fake time
			if wait := l.Take("a"); wait != 0 {
				t.Errorf("%v: after a second it still waits %v: a refused event was counted", r, wait)
			}
			if l.Take("a") == 0 {
				t.Errorf("%v: a second brought more than one event", r)
			}
			<-time.After(2 * r.Per) // fake time
			for i := range r.Events + 1 {
				if wait := l.Take("a"); (wait != 0) != (i == r.Events) {
					t.Errorf("%v: rest brought back %d events", r, i)
				}
			}
		}
	})
}

func TestAnEventThatIsGivenBackIsNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New[string](Rate{2, time.Hour})
		l.GiveBack("b") // never taken
		for range 10 {
			if l.Take("a") != 0 {
				t.Fatal("an event that was given back counts")
			}
			l.GiveBack("a")
		}
		if first, second, third := l.Take("a"), l.Take("a"), l.Take("a"); first != 0 || second != 0 || third == 0 {
			t.Error("giving back brought more than was taken")
		}
		if first, second, third := l.Take("b"), l.Take("b"), l.Take("b"); first != 0 || second != 0 || third == 0 {
			t.Error("giving back what was not taken counts")
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
		if n := len(l.rest); n != 1 {
			t.Errorf("%d keys are kept, want 1", n)
		}
	})
}

// An attacker with many addresses spends one, then floods with the others: the spent one stays
// spent, what others have counted stays too, and a new key is never refused.
func TestAFloodOfKeysForgetsNobodysEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New[int](Rate{20, time.Hour})
		const victims = 100
		for key := range victims {
			for range 20 {
				l.Take(-1 - key)
			}
		}
		for key := range 4 * maxKeys {
			if l.Take(key) != 0 {
				t.Fatal("the flood keeps out a new key")
			}
			if len(l.rest) > maxKeys {
				t.Fatalf("%d keys are kept, want at most %d", len(l.rest), maxKeys)
			}
		}
		for key := range victims {
			if l.Take(-1-key) == 0 {
				t.Error("the flood brought back a spent key's events")
			}
		}
	})
}

func BenchmarkTake(b *testing.B) {
	for name, keys := range map[string]int{"one": 1, "thousand": 1000, "flood": 1 << 22} {
		b.Run(name, func(b *testing.B) {
			l := New[[32]byte](Rate{1 << 40, time.Hour})
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				n := i % keys
				l.Take([32]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
			}
		})
	}
}
