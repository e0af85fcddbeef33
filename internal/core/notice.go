package core

import (
	"errors"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// NoticeChannel is the PostgreSQL channel on which nodes tell each other what happened.
const NoticeChannel = "obscura"

// maxNoticeIDs keeps a notice below PostgreSQL's limit of 8000 bytes for a payload.
const maxNoticeIDs = 200

// NoticeKind says what a notice is about.
type NoticeKind byte

// The kinds of notices, as their first byte on the wire.
const (
	// NoticeMail: these devices have new mail. A hint: it may be lost, doubled or late.
	NoticeMail NoticeKind = 'm'
	// NoticeKeys: these devices run low on one-time pre-keys. A hint as well.
	NoticeKeys NoticeKind = 'k'
	// NoticeEnded: these sessions have ended; their tokens and sockets stop working.
	NoticeEnded NoticeKind = 'e'
	// NoticeRevoked: the sockets of these devices below Generation are revoked.
	NoticeRevoked NoticeKind = 'r'
	// NoticeDisplaced: the sockets of these devices below Generation have a newer one.
	NoticeDisplaced NoticeKind = 'd'
	// NoticeDue: these devices are about to be woken up, unless a node has a live socket of theirs.
	// A hint.
	NoticeDue NoticeKind = 'w'
	// NoticeSigningKeys: those that sign access tokens or certificates were replaced. Its one id is
	// the nil UUID.
	NoticeSigningKeys NoticeKind = 's'
)

// Notice is what one node tells the others. It carries ids, never data.
type Notice struct {
	Kind NoticeKind
	IDs  []uuid.UUID
	// Generation bounds NoticeRevoked and NoticeDisplaced; 0 otherwise.
	Generation int64
}

// Announcer tells this node at once, and the others soon, what has been committed.
type Announcer interface{ Announce(Notice) }

// Payloads encodes the notice as texts of at most 8000 bytes each.
func (n Notice) Payloads() []string {
	var out []string
	for ids := n.IDs; len(ids) > 0; {
		part := ids[:min(len(ids), maxNoticeIDs)]
		ids = ids[len(part):]
		var b strings.Builder
		b.WriteByte(byte(n.Kind))
		b.WriteString(strconv.FormatInt(n.Generation, 10))
		for _, id := range part {
			b.WriteByte(' ')
			b.WriteString(id.String())
		}
		out = append(out, b.String())
	}
	return out
}

var errNotice = errors.New("malformed notice")

// ParseNotice decodes one payload.
func ParseNotice(payload string) (Notice, error) {
	if payload == "" {
		return Notice{}, errNotice
	}
	n := Notice{Kind: NoticeKind(payload[0])}
	head, rest, found := strings.Cut(payload[1:], " ")
	generation, err := strconv.ParseInt(head, 10, 64)
	if err != nil || !found {
		return Notice{}, errNotice
	}
	n.Generation = generation
	for text := range strings.SplitSeq(rest, " ") {
		id, err := uuid.Parse(text)
		if err != nil {
			return Notice{}, errNotice
		}
		n.IDs = append(n.IDs, id)
	}
	return n, nil
}
