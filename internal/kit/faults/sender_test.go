package faults_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

// sender sends one request after the other, and each again and again, under its key, until it is
// told 200.
type sender struct {
	*device
	world  *world
	ledger *ledger
	to     []*recipient
	// filling is the size of messages, silenceOK says that this path may swallow requests.
	filling   int
	silenceOK bool
	// gate is held for a request until it is told; whoever locks it finds no request under way.
	gate *sync.RWMutex
	// next counts the requests; whoever holds a side of the gate may read it.
	next int
}

// pace is the longest pause between two requests of a sender: the load is there to be interrupted,
// not to measure anything.
const pace = 10 * time.Millisecond

// run sends at least least requests, and goes on until enough is closed, but not beyond most.
func (s *sender) run(ctx context.Context, least, most int, enough <-chan struct{}) {
	for n := range most {
		if n >= least {
			select {
			case <-enough:
				return
			default:
			}
		}
		s.gate.RLock()
		s.next = n
		s.deliver(ctx, s.pack(s.next))
		s.gate.RUnlock()
		if !pause(ctx, rand.N(pace)) {
			return
		}
	}
}

// request is one batch on its way.
type request struct {
	key     uuid.UUID
	body    []byte
	parcels []*parcel
	began   time.Time
}

// pack makes the n-th request: one to three messages for as many devices.
func (s *sender) pack(n int) *request {
	var to []*recipient
	for _, i := range rand.Perm(len(s.to))[:1+rand.N(min(3, len(s.to)))] {
		to = append(to, s.to[i])
	}
	return s.packFor(n, to)
}

// packFor makes a request for given devices: submissions, or one body for all of them.
func (s *sender) packFor(n int, to []*recipient) *request {
	r := &request{key: uuid.New(), began: time.Now()}
	message, shared := &obscurapb.SendMessageRequest{}, &obscurapb.SharedSubmission{}
	share := rand.N(2) == 0
	if share {
		shared.Message = fill(s.filling/2 + rand.N(s.filling))
		message.Shared = append(message.Shared, shared)
	}
	for _, recipient := range to {
		p := &parcel{id: uuid.New(), from: s.device, to: recipient.device, n: n}
		r.parcels = append(r.parcels, p)
		if share {
			shared.Recipients = append(shared.Recipients, &obscurapb.SharedRecipient{SubmissionId: p.id[:],
				DeviceId: p.to.id[:], Prefix: p.label(shared.GetMessage())})
			continue
		}
		filling := fill(s.filling/2 + rand.N(s.filling))
		message.Messages = append(message.Messages, &obscurapb.Submission{SubmissionId: p.id[:], DeviceId: p.to.id[:],
			Message: append(p.label(filling), filling...)})
	}
	var err error
	if r.body, err = proto.Marshal(message); err != nil {
		panic(err)
	}
	s.ledger.offer(r.parcels)
	return r
}

// flood sends one request of many messages to one device, between two others.
func (s *sender) flood(ctx context.Context, to *recipient, messages int) {
	s.deliver(ctx, s.packFor(s.next, slices.Repeat([]*recipient{to}, messages)))
}

func (s *sender) deliver(ctx context.Context, r *request) {
	twice := rand.N(20) == 0 // some clients are impatient
	for attempt := rand.N(2); ctx.Err() == nil; attempt++ {
		var twin sync.WaitGroup
		if twice {
			twin.Go(func() { s.try(ctx, r, attempt+1) })
		}
		done := s.try(ctx, r, attempt)
		twin.Wait()
		if done {
			break
		}
		if !pause(ctx, 50*time.Millisecond+rand.N(150*time.Millisecond)) {
			return
		}
	}
	if rand.N(20) == 0 && ctx.Err() == nil { // its answer was lost, so it believes
		s.try(ctx, r, rand.N(2))
	}
}

// try makes the request once and reports whether there is an answer that ends it.
func (s *sender) try(ctx context.Context, r *request, at int) (done bool) {
	base := s.world.entrance(at % len(s.world.nodes))
	if base == "" {
		s.ledger.failed(r.parcels)
		return false
	}
	got := s.call(ctx, http.MethodPost, base+"/v1/messages", "application/x-protobuf", r.body, &r.key)
	if ctx.Err() != nil {
		return true
	}
	switch got.status {
	case http.StatusOK:
		var response obscurapb.SendMessageResponse
		if err := proto.Unmarshal(got.body, &response); err != nil {
			s.ledger.complain("an answer of 200 cannot be read: %v", err)
		}
		s.ledger.settle(r, response.GetFailedSubmissions())
		return true
	case 0:
		s.ledger.failed(r.parcels)
		s.ledger.count(&s.ledger.broken)
		if got.silence && !s.silenceOK {
			s.ledger.complain("a request was not answered within %s", s.http.Timeout)
		}
		return false
	case http.StatusServiceUnavailable:
		s.ledger.failed(r.parcels)
		s.ledger.count(&s.ledger.refused)
		s.checkRefusal(got)
		return false
	case http.StatusUnauthorized:
		s.ledger.count(&s.ledger.logins)
		s.login(ctx, base)
		return false
	default:
		s.ledger.failed(r.parcels)
		s.ledger.complain("a request to send was answered with %d: %s", got.status, got.body)
		return got.status < 500
	}
}

// checkRefusal holds a 503 against the contract.
func (s *sender) checkRefusal(got answer) {
	if after, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || after < 1 {
		s.ledger.complain("a 503 without Retry-After: %q", got.header.Get("Retry-After"))
	}
	var body struct{ Error, Code string }
	if err := json.Unmarshal(got.body, &body); err != nil || body.Error == "" || body.Code == "" {
		s.ledger.complain("a 503 without the error body: %s", got.body)
	}
}

// settle writes down what the sender was told. A repeated request must hear the same.
func (l *ledger) settle(r *request, failed []*obscurapb.FailedSubmission) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range r.parcels {
		i := slices.IndexFunc(failed, func(f *obscurapb.FailedSubmission) bool {
			return string(f.GetSubmissionId()) == string(p.id[:])
		})
		before := p.told || p.invalid
		if before && p.told != (i < 0) {
			l.wrongLocked("a repeated request heard another answer than before")
		}
		if i < 0 {
			p.told = true
			if at := p.to.erased.Load(); at != nil && r.began.After(*at) && !before {
				l.wrongLocked("a message to a device that had been deleted was said to be stored")
			}
			continue
		}
		p.invalid = true
		if failed[i].GetErrorCode() != obscurapb.ErrorCode_ERROR_CODE_INVALID_DEVICE || p.to.deleted.Load() == nil {
			l.wrongLocked("a submission failed with " + failed[i].GetErrorCode().String())
		}
	}
	l.answered++
}
