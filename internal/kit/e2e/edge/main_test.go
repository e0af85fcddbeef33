// Package edge_test tests what surrounds every request to a whole relay: errors, bodies, limits,
// timeouts, proxies, CORS, the documents, and databases as people have them.
package edge_test

import (
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestMain(m *testing.M) { relaytest.Main(m) }
