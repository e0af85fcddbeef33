package api

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// part is what is sent of a blob.
type part struct {
	offset, length int64
	partial        bool
}

// parseRange chooses what a Range header asks for of size bytes (RFC 9110, 14.1.2), and reports
// false when it asks for nothing that there is. Several ranges, other units and what is malformed
// mean the whole.
func parseRange(header string, size int64) (part, bool) {
	whole := part{length: size}
	unit, spec, _ := strings.Cut(header, "=")
	first, last, found := strings.Cut(spec, "-")
	if !strings.EqualFold(unit, "bytes") || !found {
		return whole, true
	}
	from, fromOK := position(first)
	to, toOK := position(last)
	switch {
	case first == "" && toOK: // the last bytes
		length := min(to, size)
		return part{offset: size - length, length: length, partial: true}, length > 0
	case fromOK && last == "":
		to = math.MaxInt64 - 1
	case !fromOK || !toOK || from > to:
		return whole, true
	}
	if from >= size {
		return part{}, false
	}
	return part{offset: from, length: min(to, size-1) - from + 1, partial: true}, true
}

// position reads digits. What is larger than any blob is just that.
func position(digits string) (int64, bool) {
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		n = math.MaxInt64 - 1
	}
	return n, true
}

// contentRange is the header that goes with a part of size bytes.
func (p part) contentRange(size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", p.offset, p.offset+p.length-1, size)
}
