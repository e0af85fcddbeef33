package bench

import (
	"context"
	"encoding/binary"
	mathrand "math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/valyala/fasthttp"
)

// A sender sends one request after another. Under a given rate the requests of all senders are due
// at fixed instants, and whoever is free takes the next one.
type sender struct {
	load     *load
	number   uint32
	device   *device
	request  *fasthttp.Request
	response *fasthttp.Response
	body     []byte
	asked    time.Time // when the token was asked for
	// pick chooses the recipient of each submission.
	pick func() int
}

func (l *load) sender(number int, pick func() int) *sender {
	if pick == nil {
		source := mathrand.New(mathrand.NewPCG(l.run, uint64(number)))
		pick = func() int { return source.IntN(len(l.people.devices)) }
	}
	s := &sender{load: l, number: uint32(number), device: l.people.devices[number%len(l.people.devices)],
		request: &fasthttp.Request{}, response: &fasthttp.Response{}, pick: pick}
	s.request.Header.SetMethod("POST")
	path := "/v1/messages"
	if l.sealed {
		path += "/sealed"
	}
	s.request.SetRequestURI(l.api.base.Scheme + "://" + l.api.base.Host + path)
	s.request.Header.SetContentType(protobufBody)
	return s
}

// run sends until the window ends or ctx does.
func (s *sender) run(ctx context.Context) {
	l := s.load
	for ctx.Err() == nil {
		due := l.window.now()
		if due >= l.window.to && l.rate == 0 {
			return
		}
		if l.rate > 0 {
			due = time.Duration(float64(l.turn.Add(1)-1) / l.rate * float64(time.Second))
			if due >= l.window.to || pause(ctx, due-l.window.now()) != nil {
				return
			}
			if l.window.now() > l.window.to+stragglers {
				l.errors.add("due and never sent: the relay is too slow for this rate")
				continue // counts the rest
			}
			if l.window.holds(due) {
				l.late.record(l.window.now() - due)
			}
		}
		if after := s.once(ctx, due); after > 0 && pause(ctx, min(after, l.window.to-l.window.now())) != nil {
			return
		}
	}
}

// once sends one request and notes what became of it. It returns how long the relay asks to wait.
func (s *sender) once(ctx context.Context, due time.Duration) (pause time.Duration) {
	l := s.load
	first := l.ledger.claim(l.batch)
	s.fill(first, due)
	err := s.post(ctx, first)
	now := l.window.now()
	if err != nil {
		l.errors.add(kindOf(err))
		if after, asked := comeBack(err); asked {
			return after
		}
		return 100 * time.Millisecond
	}
	failed := s.account(first, l.batch)
	if l.window.holds(due) {
		l.send.record(now - due)
	}
	l.acceptedAll.Add(int64(l.batch - failed))
	if l.window.holds(now) {
		l.accepted.Add(int64(l.batch - failed))
	}
	return 0
}

// post sends the body, under a key that is made of the first of its numbers.
func (s *sender) post(ctx context.Context, first uint64) error {
	l := s.load
	if !l.sealed && time.Since(s.asked) > time.Minute { // it may have been renewed
		s.asked = time.Now()
		s.request.Header.Set("Authorization", "Bearer "+s.device.token(ctx))
	}
	if !l.noKey {
		s.request.Header.Set("Idempotency-Key", l.submissionID(first).String())
	}
	s.request.SetBodyRaw(s.body)
	err := l.api.client.DoTimeout(s.request, s.response, httpTimeout)
	if err == nil && s.response.StatusCode() != fasthttp.StatusOK {
		err = refused(s.response)
	}
	return err
}

// fill makes the body of a request.
func (s *sender) fill(first uint64, due time.Duration) {
	l := s.load
	s.body = s.body[:0]
	for i := range l.batch {
		to := s.pick()
		number := first + uint64(i)
		offset := int(number*61) % (len(l.filler) / 2)
		var token []byte
		if l.sealed {
			token = l.people.devices[to].user.delivery
		}
		s.body = appendSubmission(s.body, l.submissionID(number), l.people.devices[to].id, token,
			payload{run: l.run, number: number, due: due, device: uint32(to), sender: s.number}, l.size,
			l.filler[offset:])
	}
}

func (l *load) submissionID(number uint64) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:], l.run)
	binary.BigEndian.PutUint64(id[8:], number)
	return id
}

// account notes what the answer to n submissions promises and returns how many it does not.
func (s *sender) account(first uint64, n int) (failed int) {
	l := s.load
	var not map[uint64]bool
	err := failedSubmissions(s.response.Body(), func(id []byte, code uint64) {
		l.errors.add(failureName(code))
		if not == nil {
			not = map[uint64]bool{}
		}
		if len(id) == 16 {
			not[binary.BigEndian.Uint64(id[8:])] = true
		}
	})
	if err != nil {
		l.errors.add("an answer that is not a SendMessageResponse")
		return n
	}
	for i := range uint64(n) {
		if !not[first+i] {
			l.ledger.accept(first + i)
		}
	}
	return len(not)
}
