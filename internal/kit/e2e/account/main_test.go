// Package account_test tests accounts of a whole relay: names, passwords, sessions, tokens,
// devices and the export.
package account_test

import (
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestMain(m *testing.M) { relaytest.Main(m) }
