package push

import (
	"sync"
	"time"
)

// logLimiter lets one line a minute into the log.
type logLimiter struct {
	mu   sync.Mutex
	last time.Time // guarded by mu
}

func (s *logLimiter) allow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.last) < time.Minute {
		return false
	}
	s.last = time.Now()
	return true
}
