package gateway

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

// emptyIDs is the largest acknowledgement frame, of ids without a byte.
func emptyIDs() []byte {
	return append([]byte{11<<3 | 2, 0xfc, 0xff, 3}, bytes.Repeat([]byte{1<<3 | 2, 0}, (readLimit-4)/2)...)
}

// An id costs a client two bytes, and the relay nothing but reading them.
func TestAnIDWithoutBytesCostsNothing(t *testing.T) { // not parallel: it counts allocations
	ids, data := mailbox.IDsOf(uuid.New()), emptyIDs()
	if len(data) != readLimit {
		t.Fatalf("the frame has %d bytes", len(data))
	}
	allocations := testing.AllocsPerRun(10, func() {
		if sequences, err := decodeAck(ids, data); err != nil || len(sequences) != 0 {
			t.Errorf("%d sequences, %v", len(sequences), err)
		}
	})
	if allocations > 0 {
		t.Errorf("%v allocations for %d ids", allocations, len(data)/2)
	}
}

// A client is read a MiB in a second, in however few frames.
func TestLargeFramesWaitForTheNextSecond(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		f, begin := newFake(t, 0), time.Now()
		done := f.start(b.Gateway, accepted{})
		drained(t, f)
		const many = 40
		for range many {
			f.in <- written{kind: binaryMessage, data: emptyIDs()}
		}
		synctest.Wait()
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("%d frames of 64 KiB were read in %s", many, took)
		}
		close(f.in)
		<-done
	})
}

func BenchmarkAFrameOfEmptyIDs(b *testing.B) {
	ids, data := mailbox.IDsOf(uuid.New()), emptyIDs()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeAck(ids, data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAFrameOfOneID(b *testing.B) {
	device := uuid.New()
	id := mailbox.IDsOf(device).Name(4097)
	ids, data := mailbox.IDsOf(device), append([]byte{11<<3 | 2, 18, 1<<3 | 2, 16}, id[:]...)
	b.ReportAllocs()
	for b.Loop() {
		if sequences, err := decodeAck(ids, data); err != nil || len(sequences) != 1 {
			b.Fatal(err)
		}
	}
}
