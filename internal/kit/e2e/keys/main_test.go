// Package keys_test tests the keys of a whole relay: uploads, bundles, the inventory and
// takeovers.
package keys_test

import (
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestMain(m *testing.M) { relaytest.Main(m) }
