package faults_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"
)

// ledger is what senders were told in one run, and what was wrong.
type ledger struct {
	mu      sync.Mutex
	parcels map[uuid.UUID]*parcel // guarded by mu, as everything below
	wrong   []string
	more    int // complaints beyond those
	closes  map[int]int

	answered, refused, broken, logins int
	noSocket                          int // tries to open the gateway that were refused or broken
	// filled by the audit
	stored, seen, repeated, pending, gapped, untold, erased int
}

func newLedger() *ledger {
	return &ledger{parcels: map[uuid.UUID]*parcel{}, closes: map[int]int{}}
}

// maxWrong is how many complaints are kept: the first ones tell most.
const maxWrong = 25

func (l *ledger) complain(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrongLocked(fmt.Sprintf(format, args...))
}

func (l *ledger) wrongLocked(what string) {
	if len(l.wrong) == maxWrong {
		l.more++
		return
	}
	l.wrong = append(l.wrong, what)
}

func (l *ledger) count(n *int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*n++
}

func (l *ledger) closedWith(code int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closes[code]++
}

func (l *ledger) offer(parcels []*parcel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range parcels {
		l.parcels[p.id] = p
	}
}

func (l *ledger) failed(parcels []*parcel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range parcels {
		p.failures++
	}
}

// read returns a figure.
func (l *ledger) read(n *int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return *n
}

// unanswered returns the parcels whose sender has heard of a failure and of nothing else yet.
func (l *ledger) unanswered() []uuid.UUID {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []uuid.UUID
	for id, p := range l.parcels {
		if p.failures > 0 && !p.told && !p.invalid {
			out = append(out, id)
		}
	}
	return out
}

func (l *ledger) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var told, invalid int
	for _, p := range l.parcels {
		if p.told {
			told++
		}
		if p.invalid {
			invalid++
		}
	}
	codes := make([]string, 0, len(l.closes))
	for _, code := range slices.Sorted(maps.Keys(l.closes)) {
		name := fmt.Sprint(code)
		if code == -1 {
			name = "none"
		}
		codes = append(codes, fmt.Sprintf("%s×%d", name, l.closes[code]))
	}
	return fmt.Sprintf("told %d (%d answers; 503 %d, broken %d, no socket %d, new log-ins %d, no device %d)"+
		" | stored %d = seen %d + never seen %d"+
		" | pending %d, in gaps %d, erased with their device %d, stored before the sender knew %d,"+
		" came again %d | closed with %s | wrong: %d",
		told, l.answered, l.refused, l.broken, l.noSocket, l.logins, invalid, l.stored, l.seen, l.stored-l.seen,
		l.pending, l.gapped, l.erased, l.untold, l.repeated,
		strings.Join(codes, " "), len(l.wrong)+l.more)
}
