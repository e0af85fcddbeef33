// Package push_test tests push tokens and wake-ups of a whole relay, with push services of its
// own.
package push_test

import (
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestMain(m *testing.M) { relaytest.Main(m) }
