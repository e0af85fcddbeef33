package app

import (
	"os"
	"regexp"
	"testing"
	"time"
)

// A service that is killed while its database recovers would begin from the front, for ever.
func TestTheUnitWaitsForARecovery(t *testing.T) {
	t.Parallel()
	unit, err := os.ReadFile("../../deploy/debian/obscura.service")
	if err != nil {
		t.Fatal(err)
	}
	said := regexp.MustCompile(`(?m)^TimeoutStartSec=(\d+m)in$`).FindSubmatch(unit)
	if said == nil {
		t.Fatal("the unit has no TimeoutStartSec in minutes")
	}
	patience, err := time.ParseDuration(string(said[1]))
	if err != nil || patience < recoveryTimeout+startTimeout {
		t.Errorf("the unit waits %v, %v; a recovery may take %v", patience, err, recoveryTimeout)
	}
}
