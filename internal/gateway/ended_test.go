package gateway

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
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

// A client that acknowledges and leaves at once: the write that fails may come before its
// acknowledgement has been read.
func TestAnAcknowledgementBeforeTheEndIsTaken(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		b.fill(1, 1)
		f, _, done := b.connect(t, 10, accepted{opened: mailbox.Opened{Last: 1}})
		opening(t, f)
		ack := ackOfNext(t, f)
		f.mu.Lock()
		f.left = true
		f.mu.Unlock()
		b.session().kick(doStatus)
		synctest.Wait() // the write has failed
		select {
		case f.in <- written{kind: binaryMessage, data: ack}:
			close(f.in)
		case <-done:
		}
		<-done
		if b.mu.Lock(); !b.acked[1] {
			t.Error("it was lost")
		}
		b.mu.Unlock()
	})
}

// Whose write fails is waited for a moment only, whatever else it sends.
func TestABrokenSocketEnds(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		f, _, done := b.connect(t, 10, accepted{})
		opening(t, f)
		f.mu.Lock()
		f.left = true
		f.mu.Unlock()
		b.session().kick(doStatus)
		begun := time.Now()
		for sending := true; sending; {
			select {
			case f.in <- written{kind: pongMessage}:
				time.Sleep(100 * time.Millisecond) // fake time
			case <-done:
				sending = false
			}
		}
		if took := time.Since(begun); took > goodbye {
			t.Errorf("it took %s", took)
		}
	})
}

// A session ends while a frame is on its way to a slow reader, so that the close has to wait: what
// the socket acknowledges from then on is not taken.
func TestAnEndedSessionAcknowledgesNothing(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		b.fill(1, 1)
		f, bob, done := b.connect(t, 0, accepted{opened: mailbox.Opened{Last: 1}})
		opening(t, f)
		ack := ackOfNext(t, f)
		synctest.Wait() // the pump is writing the end of the backlog
		b.Deliver(core.Notice{Kind: core.NoticeEnded, IDs: []uuid.UUID{bob.Session}})
		f.in <- written{kind: binaryMessage, data: ack}
		synctest.Wait()
		if b.mu.Lock(); b.acked[1] {
			t.Error("it was taken")
		}
		b.mu.Unlock()
		for f.next().kind != closeMessage {
		}
		close(f.in)
		<-done
	})
}

// Neither a close nor the end of a socket waits for a question that the database does not answer.
func TestACloseDoesNotWaitForTheDatabase(t *testing.T) {
	t.Parallel()
	for what, todo := range map[string]steps{"keys": doStatus, "read": doMail, "gaps": doGaps, "sessions": doVerify} {
		for _, leaves := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, the client leaves: %t", what, leaves), func(t *testing.T) {
				inFakeTime(t, func(t *testing.T, b *fakeBox) {
					f, bob, done := b.connect(t, 10, accepted{})
					drained(t, f)
					b.meet(hanging)
					b.session().kick(todo)
					synctest.Wait()
					if b.times(what) == 0 {
						t.Fatal("it does not ask")
					}
					begun := time.Now()
					if leaves {
						close(f.in)
					} else {
						b.Deliver(core.Notice{Kind: core.NoticeEnded, IDs: []uuid.UUID{bob.Session}})
						closedWith(t, f, closeRevoked)
					}
					<-done
					if took := time.Since(begun); took > 0 {
						t.Errorf("it took %s", took)
					}
				})
			})
		}
	}
}

// ackOfNext makes the acknowledgement of the next frame, which has one envelope.
func ackOfNext(t *testing.T, f *fakeSocket) []byte {
	t.Helper()
	mail := f.next().frame(t).GetEnvelopeBatch().GetEnvelopes()
	if len(mail) != 1 {
		t.Fatalf("%d envelopes", len(mail))
	}
	ack, err := proto.Marshal(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Ack{
		Ack: &obscurapb.AckMessage{MessageIds: [][]byte{mail[0].GetId()}}}})
	if err != nil {
		t.Fatal(err)
	}
	return ack
}
