package gateway

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
)

// opening reads what a session says first.
func opening(t *testing.T, f *fakeSocket) {
	t.Helper()
	status := f.next().frame(t).GetPreKeyStatus()
	if status.GetOneTimePreKeyCount() != 7 || status.GetKyberPreKeyCount() != 3 ||
		status.GetMinThreshold() != core.LowPreKeys {
		t.Errorf("status %v", status)
	}
}

// drained reads what a session says first when there is no mail.
func drained(t *testing.T, f *fakeSocket) {
	t.Helper()
	opening(t, f)
	if f.next().frame(t).GetDrained() == nil {
		t.Error("not drained")
	}
}

func TestThePingComesEvery30SecondsAndAnAnswerKeepsTheSocket(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		f, begin := newFake(t, 0), time.Now()
		done := f.start(b.Gateway, accepted{})
		drained(t, f)
		for i := range 20 {
			w := f.next()
			if want := time.Duration(i+1) * 30 * time.Second; w.kind != pingMessage || w.at.Sub(begin) != want {
				t.Fatalf("kind %d after %s, want a ping after %s", w.kind, w.at.Sub(begin), want)
			}
			if i%2 == 1 { // an answer in the last moment counts
				time.Sleep(10*time.Second - time.Millisecond) // fake time
			}
			if err := f.pong(""); err != nil {
				t.Fatal(err)
			}
		}
		close(f.in)
		<-done
	})
}

func TestWithoutAnAnswerTheSocketEndsAfter10Seconds(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		f, begin := newFake(t, 0), time.Now()
		done := f.start(b.Gateway, accepted{})
		drained(t, f)
		if w := f.next(); w.kind != pingMessage {
			t.Fatalf("kind %d", w.kind)
		}
		<-done
		if took := time.Since(begin); took != 40*time.Second {
			t.Errorf("it ended after %s", took)
		}
	})
}

// A client that is heard is there: its pong may be behind much else.
func TestAnyFrameIsASignOfLife(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		f, begin := newFake(t, 100), time.Now()
		done := f.start(b.Gateway, accepted{})
		frame := written{kind: binaryMessage, data: []byte{11<<3 | 2, 0}}
		for range 60 {
			select {
			case f.in <- frame:
				time.Sleep(9 * time.Second) // fake time
			case <-done:
				t.Fatalf("it ended after %s", time.Since(begin))
			}
		}
		<-done
		if took := time.Since(begin) - 59*9*time.Second; took > pingEvery+pongWithin {
			t.Errorf("it ended %s after the last frame", took)
		}
	})
}

func TestAReaderThatIsNotHeardEndsAfter40Seconds(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		f, begin := newFake(t, 0), time.Now() // reads nothing
		<-f.start(b.Gateway, accepted{})
		if took := time.Since(begin); took != pingEvery+pongWithin {
			t.Errorf("it ended after %s", took)
		}
	})
}

func TestACloseThatIsNotAnsweredEndsAfterASecond(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		f := newFake(t, 0)
		done := f.start(b.Gateway, accepted{})
		drained(t, f)
		begin := time.Now()
		f.in <- written{kind: 1, data: []byte("text")}
		w := f.next()
		if w.kind != closeMessage || string(w.data) != string(closePayload(closePolicy)) {
			t.Errorf("kind %d, %x", w.kind, w.data)
		}
		// What comes after the close is not looked at.
		f.in <- written{kind: 1, data: []byte("more")}
		<-done
		if took := time.Since(begin); took != goodbye {
			t.Errorf("it ended after %s", took)
		}
	})
}

func TestShutdownSaysGoingAwayAndCutsOffWhoIsStuck(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		polite, stuck, begin := newFake(t, 0), newFake(t, 0), time.Now()
		done, cut := polite.start(b.Gateway, accepted{}), stuck.start(b.Gateway, accepted{})
		drained(t, polite)
		synctest.Wait()
		go func() {
			if w := polite.next(); w.kind != closeMessage || string(w.data) != string(closePayload(closeGoingAway)) {
				t.Errorf("kind %d, %x", w.kind, w.data)
			}
			close(polite.in)
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		b.Shutdown(ctx)
		<-done
		<-cut
		if took := time.Since(begin); took != goodbye {
			t.Errorf("it took %s", took)
		}
		late := newFake(t, 1)
		<-late.start(b.Gateway, accepted{})
		if w := late.next(); w.kind != closeMessage {
			t.Errorf("a socket that came late heard kind %d", w.kind)
		}
	})
}

// The library gives the connection to another client as soon as the handler returns: a writer that
// is stuck when the client leaves must have ended by then, and without waiting for its deadline.
func TestTheHandlerReturnsWhenNobodyWritesAnyMore(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		f, begin := newFake(t, 0), time.Now()
		done := f.start(b.Gateway, accepted{})
		synctest.Wait() // the pump is writing, and nobody reads
		close(f.in)
		<-done
		f.mu.Lock()
		writing := f.writing
		f.mu.Unlock()
		if writing {
			t.Error("somebody still writes")
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestBytesWithoutNumberWaitForTheNextSecond(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		f, begin := newFake(t, 0), time.Now()
		done := f.start(b.Gateway, accepted{})
		drained(t, f)
		synctest.Wait() // the session counts
		const part = 6  // an empty frame, masked
		for range 2*maxBytesPerSecond/part + 1 {
			f.metered(part)
		}
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("2 MiB and a few bytes were taken in %s", took)
		}
		close(f.in)
		<-done
	})
}

func TestFramesWithoutNumberWaitForTheNextSecond(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		f, begin := newFake(t, 0), time.Now()
		done := f.start(b.Gateway, accepted{})
		drained(t, f)
		const many = 3*maxFramesPerSecond + 1
		ack, err := proto.Marshal(&obscurapb.WebSocketFrame{
			Payload: &obscurapb.WebSocketFrame_Ack{Ack: &obscurapb.AckMessage{}}})
		if err != nil {
			t.Fatal(err)
		}
		for range many / 2 {
			f.in <- written{kind: binaryMessage, data: ack}
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("%d frames were read in %s", many/2, took)
		}
		synctest.Wait()
		go func() { // pings count as well
			for i := range many - many/2 {
				_ = f.ping(strconv.Itoa(i))
			}
			synctest.Wait()
			close(f.in)
		}()
		for last := 0; last < many-many/2-1; { // of pings that came together the newest is answered
			w := f.next()
			n, err := strconv.Atoi(string(w.data))
			if w.kind != pongMessage || err != nil || n < last {
				t.Fatalf("kind %d, %q after %d", w.kind, w.data, last)
			}
			last = n
		}
		<-done
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("%d frames were taken in %s", many, took)
		}
	})
}
