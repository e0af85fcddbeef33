package bench

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/fasthttp/websocket"

	obscura "github.com/obscura-relay/obscura/clients/go"
)

// kinds counts errors by what they are.
type kinds struct {
	mu sync.Mutex
	n  map[string]int64 // guarded by mu
}

func (k *kinds) add(kind string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.n == nil {
		k.n = map[string]int64{}
	}
	k.n[kind]++
}

// read never returns nil, so that JSON has an object.
func (k *kinds) read() map[string]int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.n == nil {
		return map[string]int64{}
	}
	return maps.Clone(k.n)
}

// kindOf names an error in a few words that repeat.
func kindOf(err error) string {
	var refusal *obscura.Error
	var closed *websocket.CloseError
	var network net.Error
	switch {
	case errors.As(err, &refusal):
		kind := strings.TrimSpace(fmt.Sprintf("HTTP %d %s", refusal.Status, refusal.Code))
		if _, asked := comeBack(err); asked && refusal.RetryAfter == 0 {
			return kind + " without Retry-After"
		}
		return kind
	case errors.As(err, &closed):
		return "socket closed " + strconv.Itoa(closed.Code)
	case errors.As(err, &network) && network.Timeout():
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection ended"
	case errors.As(err, &network):
		return "connection failed"
	}
	return err.Error()
}

// failureNames are the error codes of FailedSubmission.
var failureNames = []string{"unspecified", "invalid device", "malformed device id", "malformed submission id",
	"message missing", "message too large", "mailbox full"}

func failureName(code uint64) string {
	if code < uint64(len(failureNames)) {
		return "submission failed: " + failureNames[code]
	}
	return fmt.Sprintf("submission failed: code %d", code)
}

// readAll reads to the end into a buffer that is used again.
func readAll(r io.Reader, buf []byte) ([]byte, error) {
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
}
