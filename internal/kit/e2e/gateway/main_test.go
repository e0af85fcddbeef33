// Package gateway_test tests the sockets of a whole relay: who may open one, what comes on it,
// and how it ends.
package gateway_test

import (
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestMain(m *testing.M) { relaytest.Main(m) }
