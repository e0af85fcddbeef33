package faults_test

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"
)

// everything that can be broken at any time, and as often as one likes.
var everything = []struct {
	name string
	do   func(*testing.T, *run)
}{
	{"a node is killed in mid-batch", killNode},
	{"a node is told to stop", stopNode},
	{"both nodes are killed", killBoth},
	{"PostgreSQL is stopped and started", restartDatabase(syscall.SIGINT)},
	{"PostgreSQL is stopped at once", restartDatabase(syscall.SIGQUIT)},
	{"PostgreSQL is killed", restartDatabase(syscall.SIGKILL)},
	{"one process of PostgreSQL is killed", killBackend},
	{"the answers to commits are lost", loseCommits},
	{"answers are cut off after some bytes", truncateAnswers},
	{"connections are reset", resetConnections},
	{"the database is slow", slowDatabase},
	{"the database is silent", silentDatabase},
	{"the bus is cut", cutBus},
	{"the bus hangs", hangBus},
	{"clients vanish", vanish},
	{"a device is taken over", takeOver},
	{"31 days pass", passDays},
	{"a device is deleted", deleteDevice},
}

// newChoices follow from the seed that -seed gives, or from one that the log tells.
func newChoices(t *testing.T) *rand.Rand {
	t.Helper()
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat the choices with -seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// TestRandomFaults breaks two things after each other in one load, chosen at random, again and
// again for as long as -soak says, and prints a ledger for each round.
func TestRandomFaults(t *testing.T) {
	t.Parallel()
	choices := newChoices(t)
	w := newWorld(t, false)
	for round, begun := 1, time.Now(); round == 1 || time.Since(begun) < *soakFor; round++ {
		// The last three change the cast for good: nothing comes after them.
		first, second := everything[choices.IntN(len(everything)-3)], everything[choices.IntN(len(everything))]
		name := fmt.Sprintf("round %d: %s, then %s", round, first.name, second.name)
		passed := t.Run(name, func(t *testing.T) {
			w.play(t, load{}, func(t *testing.T, r *run) {
				first.do(t, r)
				w.awaitReady(t)
				second.do(t, r)
			})
		})
		if !passed {
			return
		}
	}
}
