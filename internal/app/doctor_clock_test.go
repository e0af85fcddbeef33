package app

import (
	"testing"
	"time"
)

func TestDoctorTellsClocksApart(t *testing.T) {
	t.Parallel()
	for ahead, want := range map[time.Duration]State{0: StateOK, 3 * time.Second: StateWarning,
		-time.Minute: StateProblem} {
		var d doctor
		if d.clock(ahead); d.found[0].State != want {
			t.Errorf("%v ahead: %+v", ahead, d.found[0])
		}
	}
}
