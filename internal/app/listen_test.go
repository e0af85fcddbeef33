package app

import (
	"net"
	"testing"
)

func TestASocketThatSystemdHoldsIsTakenByItsPort(t *testing.T) {
	t.Parallel()
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	_, port, _ := net.SplitHostPort(held.Addr().String())
	h := heldSockets{nil, held}
	other, err := h.listenOn("the API", "--listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = other.Close()
	want := "systemd hands over a socket that listens on 127.0.0.1:" + port + ", and no setting has its port: " +
		"change --listen (OBSCURA_LISTEN), or the socket's unit"
	if err := (&heldSockets{held}).used(); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if got, err := h.listenOn("the API", "--listen", "0.0.0.0:"+port); err != nil || got != held {
		t.Errorf("%v, %v", got, err)
	}
	const datagrams = "systemd hands over a socket that does not listen: its unit needs ListenStream="
	if err := h.used(); err == nil || err.Error() != datagrams {
		t.Errorf("%v, want %s", err, datagrams)
	}
	if err := (&heldSockets{}).used(); err != nil {
		t.Error(err)
	}
}
