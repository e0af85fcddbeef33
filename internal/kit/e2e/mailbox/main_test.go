// Package mailbox_test tests mail through a whole relay: batches, order, expiry, the cap, gaps,
// and that the books balance.
package mailbox_test

import (
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestMain(m *testing.M) { relaytest.Main(m) }
