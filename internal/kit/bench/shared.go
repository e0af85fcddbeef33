package bench

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// sharing is a body that many devices get. All of them find one payload behind their prefix: it
// names the first of them and the first of their numbers, and the others follow in order. The zero
// value is a load without one.
type sharing struct {
	recipients, prefix int
}

// read finds the payload of a message, as if it were the receiver's own.
func (s sharing) read(l *load, r *receiver, message []byte) (payload, bool) {
	p, ok := readPayload(message[min(s.prefix, len(message)):])
	if ok && s.recipients > 0 {
		devices := len(l.people.devices)
		if place := (r.number - int(p.device) + devices) % devices; place < s.recipients {
			p.number, p.device = p.number+uint64(place), uint32(r.number)
		}
	}
	return p, ok
}

// SharedResult is what `obscura bench relay --shared` found. One send is the same mail in both
// ways: one request, or as many as its submissions need, one after the other.
type SharedResult struct {
	Devices    int     `json:"devices"`
	Recipients int     `json:"recipients"`
	Size       int     `json:"size"`
	Prefix     int     `json:"prefix"`
	Pairs      int     `json:"pairs"`
	Duration   float64 `json:"duration_s"`
	// Figures are medians of the pairs of turns.
	Figures []SharedFigure `json:"figures"`
	// Sends counts those of both ways.
	Sends       int64            `json:"sends"`
	AcceptedAll int64            `json:"accepted"`
	Lost        int64            `json:"lost"`
	Duplicated  int64            `json:"duplicated"`
	Errors      map[string]int64 `json:"errors"`

	found []comparison
}

// SharedFigure is one figure of a send in both ways.
type SharedFigure struct {
	Name        string  `json:"figure"`
	Shared      float64 `json:"shared"`
	Submissions float64 `json:"submissions"`
	// Ratio is how many times less the shared body takes, Least and Most its spread.
	Ratio float64 `json:"ratio"`
	Least float64 `json:"least"`
	Most  float64 `json:"most"`
}

func (r *SharedResult) empty() bool       { return r.AcceptedAll == 0 }
func (r *SharedResult) figures() []figure { return nil } // it has no peer

func (r *SharedResult) print(cfg Common, relay string) {
	rows := [][2]string{
		row("load", "one sender to %d of %d connected devices, %d bytes behind prefixes of %d, %.0f s", r.Recipients,
			r.Devices, r.Size, r.Prefix, r.Duration),
		row("sends", "%d", r.Sends),
		row("lost", "%d of %d accepted", r.Lost, r.AcceptedAll), row("duplicated", "%d", r.Duplicated),
	}
	table(cfg.Out, "obscura bench relay --shared: "+relay, append(rows, errorRows(r.Errors)...)...)
	printComparisons(cfg.Out, fmt.Sprintf("in turns, a send each: medians of %d pairs; a ratio above 1 is in favour of the "+
		"shared body", r.Pairs), "shared body\tsubmissions", r.found)
}

// turnTime is how long one way is measured before it is the other's turn.
const turnTime = 500 * time.Millisecond

// Shared compares a shared body with submissions.
func Shared(ctx context.Context, cfg RelayConfig) (*SharedResult, error) {
	return run(ctx, cfg.Common, cfg.Senders+64, func(ctx context.Context, t *target) (*SharedResult, error) {
		p, err := t.populate(ctx, wanted{devices: cfg.Devices})
		if err != nil {
			return nil, err
		}
		defer t.farewell(p)
		l := newLoad(t.api, p, cfg.Size, cfg.Batch, 0)
		l.noKey, l.shared = cfg.NoKey, sharing{cfg.Recipients, cfg.Prefix}
		return l.compare(ctx, cfg, t)
	})
}

// compare measures both ways in turns. Which of them is first changes in every pair.
func (l *load) compare(ctx context.Context, cfg RelayConfig, t *target) (*SharedResult, error) {
	line := newTicker(cfg.Progress)
	defer line.end()
	sockets, hangUp := context.WithCancel(ctx)
	l.window = window{start: time.Now(), to: math.MaxInt64}
	done, err := connectAll(sockets, l.receivers(newDialer(t.api)), func(n, of int) {
		line.show("connecting %d of %d", n, of)
	})
	defer done()
	defer hangUp()
	if err != nil {
		return nil, err
	}
	s := l.sender(0, nil)
	for _, way := range []func(*sender, context.Context, *turn){(*sender).share, (*sender).submit} {
		l.takeTurn(ctx, t, s, way, cfg.Warmup/2)
	}
	pairs := make([]pair[*turn], max(1, cfg.Duration/(2*turnTime)))
	for i := range pairs {
		line.show("pair %d of %d", i+1, len(pairs))
		turns := []func(){
			func() {
				pairs[i].Relay = l.takeTurn(ctx, t, s, (*sender).share, cfg.Duration/time.Duration(2*len(pairs)))
			},
			func() {
				pairs[i].Peer = l.takeTurn(ctx, t, s, (*sender).submit, cfg.Duration/time.Duration(2*len(pairs)))
			},
		}
		if i%2 == 1 {
			slices.Reverse(turns)
		}
		for _, turn := range turns {
			turn()
		}
	}
	line.show("waiting for what is under way")
	a := l.await(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	r := &SharedResult{Devices: cfg.Devices, Recipients: cfg.Recipients, Size: cfg.Size, Prefix: cfg.Prefix,
		Pairs: len(pairs), Duration: cfg.Duration.Seconds(), AcceptedAll: a.accepted, Lost: l.ledger.lost(a),
		Duplicated: a.duplicated, Errors: l.errors.read(), found: compare(pairs)}
	for _, p := range pairs {
		r.Sends += p.Relay.sends + p.Peer.sends
	}
	for _, c := range r.found {
		r.Figures = append(r.Figures, SharedFigure{c.Name, c.Relay, c.Peer, c.Ratio, c.Least, c.Most})
	}
	return r, nil
}

// turn is what one way took for a while.
type turn struct {
	sends, bytes    int64 // bytes of requests, with their headers
	relay, database time.Duration
	took            histogram
}

func (t *turn) figures() []figure {
	each := func(v float64) float64 { return v / float64(max(t.sends, 1)) }
	p := t.took.read().percentiles()
	return []figure{
		{"bytes of requests, kB", each(float64(t.bytes) / 1e3), true},
		{"CPU of the relay, ms", each(t.relay.Seconds() * 1e3), true},
		{"CPU of PostgreSQL, ms", each(t.database.Seconds() * 1e3), true},
		{"CPU of both, ms", each((t.relay + t.database).Seconds() * 1e3), true},
		{"to the last answer, p50 ms", p.P50, true}, {"to the last answer, p99 ms", p.P99, true},
	}
}

// aftermath is how long the relay has for acknowledgements, after everything has arrived.
const aftermath = 50 * time.Millisecond

// takeTurn sends in one way for some time, and waits until all that was accepted has arrived, so
// that the next turn does not pay for it.
func (l *load) takeTurn(ctx context.Context, target *target, s *sender, way func(*sender, context.Context, *turn),
	d time.Duration) *turn {
	t := &turn{}
	from := target.usage(ctx)
	for began := time.Now(); ctx.Err() == nil && time.Since(began) < d; {
		way(s, ctx, t)
	}
	for began := time.Now(); l.delivered.Load()+l.ledger.gaps.Load() < l.acceptedAll.Load() &&
		time.Since(began) < silence && pause(ctx, time.Millisecond) == nil; {
	}
	_ = pause(ctx, aftermath) // the caller looks at ctx
	to := target.usage(ctx)
	t.relay, t.database = to.relay-from.relay, to.database-from.database
	return t
}

// share sends one request with a shared body.
func (s *sender) share(ctx context.Context, t *turn) {
	l := s.load
	first, to := l.ledger.claim(l.shared.recipients), s.pick()
	began := l.window.now()
	s.body = l.appendShared(s.body[:0], first, to, l.sharedBody(first, to, began))
	if s.part(ctx, t, first, l.shared.recipients) {
		t.sends++
		t.took.record(l.window.now() - began)
	}
}

// submissionsMost is how many submissions a request carries.
const submissionsMost = 100

// submit sends the same mail as submissions.
func (s *sender) submit(ctx context.Context, t *turn) {
	l := s.load
	n, to := l.shared.recipients, s.pick()
	first := l.ledger.claim(n)
	began := l.window.now()
	body, done := l.sharedBody(first, to, began), true
	for from := 0; from < n; from += submissionsMost {
		until := min(from+submissionsMost, n)
		s.body = s.body[:0]
		for i := from; i < until; i++ {
			s.body = l.appendPrefixed(s.body, first, to, i, body)
		}
		done = s.part(ctx, t, first+uint64(from), until-from) && done
	}
	if done {
		t.sends++
		t.took.record(l.window.now() - began)
	}
}

// part sends one request of n submissions and reports whether it was answered as it should.
func (s *sender) part(ctx context.Context, t *turn, first uint64, n int) bool {
	l := s.load
	if err := s.post(ctx, first); err != nil {
		l.errors.add(kindOf(err))
		after, _ := comeBack(err)
		_ = pause(ctx, max(after, 100*time.Millisecond)) // the caller looks at ctx
		return false
	}
	t.bytes += int64(len(s.request.Header.Header()) + len(s.body))
	failed := s.account(first, n)
	l.acceptedAll.Add(int64(n - failed))
	return failed == 0
}

// sharedBody is the part that all recipients get.
func (l *load) sharedBody(first uint64, to int, due time.Duration) []byte {
	return payload{run: l.run, number: first, due: due, device: uint32(to)}.append(nil, l.size,
		l.filler[first%uint64(len(l.filler)/2):])
}

// prefix is what the i-th recipient has of its own.
func (l *load) prefix(first uint64, i int) []byte {
	offset := (first*61 + uint64(i)*257) % uint64(len(l.filler)/2)
	return l.filler[offset : offset+uint64(l.shared.prefix)]
}

func (l *load) recipient(to, i int) *device { return l.people.devices[(to+i)%len(l.people.devices)] }

// appendShared appends the one SharedSubmission of a SendMessageRequest.
func (l *load) appendShared(dst []byte, first uint64, to int, body []byte) []byte {
	each := 2 * (2 + 16) // two ids
	if l.shared.prefix > 0 {
		each += 1 + protowire.SizeBytes(l.shared.prefix)
	}
	dst = protowire.AppendTag(dst, 2, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(1+protowire.SizeBytes(len(body))+
		l.shared.recipients*(1+protowire.SizeBytes(each))))
	dst = protowire.AppendTag(dst, 1, protowire.BytesType)
	dst = protowire.AppendBytes(dst, body)
	for i := range l.shared.recipients {
		id := l.submissionID(first + uint64(i))
		dst = protowire.AppendTag(dst, 2, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(each))
		dst = protowire.AppendTag(dst, 1, protowire.BytesType)
		dst = protowire.AppendBytes(dst, id[:])
		dst = protowire.AppendTag(dst, 2, protowire.BytesType)
		dst = protowire.AppendBytes(dst, l.recipient(to, i).id[:])
		if l.shared.prefix > 0 {
			dst = protowire.AppendTag(dst, 3, protowire.BytesType)
			dst = protowire.AppendBytes(dst, l.prefix(first, i))
		}
	}
	return dst
}

// appendPrefixed appends the i-th recipient's Submission of the same mail.
func (l *load) appendPrefixed(dst []byte, first uint64, to, i int, body []byte) []byte {
	id, size := l.submissionID(first+uint64(i)), l.shared.prefix+len(body)
	dst = protowire.AppendTag(dst, 1, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(2*(2+16)+1+protowire.SizeBytes(size)))
	dst = protowire.AppendTag(dst, 1, protowire.BytesType)
	dst = protowire.AppendBytes(dst, id[:])
	dst = protowire.AppendTag(dst, 2, protowire.BytesType)
	dst = protowire.AppendBytes(dst, l.recipient(to, i).id[:])
	dst = protowire.AppendTag(dst, 3, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(size))
	dst = append(dst, l.prefix(first, i)...)
	return append(dst, body...)
}
