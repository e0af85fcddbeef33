package app

import (
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
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

// A socket that is bound only would let the relay start, and end it at the first accept.
func TestASocketOfSystemdsThatDoesNotListenIsRefused(t *testing.T) {
	t.Parallel()
	hold := func(listen bool) net.Listener {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			t.Fatal(err)
		}
		if listen {
			if err := unix.Listen(fd, 1); err != nil {
				t.Fatal(err)
			}
		}
		file := os.NewFile(uintptr(fd), "socket")
		defer func() { _ = file.Close() }()
		l, err := net.FileListener(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	h := onlyListening([]net.Listener{hold(false), hold(true)})
	if len(h) != 2 || h[0] != nil || h[1] == nil {
		t.Fatalf("%v are left", h)
	}
	const want = "systemd hands over a socket that does not listen: its unit needs ListenStream="
	if err := h.used(); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
