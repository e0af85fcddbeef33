package blob

import (
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// knownFor is how long an attachment's row is remembered: what is sent to a group is downloaded
	// by all of it at once. So long may one that is deleted with its account still be sent.
	knownFor  = time.Second
	knownMost = 4096
)

// known remembers the sizes of attachments for a moment.
type known struct {
	mu    sync.Mutex
	sizes map[uuid.UUID]knownSize // guarded by mu
}

type knownSize struct {
	size  int64
	until time.Time
}

func (k *known) get(id uuid.UUID) (int64, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	entry, ok := k.sizes[id]
	return entry.size, ok && time.Now().Before(entry.until)
}

func (k *known) put(id uuid.UUID, size int64, until time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sizes == nil || len(k.sizes) >= knownMost {
		k.sizes = map[uuid.UUID]knownSize{}
	}
	k.sizes[id] = knownSize{size, until}
}
