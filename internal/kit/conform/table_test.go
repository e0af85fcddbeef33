package conform

import (
	"sync"
	"time"
)

// table is a map for several goroutines.
type table[V any] struct {
	mu sync.Mutex
	m  map[string]V // guarded by mu
}

func newTable[V any]() *table[V] { return &table[V]{m: map[string]V{}} }

func (t *table[V]) put(key string, value V) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.m[key] = value
}

func (t *table[V]) get(key string) (V, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	value, ok := t.m[key]
	return value, ok
}

// add puts a value where there is none and reports whether it did.
func (t *table[V]) add(key string, value V) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, there := t.m[key]; there {
		return false
	}
	t.m[key] = value
	return true
}

// change replaces a value by what f makes of it.
func (t *table[V]) change(key string, f func(V) V) V {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.m[key] = f(t.m[key])
	return t.m[key]
}

// after is how a broken relay is late.
func after(d time.Duration) { <-time.After(d) }
