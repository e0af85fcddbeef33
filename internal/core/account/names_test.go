package account

import "testing"

func TestNamesAreFoldedInASCIIOnly(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"IRIS_x": "iris_x", "AZaz09_": "azaz09_", "@[`{": "@[`{", "İI": "İi", "K\u212A": "k\u212A",
	} {
		if got := foldName(name); got != want {
			t.Errorf("%q is folded to %q, want %q", name, got, want)
		}
	}
}

func TestPasswordsOfOneNormalFormAreOne(t *testing.T) {
	t.Parallel()
	h := newHasher(Cost{})
	hash, err := h.hash(t.Context(), "Zoe\u0308 caf\u00e9 \u1112\u1161\u11ab")
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]bool{
		"Zo\u00eb cafe\u0301 \ud55c":                true,
		"Zoe\u0308 caf\u00e9 \u1112\u1161\u11ab":    true,
		"Zoe caf\u00e9 \ud55c":                      false,
		"\uff3ao\u00eb caf\u00e9 \ud55c (not NFKC)": false,
	} {
		if ok, err := h.check(t.Context(), password, hash); ok != want || err != nil {
			t.Errorf("%+q: %v %v", password, ok, err)
		}
	}
}
