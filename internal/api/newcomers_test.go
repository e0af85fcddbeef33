package api

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/obscura-relay/obscura/internal/kit/certtest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// A proxy that is trusted, and two clients.
const (
	proxyAddress = "127.0.9.1"
	one          = "127.0.1.1"
	another      = "127.0.1.2"
)

// door is a listener whose server answers the first byte of a connection with one, as to a request.
type door struct {
	*Listener
	t *testing.T
}

func newDoor(t *testing.T, secure *tls.Config, change func(*Listener)) *door {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := NewListener(inner, []netip.Prefix{netip.MustParsePrefix(proxyAddress + "/32")}, secure)
	change(l)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer func() { _ = conn.Close() }()
				for one := make([]byte, 1); ; {
					if _, err := conn.Read(one); err != nil {
						return
					}
					conn.(*connection).served()
					_, _ = conn.Write(one)
				}
			})
		}
	})
	t.Cleanup(func() { l.Abandon(); serving.Wait() })
	return &door{l, t}
}

// knock opens a connection and says something. It is nil when it was closed that early.
func (d *door) knock(from, first string) net.Conn {
	d.t.Helper()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext(d.t.Context(), "tcp",
		d.Addr().String())
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = conn.Close() })
	_, _ = io.WriteString(conn, first) // one that is closed at once may not take it
	return conn
}

// waiting waits until so many newcomers are counted.
func (d *door) waiting(want int) {
	d.t.Helper()
	wait.Eventually(d.t, "the newcomers are counted", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.newcomers.count == want
	})
}

// isOpen reports whether a connection that says nothing is left open for a moment, or answers.
func isOpen(t *testing.T, conn net.Conn) bool {
	t.Helper()
	if conn == nil {
		return false
	}
	_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	_, err := conn.Read(make([]byte, 1))
	return err == nil || errors.Is(err, os.ErrDeadlineExceeded)
}

// isShut waits until a connection that is not answered is closed.
func isShut(t *testing.T, conn net.Conn) bool {
	t.Helper()
	if conn == nil {
		return true
	}
	_ = conn.SetReadDeadline(time.Now().Add(wait.Patience))
	_, err := conn.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

func TestNewcomersOfAnAddressAreBounded(t *testing.T) {
	t.Parallel()
	d := newDoor(t, nil, func(l *Listener) { l.newcomers.ofOne = 3 })
	first := d.knock(one, "")
	d.knock(one, "")
	d.knock(one, "")
	d.waiting(3)
	if !isShut(t, d.knock(one, "")) || !isShut(t, d.knock(one, "x")) {
		t.Error("a fourth is let in")
	}
	if d.Refused() != 2 {
		t.Errorf("%d are counted", d.Refused())
	}
	if !isOpen(t, d.knock(another, "")) || !isOpen(t, first) {
		t.Error("others pay for it")
	}
	// Who has made a request is no newcomer, and neither is who has left.
	_, _ = io.WriteString(first, "x")
	d.waiting(3) // with the other's
	fourth := d.knock(one, "")
	d.waiting(4)
	_ = fourth.Close()
	d.waiting(3)
	if !isOpen(t, d.knock(one, "")) {
		t.Error("after two have made room nobody is let in")
	}
}

func TestNewcomersInAllAreBoundedAtTheCostOfThoseWithTheMost(t *testing.T) {
	t.Parallel()
	d := newDoor(t, nil, func(l *Listener) { l.newcomers.inAll, l.newcomers.young = 5, time.Hour })
	var crowd []net.Conn
	for i := range 4 {
		crowd = append(crowd, d.knock(one, ""))
		d.waiting(i + 1)
	}
	d.knock(another, "")
	d.waiting(5)
	for i, address := range []string{"127.0.1.3", "127.0.1.4"} {
		if !isOpen(t, d.knock(address, "")) {
			t.Errorf("newcomer %d is closed", i)
		}
		for j, conn := range crowd {
			if gone := j <= i; gone && !isShut(t, conn) || !gone && !isOpen(t, conn) {
				t.Errorf("after newcomer %d the crowd's %d is closed: %v", i, j, !gone)
			}
		}
	}
	// Now two are one's: another's second would only change places with it, and one more of a new
	// address takes the place of one.
	if !isShut(t, d.knock(another, "")) {
		t.Error("an address that has as many gets more")
	}
	if !isOpen(t, d.knock("127.0.1.5", "")) || !isShut(t, crowd[2]) {
		t.Error("the last of the crowd stays")
	}
	// All have one: who comes now is closed, and nobody's handshake is in vain.
	if !isShut(t, d.knock("127.0.1.6", "")) || !isOpen(t, crowd[3]) {
		t.Error("one newcomer takes another's place")
	}
}

// Silent connections of many addresses must not keep everybody out until their time is over.
func TestTheOldestNewcomerMakesRoomWhenItIsNotYoung(t *testing.T) {
	t.Parallel()
	d := newDoor(t, nil, func(l *Listener) { l.newcomers.inAll, l.newcomers.young = 3, 300*time.Millisecond })
	var silent []net.Conn
	for i, address := range []string{"127.0.1.1", "127.0.1.2", "127.0.1.3"} {
		silent = append(silent, d.knock(address, ""))
		d.waiting(i + 1)
	}
	var let net.Conn
	wait.Eventually(t, "somebody else is let in", func() bool {
		let = d.knock("127.0.1.4", "x")
		return !isShut(t, let) // it is answered
	})
	if !isShut(t, silent[0]) || !isOpen(t, silent[1]) || !isOpen(t, silent[2]) {
		t.Error("it was not the oldest that made room")
	}
	if !isOpen(t, d.knock("127.0.1.5", "")) { // the first to come in has made its request
		t.Error("who has made a request still counts")
	}
}

func TestNewcomersBehindAProxyCountByTheirOwnAddress(t *testing.T) {
	t.Parallel()
	d := newDoor(t, nil, func(l *Listener) { l.newcomers.ofOne = 2 })
	for range 5 { // the proxy's own are not bounded
		if !isOpen(t, d.knock(proxyAddress, "")) {
			t.Fatal("the proxy is shut out")
		}
	}
	client := func(address string) string {
		return "PROXY TCP4 " + address + " 192.0.2.1 1 2\r\n"
	}
	d.knock(proxyAddress, client("198.51.100.1"))
	d.knock(proxyAddress, client("198.51.100.1"))
	d.waiting(2)
	if !isShut(t, d.knock(proxyAddress, client("198.51.100.1"))) {
		t.Error("a third of a client is let in")
	}
	if !isOpen(t, d.knock(proxyAddress, client("198.51.100.2"))) {
		t.Error("another client is shut out")
	}
	for _, network := range []string{"2001:db8:1:a::1", "2001:db8:1:b::1"} { // of one customer
		d.knock(proxyAddress, version2Header(network))
	}
	d.waiting(5)
	if !isShut(t, d.knock(proxyAddress, version2Header("2001:db8:1:f::9"))) {
		t.Error("a third of a /48 is let in")
	}
}

// A header comes in one segment from most proxies, and byte by byte from the worst.
func TestAProxyHeaderMayComeInParts(t *testing.T) {
	t.Parallel()
	read := func(from io.Reader) (header *proxyproto.Header, rest string, problem error) {
		buffer := bufio.NewReaderSize(&whole{Reader: from}, 256)
		header, problem = proxyproto.Read(buffer)
		left, err := io.ReadAll(buffer)
		if err != nil {
			t.Error(err)
		}
		return header, string(left), problem
	}
	const first, request = "PROXY TCP4 198.51.100.1 192.0.2.1 1 2\r\n", "POST / HTTP/1.1\r\n\r\n"
	for _, all := range []string{first + request, version2Header("2001:db8::1") + request, "PROXY UNKNOWN\r\n" + request,
		request, "P", "PROXY", "PROXY TCP4 1", "PROXY " + strings.Repeat("x", 200), ""} {
		header, rest, problem := read(iotest.OneByteReader(strings.NewReader(all)))
		whole, wholeRest, wholeProblem := read(strings.NewReader(all))
		if !reflect.DeepEqual(header, whole) || rest != wholeRest || !errors.Is(problem, wholeProblem) {
			t.Errorf("%q: %v, %q, %v; at once %v, %q, %v", all, header, rest, problem, whole, wholeRest, wholeProblem)
		}
	}
	if header, rest, problem := read(strings.NewReader(first + request)); problem != nil || rest != request ||
		header.SourceAddr.String() != "198.51.100.1:1" {
		t.Errorf("%v, %q, %v", header, rest, problem)
	}
}

func version2Header(client string) string {
	address := netip.MustParseAddr(client).AsSlice()
	body := append(append(address, address...), 0, 1, 0, 2)
	header := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21"), 0x21)
	return string(append(binary.BigEndian.AppendUint16(header, uint16(len(body))), body...))
}

func certified(t *testing.T) *tls.Config {
	t.Helper()
	certificate, key := certtest.New().Files(t)
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}
}

func TestAHandshakeIsBoundedInBytesAndTime(t *testing.T) {
	t.Parallel()
	secure := certified(t)
	// A message of a handshake may have 64 KiB, in records of 16: type, version, length.
	record := append([]byte{22, 3, 1, 0x40, 0}, make([]byte, 0x4000)...)
	copy(record[5:], []byte{1, 0, 0xff, 0xff})
	long := newDoor(t, secure, func(l *Listener) { l.patience = time.Hour })
	conn := long.knock(one, string(record))
	_ = conn.SetReadDeadline(time.Now().Add(wait.Patience))
	if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("more than 16 KiB are waited for")
	}
	short := newDoor(t, secure, func(l *Listener) { l.patience = 300 * time.Millisecond })
	for what, first := range map[string]string{"silence": "", "half a record": string(record[:100])} {
		conn := short.knock(one, first)
		_ = conn.SetReadDeadline(time.Now().Add(wait.Patience))
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s is waited for", what)
		}
	}
	// After the handshake there is no such bound, neither in time nor in bytes.
	var client *tls.Conn
	wait.Eventually(t, "a handshake is in time", func() bool {
		client = tls.Client(short.knock(one, ""), &tls.Config{InsecureSkipVerify: true})
		return client.Handshake() == nil
	})
	if !isOpen(t, client) {
		t.Fatal("a connection after its handshake is closed")
	}
	time.AfterFunc(600*time.Millisecond, func() { _, _ = client.Write(make([]byte, 3*handshakeBytes)) })
	_ = client.SetReadDeadline(time.Now().Add(wait.Patience)) // a record for each byte
	if n, err := io.ReadFull(client, make([]byte, 3*handshakeBytes)); err != nil {
		t.Errorf("after %d bytes: %v", n, err)
	}
}

// TLS would wait 5 seconds for each, one after the other.
func TestClosingDoesNotWaitForClientsThatDoNotRead(t *testing.T) {
	t.Parallel()
	const clients = 5
	secure := certified(t)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{NewListener(inner, nil, secure), t}
	defer d.Abandon()
	var full []net.Conn
	for range clients {
		shaken := make(chan error, 1)
		client := tls.Client(d.knock(one, ""), &tls.Config{InsecureSkipVerify: true})
		go func() {
			_, err := client.Write([]byte("x"))
			shaken <- err
		}()
		conn, err := d.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if err := <-shaken; err != nil {
			t.Fatal(err)
		}
		fill(t, conn.(*connection).tcp)
		full = append(full, conn)
	}
	begun := time.Now()
	for i, conn := range full {
		if i%2 == 0 {
			conn.(*connection).linger.Store(true)
		}
		_ = conn.Close()
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("closing took %v", took)
	}
}

// fill writes until the kernel takes no more.
func fill(t *testing.T, tcp *net.TCPConn) {
	t.Helper()
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Write(func(fd uintptr) bool {
		for err := error(nil); err == nil; {
			_, err = syscall.Write(int(fd), make([]byte, 64<<10))
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Everybody who asks for a goodbye gets one: without it a client takes the end for an attack.
func TestClosingSaysGoodbye(t *testing.T) {
	t.Parallel()
	d := newDoor(t, certified(t), func(*Listener) {})
	client := tls.Client(d.knock(one, ""), &tls.Config{InsecureSkipVerify: true})
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	var theirs *connection
	for c := range d.open {
		theirs = c
	}
	d.mu.Unlock()
	_ = theirs.Close()
	if _, err := client.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // this very value
		t.Errorf("%v, want the end as TLS says it", err)
	}
}
