package account

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestWaitsDoubleUpToAQuarterOfAnHour(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		failures  int
		ago, want time.Duration
	}{
		{0, 0, 0}, {9, 0, 0}, {10, 0, time.Second}, {11, 0, 2 * time.Second}, {14, 0, 16 * time.Second},
		{19, 0, 512 * time.Second}, {20, 0, 15 * time.Minute},
		{21, 0, 15 * time.Minute}, {1 << 30, 0, 15 * time.Minute},
		{10, 29 * time.Minute, time.Second}, {10, 30 * time.Minute, 0}, {20, 61 * time.Minute, 256 * time.Second},
		{1 << 30, 6 * time.Hour, 0}, {20, -time.Minute, 15 * time.Minute},
	} {
		if got := waitAfter(c.failures, c.ago); got != c.want {
			t.Errorf("%d wrong passwords, the last %v ago: %v, want %v", c.failures, c.ago, got, c.want)
		}
	}
}

func TestAGuessIsKeptByTheNetworkItComesFrom(t *testing.T) {
	t.Parallel()
	g := newGuesses()
	g.secret = []byte("a secret of this test")
	name := g.nameHash("Alice")
	if name != g.nameHash("aLICE") || name == g.nameHash("alicf") {
		t.Error("a name is not compared as names are")
	}
	turn := func(name [16]byte, address string) int32 { return g.stranger(name, netip.MustParseAddr(address)).turn }
	for what, same := range map[string]bool{
		"the networks of one customer":  turn(name, "2001:db8:1:2::1") == turn(name, "2001:db8:1:ffff::9"),
		"the networks of two customers": turn(name, "2001:db8:1::1") != turn(name, "2001:db8:2::1"),
		"two addresses":                 turn(name, "192.0.2.1") != turn(name, "192.0.2.2"),
		"one address, two names":        turn(name, "192.0.2.1") != turn(g.nameHash("bob"), "192.0.2.1"),
	} {
		if !same {
			t.Error(what)
		}
	}
	for range 100 {
		known := g.session(name, uuid.New())
		if slot := turn(name, "192.0.2.1"); known.turn != known.counted || known.turn < parts || slot < 0 || slot >= parts {
			t.Fatalf("a session has %+v, a network %d", known, slot)
		}
	}
}

func TestATokenIsKnownAfterItsSessionAndForItsUserOnly(t *testing.T) {
	t.Parallel()
	s := &Service{guesses: newGuesses()}
	s.guesses.secret = []byte("a secret of this test")
	user, session := uuid.New(), uuid.New()
	token := newRefreshToken(session, s.guesses.sessionKey(user, session))
	if !s.issued(user, session, token) || s.issued(uuid.New(), session, token) ||
		s.issued(user, session, newRefreshToken(session, []byte("another key"))) {
		t.Error("a token is taken for another user's, or one that was made up is not seen")
	}
}
