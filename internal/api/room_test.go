package api

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// TestRoomIsMadeOfWhoHasTheMost lets a crowd of one address have most of the connections.
func TestRoomIsMadeOfWhoHasTheMost(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	doors := NewListener(inner, nil, nil)
	defer doors.Abandon()
	dial := func(from string) (client net.Conn, server *connection) {
		client, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		accepted, err := doors.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return client, accepted.(*connection)
	}
	answered := func(from string) *connection {
		_, c := dial(from)
		c.served()
		noteState(c, fasthttp.StateIdle)
		return c
	}
	var crowd, few []*connection
	for range 12 {
		crowd = append(crowd, answered(one))
	}
	for range 3 {
		few = append(few, answered(another))
	}
	_, newcomer := dial(one)
	socket, begun := answered(one), answered(one)
	socket.phase.Store(int32(working))
	begun.phase.Store(int32(arriving)) // with a part of the next request
	begun.waits.Store(1)               // long ago

	lack := func(need int) {
		doors.descriptors = (len(doors.open) - need) * 8 / 7
		doors.room = room{}
		doors.makeRoom()
	}
	ended := func(c *connection) bool {
		t.Helper()
		if phase(c.phase.Load()) == idle { // else its time may be over
			_ = c.tcp.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		} else {
			defer time.AfterFunc(time.Second, func() { _ = c.tcp.Close() }).Stop()
		}
		_, err := c.tcp.Read(make([]byte, 1))
		var timeout net.Error
		late := errors.As(err, &timeout) && timeout.Timeout()
		return errors.Is(err, io.EOF) || late && phase(c.phase.Load()) == arriving
	}
	lack(0)
	if ended(crowd[0]) {
		t.Error("one is ended while there is room")
	}
	lack(4)
	for i, c := range crowd { // 13 wait, so it loses 7: the one that has begun is the oldest
		if got, want := ended(c), i < 6; got != want {
			t.Errorf("%d of the crowd: %t, want %t", i, got, want)
		}
	}
	if !ended(begun) {
		t.Error("what has begun long ago is left")
	}
	for i, c := range few {
		if ended(c) {
			t.Errorf("%d of the few is ended", i)
		}
	}
	for name, c := range map[string]*connection{"the newcomer": newcomer, "the socket": socket} {
		c.phase.Store(int32(idle)) // only so that it is looked at
		if ended(c) {
			t.Errorf("%s is ended", name)
		}
	}
}
