package core_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/obscura-relay/obscura/internal/core"
)

func TestAnErrorIsKnownByItsCodeAndKeepsItsCause(t *testing.T) {
	t.Parallel()
	err := core.NewError(core.Conflict, "taken", "It is taken.")
	wrapped := fmt.Errorf("context: %w", err)
	if !errors.Is(wrapped, core.NewError(core.Conflict, "taken", "Other words.")) ||
		core.KindOf(wrapped) != core.Conflict {
		t.Error("a wrapped error is not known")
	}
	if errors.Is(wrapped, core.NewError(core.Conflict, "other", "It is taken.")) ||
		errors.Is(wrapped, core.NewError(core.Invalid, "taken", "It is taken.")) {
		t.Error("errors of another code or kind are taken for the same")
	}
	cause := errors.New("the cause")
	busy := core.Busy(cause)
	if core.KindOf(busy) != core.Unavailable || !errors.Is(busy, cause) || busy.RetryAfter <= 0 ||
		strings.Contains(busy.Sentence, "the cause") {
		t.Errorf("%+v", busy)
	}
	if core.KindOf(cause) != 0 || core.KindOf(nil) != 0 {
		t.Error("an error without a kind has one")
	}
}
