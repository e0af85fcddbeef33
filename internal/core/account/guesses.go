package account

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/limit"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Wrong passwords are counted by name, whether or not there is such a user, and after the first ten
// each further try has to wait. What follows is that nobody can spend the turns of the owner:
//
//   - A session of the user that changes the password, or that a refresh token shows to have been
//     this user's, waits for its own wrong passwords only.
//   - All others are strangers and share a count, by which their waits grow. Each network among
//     them has turns of its own: it is told how long to wait, and after that it has one try,
//     however many others try beside it.
//
// A try that has to wait costs no hashing, and one that comes to no wrong password costs no turn.
const (
	// FreeGuesses is how many wrong passwords cost no wait.
	FreeGuesses = 10
	// longestWait is the longest wait between two tries; the first one is a second, and each is
	// twice as long as the one before it.
	longestWait = 15 * time.Minute
	// quiet is how long no wrong password must come for the wait to be half as long.
	quiet = 30 * time.Minute
	// maxRemembered bounds the table of wrong passwords at each sweep: some 30 MB. Those with the
	// most wrong passwords stay.
	maxRemembered = 200_000
)

// promises bounds how fast a node adds networks that wait to the table: they cost no hashing.
var promises = limit.Rate{Events: 6000, Per: time.Minute}

// The slots of the table: the count of strangers, then networks, then sessions, each of which falls
// into one of many parts by a hash. No others are in use.
const (
	strangerSlot int32 = -1
	parts        int32 = 1 << 16
)

func tooManyWrong(wait time.Duration) error {
	return &core.Error{Kind: core.Limited, Code: "too_many_wrong_passwords", RetryAfter: max(wait, time.Second),
		Sentence: "Too many wrong passwords were given for this name; wait before the next try."}
}

// guesses is what a node knows of tries at passwords.
type guesses struct {
	// secret keys the hashes that all nodes share. It is set by Load.
	secret   []byte
	promises *limit.Limiter[struct{}]

	mu sync.Mutex
	// going are the tries that are being hashed, which no count has yet. Guarded by mu.
	going map[guessKey]int
}

// guessKey is a name and a slot.
type guessKey struct {
	name [16]byte
	slot int32
}

func newGuesses() *guesses {
	return &guesses{promises: limit.New[struct{}](promises), going: map[guessKey]int{}}
}

// mac is a keyed hash of parts that are not mistaken for others of the same kind.
func (g *guesses) mac(kind string, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, g.secret)
	mac.Write([]byte(kind))
	for _, part := range parts {
		_, _ = mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part)))) //nolint:gosec // short
		mac.Write(part)
	}
	return mac.Sum(nil)
}

// nameHash is what the wrong passwords for a name are kept by.
func (g *guesses) nameHash(name string) [16]byte {
	return [16]byte(g.mac("name", []byte(foldName(name))))
}

// part is which of the parts an address or a session falls into, for this name.
func (g *guesses) part(name [16]byte, kind string, of []byte) int32 {
	return int32(binary.BigEndian.Uint16(g.mac(kind, name[:], of)))
}

// sessionKey marks the refresh tokens of a session, so that they are known for what they are when
// its row has gone.
func (g *guesses) sessionKey(user core.UserID, session core.SessionID) []byte {
	return g.mac("session", user[:], session[:])
}

// guess is one try at the password of a name.
type guess struct {
	name [16]byte
	// counted is the slot whose wrong passwords count, turn the one that takes turns.
	counted, turn int32
}

// stranger is a guess from an address. An IPv6 address stands for its /48, which is what one
// customer may have.
func (g *guesses) stranger(name [16]byte, from netip.Addr) guess {
	if from.Is6() {
		from = netip.PrefixFrom(from, 48).Masked().Addr()
	}
	address := from.As16()
	return guess{name: name, counted: strangerSlot, turn: g.part(name, "network", address[:])}
}

// session is a guess of a session, or of a client that has shown a refresh token of it.
func (g *guesses) session(name [16]byte, session core.SessionID) guess {
	slot := parts + g.part(name, "device", session[:])
	return guess{name: name, counted: slot, turn: slot}
}

// forget is which slots a right password clears.
func (g guess) forget() (first, last int32) {
	if g.counted == strangerSlot {
		return strangerSlot, parts - 1
	}
	return g.counted, g.counted
}

// begin counts a try that is under way and returns how many there are beside it.
func (g *guesses) begin(key guessKey) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.going[key]++
	return g.going[key] - 1
}

func (g *guesses) end(key guessKey) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.going[key]--; g.going[key] == 0 {
		delete(g.going, key)
	}
}

// waitAfter is how long a try has to wait after so many wrong passwords, the last of which was some
// time ago.
func waitAfter(failures int, ago time.Duration) time.Duration {
	longest := FreeGuesses + int(math.Ceil(math.Log2(longestWait.Seconds())))
	level := min(failures, longest) - int(max(0, ago)/quiet)
	if level < FreeGuesses {
		return 0
	}
	return min(longestWait, time.Second<<(level-FreeGuesses))
}

// tryPassword checks a password with a hash, if it is this guess's turn. A wrong one counts, and a
// right one says whether there is anything to forget. Any other outcome gives the turn back, also a
// right password: what follows may fail yet. Returns errWrongPassword, or one with the code
// too_many_wrong_passwords.
func (s *Service) tryPassword(ctx context.Context, g guess, password, hash string) (counts bool, err error) {
	key := guessKey{g.name, g.counted}
	beside := s.guesses.begin(key)
	defer s.guesses.end(key)
	counts, taken, err := s.waitTurn(ctx, g, beside)
	if err != nil {
		return counts, err
	}
	err = s.checkPassword(ctx, password, hash, errWrongPassword)
	wrong := errors.Is(err, errWrongPassword)
	if !wrong && taken.IsZero() {
		return counts, err
	}
	// Also when the caller has stopped waiting.
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	settled := s.cfg.DB.Do(late, func(conn *storage.Tx) error {
		if wrong {
			return storage.Queries.CountWrongPassword(late, conn,
				db.CountWrongPasswordParams{Name: g.name[:], Slot: g.counted})
		}
		return storage.Queries.GiveTurnBack(late, conn,
			db.GiveTurnBackParams{Name: g.name[:], Slot: g.turn, NextAt: taken})
	})
	if settled != nil {
		return counts, settled
	}
	return counts, err
}

// waitTurn returns an error when a guess has to wait, and whether anything is remembered. A turn
// that it has taken is named by the time of the next one.
func (s *Service) waitTurn(ctx context.Context, g guess, beside int) (remembered bool, taken time.Time, err error) {
	slots := []int32{g.counted}
	if g.turn != g.counted {
		slots = append(slots, g.turn)
	}
	rows, err := storage.Ask(ctx, s.cfg.DB, storage.Queries.WrongPasswords,
		db.WrongPasswordsParams{Name: g.name[:], Slots: slots})
	if err != nil {
		return false, taken, err
	}
	failures, ago := 0, time.Duration(0)
	var turn *db.WrongPasswordsRow
	for i, row := range rows {
		if row.Slot == g.counted {
			failures, ago = int(row.Failures), seconds(row.Quiet)
		}
		if row.Slot == g.turn {
			turn = &rows[i]
		}
	}
	remembered = len(rows) > 0
	wait := waitAfter(failures+beside, ago)
	switch {
	case wait == 0:
		return remembered, taken, nil
	case waitAfter(failures, ago) == 0: // those under way may all be right
		return remembered, taken, tooManyWrong(time.Second)
	case turn == nil:
		if s.guesses.promises.Take(struct{}{}) > 0 {
			return remembered, taken, tooManyWrong(wait)
		}
		err = s.cfg.DB.Do(ctx, func(conn *storage.Tx) error {
			return storage.Queries.PromiseTurn(ctx, conn,
				db.PromiseTurnParams{Name: g.name[:], Slot: g.turn, Delay: storage.Interval(wait)})
		})
		if err == nil {
			err = tooManyWrong(wait)
		}
		return remembered, taken, err
	case turn.Wait > 0:
		return remembered, taken, tooManyWrong(seconds(turn.Wait))
	}
	taken, err = storage.Ask(ctx, s.cfg.DB, storage.Queries.TakeTurn,
		db.TakeTurnParams{Name: g.name[:], Slot: g.turn, Delay: storage.Interval(wait)})
	return remembered, taken, storage.NoRowsAs(err, tooManyWrong(wait)) // taken by somebody else, just now
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

// forgetGuesses forgets all wrong passwords for a user's name.
func (s *Service) forgetGuesses(ctx context.Context, tx *storage.Tx, user core.UserID) error {
	row, err := storage.Queries.UserByID(ctx, tx, user)
	if err != nil {
		return err
	}
	name := s.guesses.nameHash(row.Username)
	return storage.Queries.ForgetWrongPasswords(ctx, tx,
		db.ForgetWrongPasswordsParams{Name: name[:], FirstSlot: math.MinInt32, LastSlot: math.MaxInt32})
}

// forgetWrong forgets the wrong passwords before a right one.
func forgetWrong(ctx context.Context, tx *storage.Tx, g guess) error {
	first, last := g.forget()
	return storage.Queries.ForgetWrongPasswords(ctx, tx,
		db.ForgetWrongPasswordsParams{Name: g.name[:], FirstSlot: first, LastSlot: last})
}
