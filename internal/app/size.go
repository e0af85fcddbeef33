package app

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Size is a number of bytes, written "10GiB".
type Size int64

var units = []struct {
	name string
	size Size
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// UnmarshalText reads "10GiB".
func (s *Size) UnmarshalText(text []byte) error {
	for _, unit := range units {
		if digits, ok := strings.CutSuffix(string(text), unit.name); ok {
			n, err := strconv.ParseInt(digits, 10, 32)
			if err != nil || n < 0 {
				break
			}
			*s = Size(n) * unit.size
			return nil
		}
	}
	return errors.New("a size is written NUMBER and GiB, MiB, KiB or B, for example 10GiB")
}

// String writes the size as UnmarshalText reads it.
func (s Size) String() string {
	for _, unit := range units {
		if s%unit.size == 0 {
			return fmt.Sprintf("%d%s", s/unit.size, unit.name)
		}
	}
	return ""
}
