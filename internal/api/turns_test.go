package api

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
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

// More stays with the kernel.
func TestTurnsAreBounded(t *testing.T) {
	t.Parallel()
	l, dial := crowd(t, func(l *Listener) { l.waiting = 10 })
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

func TestStrangersKnownNetworksAndProxiesHaveTurnsAlike(t *testing.T) {
	t.Parallel()
	var all turns
	names := map[*connection]string{}
	add := func(name string, from netip.Addr, to int) {
		c := &connection{}
		names[c] = name
		all.add(c, from, to)
	}
	for i := range 4 {
		add(fmt.Sprintf("stranger%d ", i), networkOf(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})), strangers)
	}
	for i := range 2 {
		add(fmt.Sprintf("known%d ", i), networkOf(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})), known)
	}
	for i := range 3 {
		add(fmt.Sprintf("proxy%d ", i), netip.Addr{}, proxies)
	}
	order := ""
	for c, _ := all.next(); c != nil; c, _ = all.next() {
		order += names[c]
	}
	if want := "known0 proxy0 stranger0 known1 proxy1 stranger1 proxy2 stranger2 stranger3 "; order != want {
		t.Errorf("%swant %s", order, want)
	}
}

// A device that is connected opens one connection more while thousands of others come back.
func TestANetworkThatIsConnectedDoesNotWaitForACrowdOfOthers(t *testing.T) {
	t.Parallel()
	const crowded, others = "127.0.4.", 60
	l, dial := crowd(t, func(*Listener) {})
	come := func() {
		for i := range others {
			dial(crowded+strconv.Itoa(i+1), 1)
		}
		dial(one, 1)
	}
	place := func() int { return slices.Index(from(t, l, others+1), one) }

	dial(one, 1)
	connected, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	come()
	if n := place(); n != others {
		t.Errorf("who has not made a request yet is served after %d others, of %d", n, others)
	}
	connected.(*connection).served()
	come()
	if n := place(); n > others/takesAtOnce+1 { // it is taken from the kernel after the crowd
		t.Errorf("who is connected is served after %d others", n)
	}
	_ = connected.Close()
	come()
	if n := place(); n != others {
		t.Errorf("who is not connected any more is served after %d others, of %d", n, others)
	}
}

// One customer has as many addresses of IPv6 as they like.
func TestANetworkOfIPv6HasOneTurn(t *testing.T) {
	t.Parallel()
	var all turns
	for _, address := range []string{"2001:db8:1:a::1", "2001:db8:1:b::1", "2001:db8:1:c::1", "2001:db8:2::1"} {
		all.add(&connection{}, networkOf(netip.MustParseAddr(address)), strangers)
	}
	all.next()
	if _, second := all.next(); second != networkOf(netip.MustParseAddr("2001:db8:2::")) {
		t.Errorf("the second turn is that of %s", second)
	}
}
