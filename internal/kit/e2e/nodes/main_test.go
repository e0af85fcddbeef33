// Package nodes_test tests several relays on one database: notices, revocations, restarts.
package nodes_test

import (
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestMain(m *testing.M) { relaytest.Main(m) }
