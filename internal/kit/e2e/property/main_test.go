// Package property_test tests every operation of the contract with requests that are drawn from
// its schemas.
package property_test

import (
	"flag"
	"strconv"
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestMain(m *testing.M) {
	// A property costs a request a step: few, unless the environment or the command line asks for
	// more.
	_ = flag.Set("rapid.checks", strconv.FormatInt(e2e.FromEnvironment("OBSCURA_TEST_STEPS", 6), 10))
	relaytest.Main(m)
}
