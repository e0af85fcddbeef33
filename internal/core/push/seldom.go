package push

import (
	"sync"
	"time"
)

// seldom lets one line a minute into the log.
type seldom struct {
	mu   sync.Mutex
	last time.Time // guarded by mu
}

func (s *seldom) allow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.last) < time.Minute {
		return false
	}
	s.last = time.Now()
	return true
}
