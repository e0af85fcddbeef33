package app

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// listeners are the ports; plain is nil unless http:// leads to https://. They are taken before
// anything is made or waited for.
type listeners struct {
	api, management, plain net.Listener
}

func listen(cfg Config) (l listeners, err error) {
	held, err := activation.Listeners()
	if err != nil {
		return l, err
	}
	h := onlyListening(held)
	defer func() {
		if err == nil {
			err = h.used()
		}
		if err != nil {
			l.close()
		}
	}()
	if l.api, err = h.listenOn("the API", "--listen (OBSCURA_LISTEN)", cfg.listen()); err != nil {
		return l, err
	}
	l.management, err = h.listenOn("management", "--management-listen (OBSCURA_MANAGEMENT_LISTEN)", cfg.ManagementListen)
	if address := cfg.httpListen(); err == nil && address != "" {
		l.plain, err = h.listenOn("plain HTTP", "--http-listen (OBSCURA_HTTP_LISTEN)", address)
	}
	return l, err
}

// heldSockets are those that systemd holds open while one process of the relay follows another, and
// that no setting has taken yet. Connections wait in them meanwhile, and are refused by nobody.
type heldSockets []net.Listener

// onlyListening replaces those that are bound and do not listen by nil: to accept would fail.
func onlyListening(held []net.Listener) heldSockets {
	for i, l := range held {
		if tcp, ok := l.(*net.TCPListener); ok && !listens(tcp) {
			_ = tcp.Close()
			held[i] = nil
		}
	}
	return held
}

func listens(l *net.TCPListener) bool {
	raw, err := l.SyscallConn()
	listening := 0
	if err == nil {
		_ = raw.Control(func(fd uintptr) {
			listening, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		})
	}
	return err != nil || listening == 1
}

// take returns the one with the port of an address; nil: there is none.
func (h *heldSockets) take(address string) net.Listener {
	for i, l := range *h {
		if l == nil { // not of a kind that listens
			continue
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		if _, wanted, _ := net.SplitHostPort(address); port == wanted {
			*h = slices.Delete(*h, i, i+1)
			return l
		}
	}
	return nil
}

// used returns an error for those that no setting has taken: connections would wait there for ever.
func (h *heldSockets) used() error {
	switch left := *h; {
	case len(left) == 0:
		return nil
	case left[0] == nil:
		return errors.New("systemd hands over a socket that does not listen: its unit needs ListenStream=")
	default:
		return fmt.Errorf("systemd hands over a socket that listens on %s, and no setting has its port: "+
			"change --listen (OBSCURA_LISTEN), or the socket's unit", left[0].Addr())
	}
}

// listenOn says which setting to change when it cannot listen.
func (h *heldSockets) listenOn(purpose, setting, address string) (net.Listener, error) {
	if l := h.take(address); l != nil {
		return l, nil
	}
	l, err := net.Listen("tcp", address)
	if err == nil {
		return l, nil
	}
	host, port, _ := net.SplitHostPort(address)
	var why string
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		why = "another program listens there"
		if port == "9090" {
			why += ", perhaps Prometheus, whose own default it is"
		}
	case errors.Is(err, syscall.EACCES):
		why = "this user may not listen on a port below 1024"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		why = "this machine does not have the address " + host
	case errors.As(err, &dns):
		why = "the host name " + host + " is not known"
	default:
		why = "it is not an address with a port from 0 to 65535"
	}
	return nil, fmt.Errorf("cannot listen for %s on %s: %s: choose another address with %s", purpose, address, why,
		setting)
}

// close is for a start that failed; who serves a listener has closed it.
func (l listeners) close() {
	for _, opened := range []net.Listener{l.api, l.management, l.plain} {
		if opened != nil {
			_ = opened.Close()
		}
	}
}
