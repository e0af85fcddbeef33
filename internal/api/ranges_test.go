package api

import (
	"testing"

	"pgregory.net/rapid"
)

// TestAPartIsAlwaysWithinTheWhole tries what internal/kit/e2e/blob asks for a real attachment, and
// anything else.
func TestAPartIsAlwaysWithinTheWhole(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 1<<40).Draw(t, "size")
		header := rapid.StringMatching(`(bytes|BYTES|lines)?=?[0-9]{0,25}-?[0-9]{0,25}[,x -]?`).Draw(t, "header")
		p, ok := parseRange(header, size)
		if !ok {
			return
		}
		if p.offset < 0 || p.length < 1 || p.offset+p.length > size || !p.partial && p.length != size {
			t.Fatalf("%q of %d bytes: %+v", header, size, p)
		}
	})
}
