package bench

import (
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// Children come and go while the time of the family is read: what one has used is never missing.
func TestTheTimeOfAFamilyNeverFalls(t *testing.T) {
	t.Parallel()
	const least, rounding = 200 * time.Millisecond, 5 * clockTick
	const busy = "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done" // about a tenth of a second
	stop := make(chan struct{})
	var having sync.WaitGroup
	for range 4 {
		having.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := exec.CommandContext(t.Context(), "sh", "-c", busy).Run(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	last := familyCPU(os.Getpid())
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		now := familyCPU(os.Getpid())
		if now < last-rounding {
			t.Errorf("from %s to %s", last, now)
		}
		last = now
	}
	close(stop)
	having.Wait()
	if last < least {
		t.Errorf("the children have taken %s: nothing was tested", last)
	}
}
