package app

import (
	"errors"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/obscura-relay/obscura/internal/limit"
	"github.com/obscura-relay/obscura/internal/metrics"
)

// A level rises at once, falls after ten seconds, and stays while nobody knows.
func TestPressureFallsWhenItHasBeenCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &relay{metrics: metrics.New(), logger: slog.New(slog.DiscardHandler)}
		free, err, hangs := 100.0, error(nil), chan struct{}(nil)
		var measured atomic.Int32
		q := &resource{name: "thing", reserve: 50, most: limit.RefuseSends, measure: func() (float64, error) {
			measured.Add(1)
			if hangs != nil {
				<-hangs
			}
			return free, err
		}}
		begun := time.Now()
		after := func(d time.Duration, want limit.Pressure) {
			t.Helper()
			for end := time.Now().Add(d); time.Now().Before(end); {
				time.Sleep(time.Second) // fake time
				r.look(t.Context(), q)
			}
			if q.level != want {
				t.Errorf("after %s: %s, want %s", time.Since(begun), q.level, want)
			}
		}
		after(time.Second, limit.NoPressure)
		free = 30
		after(time.Second, limit.RefuseAccounts)
		free = 1
		after(time.Second, limit.RefuseSends)
		free = 40
		after(9*time.Second, limit.RefuseSends)
		free = 1 // calm was too short
		after(time.Second, limit.RefuseSends)
		free = 40
		after(9*time.Second, limit.RefuseSends)
		after(time.Second, limit.RefuseAccounts)
		err = errors.New("away")
		free = 100
		after(time.Minute, limit.RefuseAccounts)
		err = nil
		measured.Store(0)
		hangs = make(chan struct{})
		after(time.Minute, limit.RefuseAccounts)
		if measured.Load() != 1 {
			t.Errorf("a disk that hangs was asked %d times", measured.Load())
		}
		close(hangs)
		synctest.Wait()
		hangs = nil
		after(2*time.Second, limit.NoPressure)
	})
}

func TestMemoryOfACgroupIsTheLeastOfThoseAbove(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text + "\n")} }
	root := fstest.MapFS{
		"system.slice/memory.max":                     file("1000"),
		"system.slice/memory.current":                 file("900"),
		"system.slice/memory.stat":                    file("anon 300\nfile 600\ninactive_file 200\nactive_file 100\nslab_reclaimable 7"),
		"system.slice/obscura.service/memory.max":     file("max"),
		"system.slice/obscura.service/memory.current": file("800"),
		"system.slice/obscura.service/memory.stat":    file("anon 800"),
	}
	if free := freeOfCgroup(root, "/system.slice/obscura.service"); free != 1000-900+200+100+7 {
		t.Errorf("%v", free)
	}
	root["system.slice/obscura.service/memory.max"] = file("810")
	if free := freeOfCgroup(root, "/system.slice/obscura.service"); free != 10 {
		t.Errorf("%v", free)
	}
	for _, elsewhere := range []string{"/", "/user.slice", "/../.."} {
		if free := freeOfCgroup(root, elsewhere); !math.IsInf(free, 1) {
			t.Errorf("%s: %v", elsewhere, free)
		}
	}
}

func TestMemoryOfGoDoesNotCountGarbage(t *testing.T) {
	const most = 1 << 30
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.GC()
	before := freeOfGo(most)
	runtime.KeepAlive(make([]byte, 64<<20)) // garbage from here on
	if lost := before - freeOfGo(most); lost > 32<<20 {
		t.Errorf("garbage counts %v", lost)
	}
	kept := make([]byte, 64<<20)
	kept[len(kept)-1] = 1
	runtime.GC()
	if lost := before - freeOfGo(most); lost < 56<<20 {
		t.Errorf("what is in use counts %v", lost)
	}
	runtime.KeepAlive(kept)
	if !math.IsInf(freeOfGo(math.MaxInt64), 1) {
		t.Error("no limit is one")
	}
	if free, err := freeMemory(); err != nil || free <= 0 || math.IsInf(free, 1) {
		t.Errorf("this machine: %v %v", free, err)
	}
}
