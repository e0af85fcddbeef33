// Package blob_test tests attachments and backups through a whole relay, on the wire and in the
// store.
package blob_test

import (
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestMain(m *testing.M) { relaytest.Main(m) }
