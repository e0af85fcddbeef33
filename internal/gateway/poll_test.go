package gateway

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/storage"
)

// node is a gateway on a real database that hears of nothing: every notice is lost.
type node struct {
	*Gateway
	db  *storage.DB
	box *mailbox.Service
}

func newNode(t *testing.T) *node {
	t.Helper()
	pool, err := storage.Open(context.Background(), testdb.NewURL(t), storage.Options{MaxConns: 4})
	if err == nil {
		err = pool.CheckSchema(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	n := &node{db: pool}
	n.Gateway, n.box = newGateway(pool)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	for _, run := range []func(context.Context) error{n.box.RunSends, n.box.RunAcknowledgements} {
		go func() { ended <- run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	return n
}

// device makes a mailbox.
func (n *node) device(t *testing.T) core.Principal {
	t.Helper()
	p := core.Principal{User: uuid.New(), Device: uuid.New(), Session: uuid.New(), DeviceNumber: 1}
	if err := n.db.InTx(t.Context(), func(tx *storage.Tx) error {
		return mailbox.Create(t.Context(), tx, p.Device)
	}); err != nil {
		t.Fatal(err)
	}
	return p
}

// send stores messages "0", "1" and so on, of at least a size.
func (n *node) send(t *testing.T, to core.Principal, messages, size int) {
	t.Helper()
	for sent := 0; sent < messages; {
		batch := mailbox.Batch{Key: uuid.New()}
		for ; sent < messages && len(batch.Submissions) < core.MaxSubmissions; sent++ {
			batch.Submissions = append(batch.Submissions,
				mailbox.Submission{Device: to.Device, Message: fmt.Appendf(nil, "%0*d", size, sent)})
		}
		if invalid, err := n.box.Send(t.Context(), to, batch); err != nil || len(invalid) > 0 {
			t.Fatalf("send: %v, %v", invalid, err)
		}
	}
}

// open connects a fake socket and reads until Drained.
func (n *node) open(t *testing.T, p core.Principal) (*fakeSocket, <-chan struct{}) {
	t.Helper()
	opened, err := n.box.Open(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	f := newFake(t, 0)
	done := f.start(n.Gateway, accepted{principal: p, opened: opened})
	opening(t, f)
	return f, done
}

func closedWith(t *testing.T, f *fakeSocket, code int) {
	t.Helper()
	if w := f.next(); w.kind != closeMessage || string(w.data) != string(closePayload(code)) {
		t.Errorf("kind %d, %x, want a close with %d", w.kind, w.data, code)
	}
	close(f.in)
}

func TestThePollFindsMailWhoseNoticeWasLost(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	bob := n.device(t)
	f, done := n.open(t, bob)
	if f.next().frame(t).GetDrained() == nil {
		t.Error("not drained")
	}
	ctx, cancel := context.WithCancel(t.Context())
	polling := make(chan error, 1)
	go func() { polling <- n.Run(ctx) }()
	for range 2 {
		begin := time.Now()
		n.send(t, bob, 3, 1)
		if got := f.next().frame(t).GetEnvelopeBatch().GetEnvelopes(); len(got) != 3 ||
			string(got[2].GetMessage()) != "2" {
			t.Errorf("%v", got)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("it took %s", took)
		}
	}
	cancel()
	if err := <-polling; err != nil {
		t.Error(err)
	}
	close(f.in)
	<-done
}

// allBut is sessions of which one has ended since it connected.
type allBut core.SessionID

func (ended allBut) LiveSessions(_ context.Context, ids []core.SessionID) (alive []core.SessionID, err error) {
	for _, id := range ids {
		if id != core.SessionID(ended) || len(ids) == 1 { // at connect it still exists
			alive = append(alive, id)
		}
	}
	return alive, nil
}

func TestThePollEndsSocketsWhoseNoticeWasLost(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	displaced, revoked, gone, live := n.device(t), n.device(t), n.device(t), n.device(t)
	taken, retaken := n.device(t), n.device(t)
	n.cfg.Sessions = allBut(revoked.Session)
	sockets, done := map[core.DeviceID]*fakeSocket{}, []<-chan struct{}{}
	for _, p := range []core.Principal{displaced, revoked, gone, live, taken, retaken} {
		f, end := n.open(t, p)
		f.next() // Drained
		sockets[p.Device], done = f, append(done, end)
	}
	if _, err := n.box.Open(t.Context(), displaced); err != nil { // on another node
		t.Fatal(err)
	}
	if err := n.db.InTx(t.Context(), func(tx *storage.Tx) error { // by the session itself, which lives on
		for _, p := range []core.Principal{taken, retaken} {
			if _, _, err := mailbox.TakeOver(t.Context(), tx, p.Device, 1); err != nil {
				return err
			}
		}
		return mailbox.Erase(t.Context(), tx, gone.Device)
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.box.Open(t.Context(), retaken); err != nil { // on another node
		t.Fatal(err)
	}
	if err := n.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	closedWith(t, sockets[displaced.Device], 4409)
	closedWith(t, sockets[revoked.Device], 4401)
	closedWith(t, sockets[gone.Device], 4401)
	closedWith(t, sockets[taken.Device], 4401)
	closedWith(t, sockets[retaken.Device], 4409)
	n.send(t, live, 1, 1)
	if err := n.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := sockets[live.Device].next().frame(t).GetEnvelopeBatch().GetEnvelopes(); len(got) != 1 {
		t.Errorf("%v", got)
	}
	close(sockets[live.Device].in)
	for _, d := range done {
		<-d
	}
}

// A socket that is out of date must not go on with its backlog: a revoked device gets no more mail,
// and a displaced one does not hold its frames for as long as a slow reader likes.
func TestASocketThatIsToCloseDoesNotSendItsBacklogFirst(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for _, kind := range []core.NoticeKind{core.NoticeDisplaced, core.NoticeRevoked, core.NoticeEnded} {
		bob := n.device(t)
		n.send(t, bob, 900, 1000)
		f, done := n.open(t, bob)
		if got := f.next().frame(t).GetEnvelopeBatch().GetEnvelopes(); len(got) == 0 {
			t.Error("no backlog")
		}
		notice := core.Notice{Kind: kind, Generation: 1 << 40, IDs: []uuid.UUID{bob.Device}}
		if kind == core.NoticeEnded {
			notice.IDs = []uuid.UUID{bob.Session}
		}
		n.Deliver(notice)
		frames := 0
		for f.next().kind == binaryMessage {
			frames++
		}
		if frames > 2 { // one was being written, one may have been next
			t.Errorf("notice %c: %d more frames before the close", kind, frames)
		}
		close(f.in)
		<-done
	}
}

// The newer socket may be on another node, which must hear of the mail at once.
func TestMailForASocketThatClosesIsAnnounced(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	bob := n.device(t)
	f, done := n.open(t, bob)
	if f.next().frame(t).GetDrained() == nil {
		t.Error("not drained")
	}
	mail := core.Notice{Kind: core.NoticeMail, IDs: []uuid.UUID{bob.Device}}
	if elsewhere := n.Deliver(mail); len(elsewhere.IDs) != 0 {
		t.Errorf("a live socket is here, and %v is announced", elsewhere.IDs)
	}
	displaced := core.Notice{Kind: core.NoticeDisplaced, Generation: 1 << 40, IDs: mail.IDs}
	n.Deliver(displaced)
	if w := f.next(); w.kind != closeMessage {
		t.Errorf("kind %d, want a close", w.kind)
	}
	if elsewhere := n.Deliver(mail); !slices.Equal(elsewhere.IDs, mail.IDs) {
		t.Errorf("%v is announced", elsewhere.IDs)
	}
	close(f.in)
	<-done
}

// A slow link takes minutes for a full mailbox: without a ping in between a client that takes what
// it gets would be cut off as dead.
func TestAPingDoesNotWaitForTheBacklog(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	bob := n.device(t)
	n.send(t, bob, 900, 1000)
	f, done := n.open(t, bob)
	n.mu.RLock()
	s := n.sessions[bob.Device]
	n.mu.RUnlock()
	s.kick(doPing)
	frames, seen, pinged := 0, 0, false
	for drained := false; !drained || !pinged; { // the backlog goes on behind it, without a hole
		w := f.next()
		if w.kind == pingMessage {
			pinged = true
			if frames > 2 {
				t.Errorf("%d frames before the ping", frames)
			}
			continue
		}
		frames++
		frame := w.frame(t)
		for _, e := range frame.GetEnvelopeBatch().GetEnvelopes() {
			if seen++; e.GetSequence() != uint64(seen) {
				t.Fatalf("sequence %d at %d", e.GetSequence(), seen)
			}
		}
		drained = drained || frame.GetDrained() != nil
	}
	if seen != 900 {
		t.Errorf("%d envelopes", seen)
	}
	close(f.in)
	<-done
}
