package conform

import (
	"bytes"
	"context"
	"net/http"
	"sync/atomic"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/encoding/protowire"
)

// upgradeless asks for the gateway as a client without WebSocket does.
func (t *try) upgradeless(query, token string) *answer {
	return t.call("GET", "/v1/gateway"+query, token, nil)
}

var gatewayChecks = []check{
	{"gateway.ticket", "A ticket opens one socket; used again it is 401.", func(t *try) {
		d := t.device()
		ticket := t.ticket(d)
		s, status := t.dial("?ticket="+ticket, "")
		t.must(s != nil, "a fresh ticket: %d, want 101", status)
		s.drain(false)
		again, status := t.dial("?ticket="+ticket, "")
		t.must(again == nil && status == http.StatusUnauthorized, "a ticket that was used: %d, want 401", status)
		t.post(t.device(), mail(d.id, "still open"))
		s.envelopes(1, "mail on the socket that has the ticket")
	}},
	{"gateway.ticket-raced", "Of several that use one ticket at once, exactly one gets a socket, the others 401.",
		func(t *try) {
			d := t.device()
			for range 3 {
				const atOnce = 6
				ticket := t.ticket(d)
				var opened, refused atomic.Int32
				t.together(atOnce, func(int) {
					switch s, status := t.dial("?ticket="+ticket, ""); {
					case s != nil:
						opened.Add(1)
					case status == http.StatusUnauthorized:
						refused.Add(1)
					}
				})
				t.must(opened.Load() == 1 && refused.Load() == atOnce-1, "of %d at once %d got a socket and %d a 401",
					atOnce, opened.Load(), refused.Load())
			}
		}},
	{"gateway.bad-ticket", "A ticket that was made up is 401 over HTTP, and so are no ticket and no token.",
		func(t *try) {
			for what, query := range map[string]string{"a made-up ticket": "?ticket=" + randomHex(20), "no ticket": ""} {
				s, status := t.dial(query, "")
				t.must(s == nil && status == http.StatusUnauthorized, "GET /v1/gateway with %s: %d, want 401", what, status)
			}
			s, status := t.dial("", "made-up")
			t.must(s == nil && status == http.StatusUnauthorized, "GET /v1/gateway with a made-up token: %d, want 401",
				status)
		}},
	{"gateway.upgrade-required", "The gateway without an upgrade is 426.", func(t *try) {
		d := t.device()
		t.upgradeless("?ticket="+t.ticket(d), "").wantError(http.StatusUpgradeRequired, "(with a ticket)")
		t.upgradeless("", d.token).wantError(http.StatusUpgradeRequired, "(with a token)")
	}},
	{"gateway.bearer", "A device-scoped token in the upgrade request opens a socket.", func(t *try) {
		d := t.device()
		s, status := t.dial("", d.token)
		t.must(s != nil, "GET /v1/gateway with a device-scoped token: %d, want 101", status)
		s.drain(false)
		t.post(t.device(), mail(d.id, "hello"))
		s.envelopes(1, "mail on a socket that was opened with a token")
	}},
	{"gateway.displaced", "A newer socket of a device closes the older with 4409, and gets the mail.", func(t *try) {
		sender, d := t.device(), t.device()
		older := t.connect(d)
		older.drain(false)
		newer := t.connect(d)
		older.closes(4409, "after a newer socket opened")
		newer.drain(false)
		t.post(sender, mail(d.id, "to the newer"))
		newer.envelopes(1, "mail on the newer socket")
	}},
}

// closesOn writes a message on a new device's socket and expects a close code.
func (t *try) closesOn(kind websocket.MessageType, data []byte, code int, what string) {
	d := t.device()
	s := t.connect(d)
	s.drain(false)
	_ = s.write(kind, data) // the close may come while a large one is being written
	s.closes(code, what)
	t.pending(d) // and the device may come back
}

var socketChecks = []check{
	{"gateway.text", "A text frame closes the socket with 1008.", func(t *try) {
		t.closesOn(websocket.MessageText, []byte("hello"), 1008, "after a text frame")
	}},
	{"gateway.garbage", "A frame that is no WebSocketFrame closes the socket with 1008.", func(t *try) {
		t.closesOn(websocket.MessageBinary, bytes.Repeat([]byte{0xff}, 64), 1008, "after garbage")
	}},
	{"gateway.too-big", "A frame above 64 KiB closes the socket with 1009; one of 64 KiB is read.", func(t *try) {
		sender, d := t.device(), t.device()
		t.post(sender, mail(d.id, "to be acknowledged"))
		s := t.connect(d)
		got := s.drain(false).envelopes
		t.must(len(got) == 1, "%d envelopes arrive, want 1", len(got))
		t.must(s.write(websocket.MessageBinary, padded(64<<10, got[0].GetId())) == nil,
			"the socket does not take a frame of 64 KiB")
		s.leave()
		t.settles(d, 0, "after an acknowledgement in a frame of 64 KiB")
		t.closesOn(websocket.MessageBinary, padded(64<<10+1), 1009, "after a frame of 64 KiB and a byte")
	}},
	{"gateway.ping", "The relay answers pings.", func(t *try) {
		s := t.connect(t.device())
		s.drain(false)
		ctx, cancel := context.WithTimeout(t.ctx, patience)
		defer cancel()
		t.must(s.conn.Ping(ctx) == nil, "no pong within %v", patience)
	}},
}

// padded is an acknowledgement with an unknown field, n bytes in all.
func padded(n int, ids ...[]byte) []byte {
	data := protowire.AppendTag(ackFrame(ids...), 1000, protowire.BytesType)
	const length = 3 // bytes of a length between 16 KiB and 2 MiB
	return protowire.AppendBytes(data, make([]byte, n-len(data)-length))
}
