package admin

import (
	"bytes"
	"testing"
)

// What a user has named a device does nothing to the terminal of whoever looks at it, and makes no
// line of the table.
func TestANameDoesNothingToATerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	type row struct {
		Name string `json:"name"`
	}
	if err := Print(&out, false, []row{{"\x1b[31mred\nline 2\t\u202e\a"}, {"Zoë's telephone"}, {""}}); err != nil {
		t.Fatal(err)
	}
	want := "NAME\n" + `"\x1b[31mred\nline 2\t\u202e\a"` + "\nZoë's telephone\n-\n"
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}
