package mailbox

import (
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
)

// fate is what has become of an accepted envelope: a reason of core, or one of these two.
type fate = core.GapReason

const (
	pending      fate = 0
	acknowledged fate = 100
)

// letter is an accepted envelope in the model. Its sequence is its place in the ledger, from 1 on.
type letter struct {
	fate fate
	from core.UserID
	text string
	// old: it has expired, whether or not anybody has noticed.
	old bool
	// skipped counts the sockets that passed it over.
	skipped int
	// told: its gap was reported and followed by an acknowledgement, and is forgotten.
	told bool
}

// ledger is the model of a mailbox: every letter that was accepted, in order, each with one fate.
// That is the whole sentence: accepted = acknowledged + pending + reported in gaps.
type ledger struct {
	device  core.DeviceID
	letters []letter
	acked   int64
}

func (l *ledger) accept(from core.UserID, text string) {
	l.letters = append(l.letters, letter{from: from, text: text})
}

// whisper is how quiet letters begin.
const whisper = "whisper "

// loud is the sequence of the last letter that is not quiet, 0 for none.
func (l *ledger) loud() (seq int64) {
	for i := range l.letters {
		if !strings.HasPrefix(l.letters[i].text, whisper) {
			seq = int64(i) + 1
		}
	}
	return seq
}

// makeRoom drops from the sender who holds most, oldest first, and of two who hold the same from
// the one with the older letter, until the cap is kept.
func (l *ledger) makeRoom() {
	for len(l.pending(0)) > core.MailboxCap {
		held, first, heaviest := map[core.UserID]int{}, map[core.UserID]int64{}, uuid.Nil
		waiting := l.pending(0)
		for i := len(waiting) - 1; i >= 0; i-- {
			from := l.letters[waiting[i]-1].from
			held[from]++
			first[from] = waiting[i]
		}
		for from := range held {
			if heaviest == uuid.Nil || held[from] > held[heaviest] ||
				held[from] == held[heaviest] && first[from] < first[heaviest] {
				heaviest = from
			}
		}
		l.letters[first[heaviest]-1].fate = core.GapCap
	}
}

// acknowledge settles what is pending of some sequences, and gaps that were reported before them
// and have not grown since.
func (l *ledger) acknowledge(sequences []int64, reported []core.Gap) {
	for _, seq := range sequences {
		if seq >= 1 && seq <= int64(len(l.letters)) && l.letters[seq-1].fate == pending {
			l.letters[seq-1].fate = acknowledged
			l.acked = max(l.acked, seq)
		}
	}
	known := l.gaps()
	for _, gap := range reported {
		if slices.Contains(known, gap) {
			for seq := gap.From; seq <= gap.To; seq++ {
				l.letters[seq-1].told = true
			}
		}
	}
}

// drop gives all pending letters that a condition names a fate.
func (l *ledger) drop(fate fate, condition func(*letter) bool) {
	for i := range l.letters {
		if x := &l.letters[i]; x.fate == pending && condition(x) {
			x.fate = fate
		}
	}
}

func (l *ledger) expire() { l.drop(core.GapExpired, func(x *letter) bool { return x.old }) }

// read returns the sequences of the next page above a cursor. A page that holds an expired letter
// makes all of them be dropped.
func (l *ledger) read(cursor int64) []int64 {
	page := l.page(cursor)
	if slices.ContainsFunc(page, func(seq int64) bool { return l.letters[seq-1].old }) {
		l.expire()
	}
	return l.page(cursor)
}

func (l *ledger) page(cursor int64) []int64 {
	waiting := l.pending(cursor)
	return waiting[:min(len(waiting), pageRows)]
}

// passOver counts that a socket passed letters over, and sets those aside that ten have.
func (l *ledger) passOver(sequences []int64) {
	for _, seq := range sequences {
		x := &l.letters[seq-1]
		if x.skipped++; x.fate == pending && x.skipped == 10 {
			x.fate = core.GapQuarantined
		}
	}
}

// pending lists what waits above a sequence.
func (l *ledger) pending(after int64) []int64 {
	var out []int64
	for seq := after + 1; seq <= int64(len(l.letters)); seq++ {
		if l.letters[seq-1].fate == pending {
			out = append(out, seq)
		}
	}
	return out
}

// gaps lists the ranges that were dropped and not told.
func (l *ledger) gaps() []core.Gap {
	var out []core.Gap
	for i := range l.letters {
		x, seq := &l.letters[i], int64(i+1)
		if x.fate == pending || x.fate == acknowledged || x.told {
			continue
		}
		if n := len(out); n > 0 && out[n-1].To == seq-1 && out[n-1].Reason == x.fate {
			out[n-1].To = seq
			continue
		}
		out = append(out, core.Gap{From: seq, To: seq, Reason: x.fate})
	}
	return out
}
