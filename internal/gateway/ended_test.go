package gateway

import (
	"context"
	"testing"
	"time"
)

// A client that leaves while its socket asks the database does not cost the database a connection:
// a question that is broken off ends the connection that it was put on.
func TestASocketThatEndsBreaksNoQuestionOff(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		asked, answer := make(chan struct{}), make(chan struct{})
		b.meet(func(ctx context.Context, what string) error {
			if what == "sessions" {
				close(asked)
				select {
				case <-answer:
				case <-ctx.Done():
					t.Error("the question was broken off")
				}
			}
			return nil
		})
		f, _, done := b.connect(t, 0, accepted{})
		<-asked
		close(f.in) // the client leaves
		<-time.After(time.Second)
		close(answer)
		<-done
	})
}
