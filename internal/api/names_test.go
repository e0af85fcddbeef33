package api

import "testing"

func TestABlankInANameIsFoundAndNoneElsewhere(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]bool{
		"": false, "Host: x\r\nX Foo: bar\r\n": true, "X Foo\r\n": true, "X-Foo: a b: c\r\n": false,
		"X-Foo: a\r\n b c: d\r\n\te f: g\r\n": false, // a value in three lines
	} {
		if got := blankInName([]byte(raw)); got != want {
			t.Errorf("%q: %t", raw, got)
		}
	}
}
