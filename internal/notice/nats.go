package notice

import (
	"errors"
	"log/slog"
	"net/url"
	"strings"

	"github.com/nats-io/nats.go"
)

// natsSubject is the subject of all hints.
const natsSubject = "obscura.notices"

// hintBus carries notices that may be lost beside PostgreSQL, when NATS is configured. Revocations
// stay in the transactions that make them.
type hintBus struct {
	conn *nats.Conn
}

// dialNATS connects, now or whenever the server is there, and reconnects for ever.
func dialNATS(address string, receive func(payload string), resync func(), logger *slog.Logger) (*hintBus, error) {
	conn, err := nats.Connect(address,
		nats.Name("obscura"),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1), // hints are not kept: the polls find the mail
		nats.PingInterval(pulse*8),
		nats.MaxPingsOutstanding(2),
		nats.ConnectHandler(func(*nats.Conn) { resync() }),
		nats.ReconnectHandler(func(*nats.Conn) { resync() }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			logger.Debug("NATS is still unavailable", "component", "notices", "reason", natsReason(address, err))
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			logger.Warn("NATS is unavailable; polls find the mail, and it is tried again", "component", "notices",
				"reason", natsReason(address, err))
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			logger.Warn("NATS reports an error; notices may be lost, and polls find the mail", "component", "notices",
				"reason", natsReason(address, err))
		}))
	if err != nil {
		return nil, errors.New("the NATS URL is not valid") // the error may repeat it, with a password
	}
	if !conn.IsConnected() {
		logger.Warn("NATS is unavailable; polls find the mail, and it is tried again", "component", "notices", "reason",
			natsReason(address, conn.LastError()))
	}
	// One message carries many payloads, one a line.
	_, err = conn.Subscribe(natsSubject, func(m *nats.Msg) {
		for payload := range strings.SplitSeq(string(m.Data), "\n") {
			receive(payload)
		}
	})
	if err != nil {
		conn.Close()
		return nil, errors.New("cannot subscribe on NATS")
	}
	return &hintBus{conn: conn}, nil
}

// natsURLs reads the URLs of a list as the library does.
func natsURLs(list string) (urls []*url.URL, err error) {
	for one := range strings.SplitSeq(list, ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		if !strings.Contains(one, "://") {
			one = "nats://" + one
		}
		u, err := url.Parse(one)
		if err != nil || u.Hostname() == "" {
			return nil, errNATSURL
		}
		urls = append(urls, u)
	}
	return urls, nil
}

// errNATSURL does not repeat the URL, which may hold a password.
var errNATSURL = errors.New("--nats-url must look like nats://nats.example.org:4222; in a password, write @ : / ? # % " +
	"as %40 %3A %2F %3F %23 %25")

// CheckNATSURL returns one exact sentence for a URL, or a list of them, that cannot be read.
func CheckNATSURL(list string) error {
	_, err := natsURLs(list)
	return err
}

// natsReason is why there is no connection, without the password of a URL.
func natsReason(address string, err error) string {
	if err == nil {
		return "no answer yet"
	}
	urls, unread := natsURLs(address)
	if unread != nil {
		return unread.Error()
	}
	reason := err.Error()
	for _, u := range urls {
		if u.User == nil {
			continue
		}
		if password, ok := u.User.Password(); ok && password != "" {
			reason = strings.ReplaceAll(reason, password, "…")
		}
		if name := u.User.Username(); name != "" {
			reason = strings.ReplaceAll(reason, name, "…") // may be a token
		}
	}
	return reason
}

func (h *hintBus) publish(payloads []string) error {
	for len(payloads) > 0 {
		n := min(len(payloads), 50) // below the server's default limit of 1 MB
		if err := h.conn.Publish(natsSubject, []byte(strings.Join(payloads[:n], "\n"))); err != nil {
			return errors.New("NATS does not take it")
		}
		payloads = payloads[n:]
	}
	return nil
}

func (h *hintBus) close() { h.conn.Close() }

// TryNATS connects to a NATS server once and returns why it cannot.
func TryNATS(address string) error {
	conn, err := nats.Connect(address, nats.Name("obscura"), nats.Timeout(patience))
	if err == nil {
		defer conn.Close()
		err = conn.FlushTimeout(patience)
	}
	if err != nil {
		return errors.New(natsReason(address, err))
	}
	return nil
}
