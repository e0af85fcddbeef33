package faults_test

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"time"
)

func TestFaultsOfNodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	t.Run("a node is killed in mid-batch", func(t *testing.T) { w.play(t, load{}, killNode) })
	t.Run("a node is told to stop", func(t *testing.T) { w.play(t, load{}, stopNode) })
	t.Run("both nodes are killed", func(t *testing.T) { w.play(t, load{}, killBoth) })
}

// killNode kills a node whose way to the database is slow, so that a batch is under way.
func killNode(t *testing.T, r *run) {
	n := r.world.nodes[rand.N(2)]
	heal := n.db.poison(downstream, fault{latency: 30 * time.Millisecond})
	r.progress(t, senders)
	n.end(t, syscall.SIGKILL)
	heal()
	r.progress(t, 4*senders) // the other one serves
	n.start(t)
}

// stopNode stops a node as an operator does: it must end in order.
func stopNode(t *testing.T, r *run) {
	n := r.world.nodes[rand.N(2)]
	stop(t, n)
	r.progress(t, 4*senders)
	n.start(t)
}

func stop(t *testing.T, n *node) {
	t.Helper()
	if status := n.end(t, syscall.SIGTERM); status.ExitCode() != 0 {
		t.Errorf("node %s ended with %s:\n%s", n.name, status, n.lastWords())
	}
}

func killBoth(t *testing.T, r *run) {
	for _, n := range r.world.nodes {
		n.end(t, syscall.SIGKILL)
	}
	for _, n := range r.world.nodes {
		n.start(t)
	}
}
