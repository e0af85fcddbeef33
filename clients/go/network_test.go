package obscura_test

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

var errNetwork = errors.New("the network failed")

// network is a client's way to a relay. It can fail both ways, and cut sockets. What passes is held
// against the contract.
type network struct {
	next http.RoundTripper

	mu      sync.Mutex
	fail    func(*http.Request) verdict // guarded by mu
	sockets map[*wire]bool              // guarded by mu
}

// verdict is what becomes of a request.
type verdict int

const (
	passed     verdict = iota
	notApplied         // it never arrives
	applied            // it arrives, and the answer is lost
)

// join makes a relay that is talked to over a network of its own.
func join(t *testing.T, r *relaytest.Relay, options obscura.Options) (*obscura.Relay, *network) {
	t.Helper()
	n := &network{next: r.HTTP().Transport, sockets: make(map[*wire]bool)}
	options.HTTPClient = &http.Client{Transport: n, Timeout: relaytest.Patience}
	options.SealedTransport = n // it does not tell connections apart: TestSealedCallsAreUnlinked does
	relay, err := obscura.New(r.API, options)
	if err != nil {
		t.Fatal(err)
	}
	return relay, n
}

// failing decides from now on what becomes of requests.
func (n *network) failing(fail func(*http.Request) verdict) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fail = fail
}

func (n *network) RoundTrip(request *http.Request) (*http.Response, error) {
	fate := passed
	n.mu.Lock()
	if n.fail != nil {
		fate = n.fail(request)
	}
	n.mu.Unlock()
	if fate == notApplied {
		return nil, errNetwork
	}
	response, err := n.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if fate == applied {
		_ = response.Body.Close()
		return nil, errNetwork
	}
	if both, ok := response.Body.(io.ReadWriteCloser); ok && response.StatusCode == http.StatusSwitchingProtocols {
		w := &wire{ReadWriteCloser: both, network: n}
		n.mu.Lock()
		n.sockets[w] = false
		n.mu.Unlock()
		response.Body = w
	}
	return response, nil
}

// swallow makes the sockets there are lose what the client sends.
func (n *network) swallow() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for w := range n.sockets {
		n.sockets[w] = true
	}
}

// cut breaks the sockets there are.
func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for w := range n.sockets {
		_ = w.Close()
	}
	clear(n.sockets)
}

// wire is an upgraded connection.
type wire struct {
	io.ReadWriteCloser
	network *network
}

func (w *wire) Write(p []byte) (int, error) {
	w.network.mu.Lock()
	swallowed := w.network.sockets[w]
	w.network.mu.Unlock()
	if swallowed {
		return len(p), nil
	}
	return w.ReadWriteCloser.Write(p)
}
