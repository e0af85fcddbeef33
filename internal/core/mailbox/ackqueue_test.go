package mailbox

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
)

// ackBench runs a queue of acknowledgements whose work waits for a gate.
type ackBench struct {
	*ackQueue
	gate    chan struct{}
	batches [][]*ack
	stop    func()
}

func startAcks() *ackBench {
	b := &ackBench{gate: make(chan struct{})}
	b.ackQueue = newAckQueue(func(_ context.Context, acks []*ack) {
		b.batches = append(b.batches, acks)
		<-b.gate
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { b.run(ctx) })
	b.stop = func() { cancel(); wg.Wait() }
	return b
}

func (b *ackBench) give(t *testing.T, device core.DeviceID, seqs ...int64) {
	t.Helper()
	if err := b.add(ack{device: device, seqs: seqs}); err != nil {
		t.Error(err)
	}
	synctest.Wait()
}

func TestAcknowledgementsGatherForAMoment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // fake time
		b := startAcks()
		begun := time.Now()
		b.give(t, uuid.New(), 1)
		time.Sleep(ackGather - time.Millisecond) // fake time
		b.give(t, uuid.New(), 1)
		b.gate <- struct{}{}
		if took := time.Since(begun); took != ackGather || len(b.batches) != 1 || len(b.batches[0]) != 2 {
			t.Errorf("after %v: %v", took, b.batches)
		}
		b.give(t, uuid.New(), 1)
		go b.stop() // does not wait for others
		begun = time.Now()
		b.gate <- struct{}{}
		if took := time.Since(begun); took != 0 || len(b.batches) != 2 {
			t.Errorf("stopped after %v: %v", took, b.batches)
		}
		synctest.Wait()
		if err := b.add(ack{device: uuid.New(), seqs: []int64{1}}); !errors.Is(err, errAcksStopped) {
			t.Errorf("after the stop: %v", err)
		}
	})
}

// The database takes none for a long time: every device goes on acknowledging without waiting, what
// it acknowledged shares one entry, and all of it is worked on in the end.
func TestAcknowledgementsOfADeviceShareAnEntry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := startAcks()
		first, devices := uuid.New(), make([]core.DeviceID, 50)
		for i := range devices {
			devices[i] = uuid.New()
		}
		b.give(t, first, 1)
		time.Sleep(ackGather) // fake time
		synctest.Wait()       // its batch is stuck
		const each = core.MailboxCap
		for seq := range int64(each) {
			for _, device := range devices {
				if err := b.add(ack{device: device, seqs: []int64{seq + 1}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		b.give(t, first, 2)
		if waiting, taken := b.len(); len(b.entries) != len(devices)+1 || waiting != len(devices)*each+1 || taken != 1 {
			t.Errorf("%d entries, %d wait, %d taken", len(b.entries), waiting, taken)
		}
		go b.stop()
		done := map[core.DeviceID]int{}
		for worked := 0; len(done) < len(devices)+1; {
			b.gate <- struct{}{}
			synctest.Wait()
			for ; worked < len(b.batches); worked++ {
				size := 0
				for _, a := range b.batches[worked] {
					size += a.size()
					done[a.device] += len(a.seqs)
				}
				if size > ackSize {
					t.Errorf("a batch of %d", size)
				}
			}
		}
		close(b.gate)
		synctest.Wait()
		for _, device := range devices {
			if done[device] != each {
				t.Errorf("%d of %d worked on", done[device], each)
			}
		}
		if waiting, taken := b.len(); waiting+taken != 0 || done[first] != 2 {
			t.Errorf("%d wait, %d taken, %d of the first", waiting, taken, done[first])
		}
	})
}

// One device cannot make the queue grow for ever; the others do not notice.
func TestAQueueOfAcknowledgementsIsBoundedForEachDevice(t *testing.T) {
	t.Parallel()
	q := newAckQueue(nil)
	device, frame := uuid.New(), make([]int64, core.MailboxCap)
	for range maxDeviceAcks / len(frame) {
		if err := q.add(ack{device: device, seqs: frame}); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.add(ack{device: device, seqs: []int64{1}, gaps: []core.Gap{{From: 1, To: 1}}}); !errors.Is(err,
		errManyAcks) {
		t.Errorf("one more: %v", err)
	}
	if err := q.add(ack{device: uuid.New(), seqs: frame}); err != nil {
		t.Errorf("another device: %v", err)
	}
	if waiting, _ := q.len(); waiting != maxDeviceAcks+len(frame) {
		t.Errorf("%d wait", waiting)
	}
}
