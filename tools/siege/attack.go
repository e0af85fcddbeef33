package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

// attacks are what is tried. Each has many attackers, who do one thing again and again.
var attacks = []struct {
	name      string
	attackers int
	addresses int // of 127.1.0.0/16, which they share
	do        func(ctx context.Context, a *attacker)
}{
	{"connections that say nothing", 10_000, 100, silent},
	{halfHandshakes, 10_000, 100, halfHandshake},
	{"headers that come a byte a second", 3000, 100, slowHeader},
	{"bodies that come a byte a second", 3000, 100, slowBody},
	{"bodies that are announced only", 5000, 100, announced},
	{"log-ins on one name", 64, 64, func(ctx context.Context, a *attacker) { a.logIn(ctx, a.plan.Victim) }},
	{"log-ins on many names", 256, 256, func(ctx context.Context, a *attacker) { a.logIn(ctx, "guess_"+short()) }},
	{"registrations", 256, 256, register},
	{"tokens that are made up", 64, 64, madeUp},
	{"bundles of one user", 60, 20, bundles},
	{"mail for one mailbox", 20, 20, mail},
	{"acknowledgements of nothing", 20, 20, acknowledge},
	{"pings", 20, 20, pings},
	{"reconnects", 1000, 250, reconnect},
	{stampede, crowdDevices, crowdDevices, comeBack},
	{"tickets that are made up", 1000, 250, madeUpTicket},
	{"slow downloads", 400, 20, download},
}

// halfHandshakes needs a relay that speaks TLS.
const halfHandshakes = "handshakes that do not end"

// stampede is what a relay sees that was gone for a moment: every device comes back at once.
const stampede = "10,000 devices that come back"

// names are those of the attacks that have one of the words, if there are any.
func names(secure bool, words []string) (all []string) {
	for _, a := range attacks {
		wanted := len(words) == 0 || slices.ContainsFunc(words, func(word string) bool {
			return strings.Contains(a.name, word)
		})
		if wanted && (secure || a.name != halfHandshakes) {
			all = append(all, a.name)
		}
	}
	return all
}

// attacker is one of many.
type attacker struct {
	plan     plan
	account  account
	address  net.IP
	attempts *atomic.Int64
	conn     net.Conn // kept between requests
	answers  *bufio.Reader
}

// rest is between two tries that the relay did not take.
const rest = 50 * time.Millisecond

// attack does what it is told on in until that ends, and then says how often it tried.
func attack(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	told := json.NewDecoder(in)
	var p plan
	if err := told.Decode(&p); err != nil {
		return err
	}
	var attempts atomic.Int64
	var all sync.WaitGroup
	for _, one := range attacks {
		if one.name != p.Attack {
			continue
		}
		for i := range one.attackers {
			n := i % one.addresses
			a := &attacker{plan: p, account: p.Accounts[i%len(p.Accounts)], attempts: &attempts,
				address: net.IPv4(127, 1, byte(n/250), byte(n%250+1))}
			all.Go(func() {
				for ctx.Err() == nil {
					attempts.Add(1)
					one.do(ctx, a)
				}
				a.hangUp()
			})
		}
	}
	for attempts.Load() == 0 {
		pause(ctx, time.Millisecond)
	}
	fmt.Fprintln(out, "begun")
	_, err := io.Copy(io.Discard, io.MultiReader(told.Buffered(), in))
	stop()
	all.Wait()
	fmt.Fprintln(out, attempts.Load())
	return err
}

func short() string { return strings.ReplaceAll(uuid.NewString(), "-", "")[:16] }

// dial opens a connection from the attacker's address, over TLS if the relay speaks it. nil: it
// cannot now.
func (a *attacker) dial(ctx context.Context) net.Conn {
	conn := a.dialTCP(ctx)
	if conn == nil || !a.plan.TLS {
		return conn
	}
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		pause(ctx, rest)
		return nil
	}
	return secure
}

// dialTCP opens a connection that ends with ctx.
func (a *attacker) dialTCP(ctx context.Context) net.Conn {
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: a.address}, Timeout: 5 * time.Second}).DialContext(ctx, "tcp",
		a.plan.Relay)
	if err != nil {
		pause(ctx, rest)
		return nil
	}
	context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return conn
}

func (a *attacker) hangUp() {
	if a.conn != nil {
		_ = a.conn.Close()
		a.conn = nil
	}
}

// ask makes a request and reads the answer. The connection is kept. A refusal is followed by a
// moment's rest: otherwise the attackers would take the processors.
func (a *attacker) ask(ctx context.Context, method, path, contentType string, body []byte, token string) {
	if a.conn == nil {
		if a.conn = a.dial(ctx); a.conn == nil {
			return
		}
		a.answers = bufio.NewReader(a.conn)
	}
	head := method + " " + path + " HTTP/1.1\r\nHost: relay\r\n"
	if token != "" {
		head += "Authorization: Bearer " + token + "\r\n"
	}
	if body != nil {
		head += fmt.Sprintf("Content-Type: %s\r\nContent-Length: %d\r\n", contentType, len(body))
	}
	_, err := a.conn.Write(append([]byte(head+"\r\n"), body...))
	var response *http.Response
	if err == nil {
		response, err = http.ReadResponse(a.answers, nil)
	}
	if err != nil {
		a.hangUp()
		pause(ctx, rest)
		return
	}
	_, err = io.Copy(io.Discard, response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil || response.Close {
		a.hangUp()
	}
	if response.StatusCode == http.StatusTooManyRequests || response.StatusCode == http.StatusServiceUnavailable {
		pause(ctx, rest)
	}
}

// hold writes the first bytes to a connection, and then one every second until it is closed.
func (a *attacker) hold(ctx context.Context, conn net.Conn, first string, drip bool) {
	if conn == nil {
		return
	}
	defer pause(ctx, rest)
	defer conn.Close()
	if _, err := io.WriteString(conn, first); err != nil {
		return
	}
	if drip {
		dripping, stop := context.WithCancel(ctx)
		defer stop()
		go func() {
			for dripping.Err() == nil {
				pause(dripping, time.Second)
				if _, err := conn.Write([]byte("a")); err != nil {
					return
				}
			}
		}()
	}
	_, _ = io.Copy(io.Discard, conn) // until the relay closes it
}

func silent(ctx context.Context, a *attacker) { a.hold(ctx, a.dialTCP(ctx), "", false) }

// halfHandshake sends a message of a handshake without its last byte: the longest that TLS has, 64
// KiB in records of 16.
func halfHandshake(ctx context.Context, a *attacker) {
	message := append([]byte{1, 0, 0xff, 0xff}, make([]byte, 0xfffe)...)
	var records []byte
	for record := range slices.Chunk(message, 0x4000) {
		records = append(records, 22, 3, 1, byte(len(record)>>8), byte(len(record)))
		records = append(records, record...)
	}
	a.hold(ctx, a.dialTCP(ctx), string(records), false)
}

func slowHeader(ctx context.Context, a *attacker) {
	a.hold(ctx, a.dial(ctx), "POST /v1/sessions HTTP/1.1\r\nHost: relay\r\nX-Slow: ", true)
}
func slowBody(ctx context.Context, a *attacker) {
	a.hold(ctx, a.dial(ctx), "POST /v1/sessions HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\n"+
		"Content-Length: 4000\r\n\r\n{", true)
}
func announced(ctx context.Context, a *attacker) {
	a.hold(ctx, a.dial(ctx), "POST /v1/messages HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer "+a.account.Token+
		"\r\nContent-Type: application/x-protobuf\r\nContent-Length: 2000000\r\n\r\n", false)
}

func (a *attacker) logIn(ctx context.Context, name string) {
	body, _ := json.Marshal(map[string]string{"username": name, "password": "wrong " + short()})
	a.ask(ctx, http.MethodPost, "/v1/sessions", "application/json", body, "")
}

func register(ctx context.Context, a *attacker) {
	body, _ := json.Marshal(map[string]string{"username": "crowd_" + short(), "password": "crowd " + short()})
	a.ask(ctx, http.MethodPost, "/v1/users", "application/json", body, "")
}

func madeUp(ctx context.Context, a *attacker) {
	a.ask(ctx, http.MethodGet, "/v1/devices", "", nil, short()+"."+short()+"."+short())
}

func madeUpTicket(ctx context.Context, a *attacker) {
	if conn, _ := a.upgrade(ctx, "?ticket="+short()+short(), ""); conn != nil {
		_ = conn.Close()
	}
}

func bundles(ctx context.Context, a *attacker) {
	a.ask(ctx, http.MethodGet, "/v1/users/"+a.plan.VictimID, "", nil, a.account.Token)
}

// mail fills the mailbox of one of the attackers' devices.
func mail(ctx context.Context, a *attacker) {
	id, to := uuid.New(), uuid.MustParse(a.plan.Accounts[0].DeviceID)
	request := &obscurapb.SendMessageRequest{}
	for range 8 {
		request.Messages = append(request.Messages, &obscurapb.Submission{SubmissionId: id[:], DeviceId: to[:],
			Message: make([]byte, 200<<10)})
	}
	body, _ := proto.Marshal(request)
	a.ask(ctx, http.MethodPost, "/v1/messages", "application/x-protobuf", body, a.account.Token)
}

// upgrade opens the gateway. nil: the relay did not take it.
func (a *attacker) upgrade(ctx context.Context, query, token string) (net.Conn, *bufio.Reader) {
	conn := a.dial(ctx)
	if conn == nil {
		return nil, nil
	}
	head := "GET /v1/gateway" + query + " HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	if token != "" {
		head += "Authorization: Bearer " + token + "\r\n"
	}
	_, err := io.WriteString(conn, head+"\r\n")
	answers := bufio.NewReader(conn)
	var response *http.Response
	if err == nil {
		response, err = http.ReadResponse(answers, nil) //nolint:bodyclose // it ends with the connection
	}
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		_ = conn.Close()
		pause(ctx, rest)
		return nil, nil
	}
	return conn, answers
}

// frame is one of RFC 6455, masked with zeros: fin and opcode, length, mask, payload of less than
// 126 bytes.
func frame(opcode byte, payload []byte) []byte {
	return append([]byte{0x80 | opcode, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)
}

// flood opens the gateway and writes one thing again and again until the relay closes it.
func (a *attacker) flood(ctx context.Context, what []byte) {
	conn, answers := a.upgrade(ctx, "", a.account.Token)
	if conn == nil {
		return
	}
	defer conn.Close()
	go func() { _, _ = io.Copy(io.Discard, answers) }()
	for {
		if _, err := conn.Write(what); err != nil {
			return
		}
		a.attempts.Add(1)
	}
}

func pings(ctx context.Context, a *attacker) { a.flood(ctx, frame(9, []byte("ping"))) }

func acknowledge(ctx context.Context, a *attacker) {
	id := uuid.New()
	payload, _ := proto.Marshal(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Ack{
		Ack: &obscurapb.AckMessage{MessageIds: [][]byte{id[:], id[:], id[:], id[:]}}}})
	a.flood(ctx, frame(2, payload))
}

// reconnect opens the gateway of a device, which closes another socket of it.
func reconnect(ctx context.Context, a *attacker) {
	if conn, _ := a.upgrade(ctx, "", a.account.Token); conn != nil {
		_ = conn.Close()
	}
}

// comeBack opens the gateway of a device and stays.
func comeBack(ctx context.Context, a *attacker) {
	conn, answers := a.upgrade(ctx, "", a.account.Token)
	if conn == nil {
		return
	}
	_, _ = io.Copy(io.Discard, answers) // until the relay closes it
	_ = conn.Close()
	pause(ctx, rest)
}

// download reads an attachment of the attackers' a KiB a second.
func download(ctx context.Context, a *attacker) {
	conn := a.dial(ctx)
	if conn == nil {
		return
	}
	defer conn.Close()
	_, err := io.WriteString(conn, "GET /v1/attachments/"+a.plan.Attachment+" HTTP/1.1\r\nHost: relay\r\n"+
		"Authorization: Bearer "+a.account.Token+"\r\n\r\n")
	for buffer := make([]byte, 1024); err == nil && ctx.Err() == nil; pause(ctx, time.Second) {
		_, err = conn.Read(buffer)
	}
	pause(ctx, rest)
}
