package limit

import "testing"

func TestPressureRisesByHalves(t *testing.T) {
	for free, want := range map[float64]string{2000: "none", 1000: "none", 999: "accounts", 500: "accounts",
		499: "log-ins", 249: "uploads", 125: "uploads", 124: "sends", 0: "sends", -1: "sends"} {
		if got := PressureOf(free, 1000, RefuseSends).String(); got != want {
			t.Errorf("with %v of 1000 free: %s, want %s", free, got, want)
		}
	}
	if got := PressureOf(0, 1000, RefuseLogIns); got != RefuseLogIns {
		t.Errorf("a resource that may refuse log-ins at most refuses %s", got)
	}
	if got := PressureOf(-1, 0, RefuseSends); got != RefuseSends {
		t.Errorf("%s", got)
	}
}
