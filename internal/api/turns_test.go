package api

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// crowd opens connections before anybody accepts them.
func crowd(t *testing.T, change func(*Listener)) (l *Listener, dial func(from string, n int) []net.Conn) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l = NewListener(inner, nil, nil)
	change(l)
	t.Cleanup(l.Abandon)
	return l, func(from string, n int) (dialled []net.Conn) {
		t.Helper()
		for range n {
			conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext(t.Context(), "tcp",
				l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			dialled = append(dialled, conn)
		}
		return dialled
	}
}

// from returns where the next n connections come from that are served.
func from(t *testing.T, l *Listener, n int) (addresses []string) {
	t.Helper()
	for range n {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, conn.RemoteAddr().(*net.TCPAddr).IP.String())
	}
	return addresses
}

func TestOneThatComesAloneDoesNotWaitForACrowd(t *testing.T) {
	t.Parallel()
	l, dial := crowd(t, func(*Listener) {})
	dial(one, 160)
	dial(another, 3)
	served := from(t, l, 163)
	for i, n := 0, 0; n < 3; i++ {
		if served[i] == another {
			n++
		}
		if i > 160/(takesAtOnce-1)+10 {
			t.Fatalf("of the first %d that were served %d are the other's", i, n)
		}
	}
}

// More stays with the kernel, which closes nobody for others.
func TestTurnsAreBounded(t *testing.T) {
	t.Parallel()
	l, dial := crowd(t, func(l *Listener) { l.newcomers.inAll = 20 })
	dial(one, 15)
	dial(another, 15)
	from(t, l, 2)
	if n := l.Open(); n < 10 || n > 12 || l.Refused() != 0 {
		t.Errorf("%d are open, %d were refused", n, l.Refused())
	}
}

// The one listener of two processes ends in one of them: who has come there is served all the same.
func TestThoseThatHaveATurnAreServedAfterTheListenerEnded(t *testing.T) {
	t.Parallel()
	l, dial := crowd(t, func(*Listener) {})
	dial(one, takesAtOnce)
	from(t, l, 1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	from(t, l, takesAtOnce-1)
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// Who waits for a turn cannot have made a request, and is not held to the time and number of those
// who could.
func TestACrowdOfOneAddressIsNotClosedWhileItWaits(t *testing.T) {
	t.Parallel()
	const many = 100
	l, dial := crowd(t, func(l *Listener) { l.newcomers.ofOne = 10 })
	dial(one, many)
	for range many {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn.(*connection).served()
	}
	if n := l.Refused(); n != 0 {
		t.Errorf("%d were refused", n)
	}
}

func TestNobodyIsTakenWithoutDescriptors(t *testing.T) {
	t.Parallel()
	l, dial := crowd(t, func(l *Listener) { l.descriptors = 0 })
	dial(one, 3)
	from(t, l, 2) // none is left after the first
	if n := l.Open(); n != 2 {
		t.Fatalf("%d are open", n)
	}
	third := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		third <- err
	}()
	select {
	case err := <-third:
		t.Fatalf("a third is served: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	l.mu.Lock()
	var both []*connection
	for c := range l.open {
		both = append(both, c)
	}
	l.mu.Unlock()
	for _, c := range both {
		_ = c.Close()
	}
	if err := <-third; err != nil {
		t.Error(err)
	}
}

func TestThoseThatHaveATurnAreClosedWithTheOthers(t *testing.T) {
	t.Parallel()
	l, dial := crowd(t, func(*Listener) {})
	clients := dial(one, takesAtOnce)
	from(t, l, 1)
	l.Abandon()
	for i, conn := range clients {
		if isOpen(t, conn) {
			t.Errorf("connection %d is left open", i)
		}
	}
}

func TestTrustedProxiesHaveEverySecondTurn(t *testing.T) {
	t.Parallel()
	var all turns
	names := map[*connection]string{}
	add := func(name string, from netip.Addr) {
		c := &connection{}
		names[c] = name
		all.add(c, from)
	}
	for i := range 4 {
		add(fmt.Sprintf("client%d ", i), networkOf(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})))
	}
	for i := range 3 {
		add(fmt.Sprintf("proxy%d ", i), netip.Addr{})
	}
	order := ""
	for c, _ := all.next(); c != nil; c, _ = all.next() {
		order += names[c]
	}
	if want := "client0 proxy0 client1 proxy1 client2 proxy2 client3 "; order != want {
		t.Errorf("%swant %s", order, want)
	}
}

// One customer has as many addresses of IPv6 as they like.
func TestANetworkOfIPv6HasOneTurn(t *testing.T) {
	t.Parallel()
	var all turns
	for _, address := range []string{"2001:db8:1:a::1", "2001:db8:1:b::1", "2001:db8:1:c::1", "2001:db8:2::1"} {
		all.add(&connection{}, networkOf(netip.MustParseAddr(address)))
	}
	all.next()
	if _, second := all.next(); second != networkOf(netip.MustParseAddr("2001:db8:2::")) {
		t.Errorf("the second turn is that of %s", second)
	}
}
