package gateway

import (
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

// Every goroutine that a session started must have ended when the tests have.
func TestMain(m *testing.M) { testdb.Main(m) }
