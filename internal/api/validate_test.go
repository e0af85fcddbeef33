package api

import "testing"

func TestHalvesOfUTF16PairsAreFound(t *testing.T) {
	for body, want := range map[string]bool{
		`"plain"`: false, `"\ud83d\ude00"`: false, `"\\ud83d"`: false, `"\\\ud83d"`: true, `"\u00e9\n\\"`: false,
		`"\ud83d"`: true, `"\ud83dx\ude00"`: true, `"\ude00"`: true, `"\ude00\ud83d"`: true,
		`"\ud83d\ud83d\ude00"`: true, `"\ud8`: false,
		`"\ud83d\n"`: true,
	} {
		if got := loneSurrogate([]byte(body)); got != want {
			t.Errorf("%s: %v", body, got)
		}
	}
}
