package faults_test

import (
	"syscall"
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/wait"
)

func TestFaultsOfTheBus(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	t.Run("its connection is ended again and again", func(t *testing.T) { w.play(t, load{}, cutBus) })
	t.Run("its connection hangs", func(t *testing.T) { w.play(t, load{}, hangBus) })
}

func TestFaultsOfTheBusOverNATS(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	t.Run("NATS goes away and comes back", func(t *testing.T) { w.play(t, load{}, restartNATS) })
	t.Run("a node starts without NATS", func(t *testing.T) { w.play(t, load{}, startWithoutNATS) })
}

// cutBus keeps notices from arriving while mail flows: the polls find it.
func cutBus(t *testing.T, r *run) {
	const cut = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'obscura-notices'`
	for _, n := range r.world.nodes {
		begin := r.ledger.read(&r.ledger.answered)
		told := false
		wait.Eventually(t, "the node says that notices are not heard, and mail is sent meanwhile", func() bool {
			r.world.numbers(t, cut)
			status, parts := n.ready(t)
			told = told || status == 503 && parts["notices"] != "ok" && parts["database"] == "ok"
			return told && r.ledger.read(&r.ledger.answered) >= begin+senders
		})
	}
}

// hangBus stops the processes that serve the listening connections: nothing is closed, nothing
// comes.
func hangBus(t *testing.T, r *run) {
	pids := r.world.numbers(t, `SELECT pid FROM pg_stat_activity WHERE application_name = 'obscura-notices'`)
	signal := func(sig syscall.Signal) {
		for _, pid := range pids {
			if err := syscall.Kill(int(pid), sig); err != nil {
				t.Error(err)
			}
		}
	}
	signal(syscall.SIGSTOP)
	defer signal(syscall.SIGCONT)
	r.progress(t, senders)
	r.world.awaitReady(t) // with new connections
	if !wait.Within(patience, func() bool {
		return r.world.numbers(t,
			`SELECT count(*) FROM pg_stat_activity WHERE application_name = 'obscura-notices'`)[0] >= 4
	}) {
		t.Error("a node did not notice that its listening connection hangs")
	}
}

func restartNATS(t *testing.T, r *run) {
	port := r.world.natsPort(t)
	r.world.stopNATS()
	for _, n := range r.world.nodes {
		n.awaitNotReady(t, "notices")
	}
	r.progress(t, 2*senders) // it carries hints, nothing else
	r.world.startNATS(t, port)
}

func startWithoutNATS(t *testing.T, r *run) {
	port := r.world.natsPort(t)
	n := r.world.nodes[1]
	n.end(t, syscall.SIGKILL)
	r.world.stopNATS()
	n.start(t)
	n.awaitNotReady(t, "notices")
	r.progress(t, senders)
	r.world.startNATS(t, port)
}
