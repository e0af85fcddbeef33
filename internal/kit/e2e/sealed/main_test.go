// Package sealed_test tests sending and fetching without saying who does it: delivery tokens, what
// they open and what not, and that the relay keeps nothing of the sender.
package sealed_test

import (
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestMain(m *testing.M) { relaytest.Main(m) }
