package gateway

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

// acknowledgement is a frame that acknowledges what a fake box delivered.
func acknowledgement(device core.DeviceID, sequence uint64) written {
	id := mailbox.IDsOf(device).Name(int64(sequence))
	return written{kind: binaryMessage, data: append([]byte{11<<3 | 2, 18, 1<<3 | 2, 16}, id[:]...)}
}

// reader is a client that takes everything from a fake socket at 2 KB/s, and acknowledges as it
// reads. Between it and the relay lies a queue of the given size.
func reader(t *testing.T, f *fakeSocket, device core.DeviceID, queue int, done <-chan struct{}, n int) {
	t.Helper()
	line := make(chan written, queue)
	read := make(chan struct{})
	defer close(read)
	go func() {
		defer close(line)
		for {
			select {
			case w := <-f.out:
				select {
				case line <- w:
				case <-read:
				}
			case <-done:
				return
			case <-read:
				return
			}
		}
	}()
	for got := 0; got < n; {
		w, open := <-line
		if !open {
			t.Fatalf("the socket ended after %d of %d envelopes", got, n)
		}
		time.Sleep(time.Duration(len(w.data)) * time.Second / slowest) // fake time
		if w.kind == pingMessage {
			select {
			case f.in <- written{kind: pongMessage}:
				continue
			case <-done:
				t.Fatalf("the socket ended after %d of %d envelopes", got, n)
			}
		}
		for _, e := range w.frame(t).GetEnvelopeBatch().GetEnvelopes() {
			select {
			case f.in <- acknowledgement(device, e.GetSequence()):
			case <-done:
				t.Fatalf("the socket ended after %d of %d envelopes", got, n)
			}
			got++
		}
	}
}

// The slowest line is served, whatever the size of the envelopes, and also when a proxy has taken
// much more than the client.
func TestAReaderAt2KBASecondIsServed(t *testing.T) {
	t.Parallel()
	for name, queue := range map[string]int{"directly": 0, "behind a proxy": 64} {
		for _, size := range []int{1000, 60_000, 100_000, core.MaxMessage} {
			t.Run(name, func(t *testing.T) {
				inFakeTime(t, func(t *testing.T, b *fakeBox) {
					n := 2_000_000 / size
					b.fill(n, size)
					f, bob, done := b.connect(t, 0, accepted{opened: mailbox.Opened{Last: int64(n)}})
					reader(t, f, bob.Device, queue, done, n)
					close(f.in)
					<-done
				})
			})
		}
	}
}

// A proxy takes nothing for a quarter of an hour, while the client reads what the proxy has.
func TestAnAcknowledgementGivesAWriteTime(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		b.fill(20, 60_000)
		f, bob, done := b.connect(t, 10, accepted{opened: mailbox.Opened{Last: 20}})
		for i := range uint64(9) {
			time.Sleep(100 * time.Second) // fake time
			select {
			case f.in <- acknowledgement(bob.Device, i+1):
			case <-done:
				t.Fatalf("it ended after %d acknowledgements", i)
			}
		}
		close(f.in)
		<-done
	})
}

// A client that writes and does not read is not waited for without end.
func TestAWriteThatNobodyTakesEnds(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		f, begin := newFake(t, 0), time.Now() // reads nothing
		done := f.start(b.Gateway, accepted{})
		for {
			select {
			case f.in <- written{kind: binaryMessage, data: []byte{11<<3 | 2, 0}}:
				time.Sleep(5 * time.Second) // fake time
				continue
			case <-done:
			}
			break
		}
		if took := time.Since(begin); took < writeWithin || took > writeWithin+5*time.Second {
			t.Errorf("it ended after %s", took)
		}
	})
}

// A device is removed while a frame is on its way to it, which may take minutes.
func TestACloseDoesNotWaitForASlowWrite(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		b.fill(2, core.MaxMessage)
		_, _, done := b.connect(t, 1, accepted{opened: mailbox.Opened{Last: 2}})
		synctest.Wait() // it is writing, and nobody reads
		begin := time.Now()
		b.session().close(closeRevoked)
		<-done
		if took := time.Since(begin); took > goodbye+100*time.Millisecond {
			t.Errorf("it took %s", took)
		}
	})
}

// The answer to a client's ping waits for the frame that is being written, and for no other.
func TestAPongGoesBeforeTheNextFrame(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		b.fill(3, core.MaxMessage)
		f, _, done := b.connect(t, 0, accepted{opened: mailbox.Opened{Last: 3}})
		opening(t, f)
		synctest.Wait() // the first envelope is being written
		for _, payload := range []string{"one", "two"} {
			f.in <- written{kind: pingMessage, data: []byte(payload)}
		}
		time.Sleep(20 * time.Second) // fake time
		if n := len(f.next().frame(t).GetEnvelopeBatch().GetEnvelopes()); n != 1 {
			t.Fatalf("%d envelopes", n)
		}
		if w := f.next(); w.kind != pongMessage || string(w.data) != "two" {
			t.Errorf("kind %d, %q", w.kind, w.data)
		}
		close(f.in)
		<-done
	})
}

func TestTheWindowKnowsTheBytesOnTheirWay(t *testing.T) {
	t.Parallel()
	var w window
	for seq := range int64(4) {
		w.add(seq+1, 100)
	}
	if got := w.settle([]int64{2, 3, 3, 9, 1}, 4, 4); len(got) != 3 || w.bytes.Load() != 100 || len(w.sent) != 1 {
		t.Errorf("settled %v, %d bytes in %v", got, w.bytes.Load(), w.sent)
	}
	if w.settle([]int64{4}, 4, 4); w.bytes.Load() != 0 || w.sent != nil {
		t.Errorf("an idle window holds %d bytes in %v", w.bytes.Load(), w.sent)
	}
}
