package api

import (
	"net/netip"
	"slices"
)

// turns are connections that wait to be served. Each network has its turn after the others. The
// proxies that are trusted have every second one: they bring many clients, who are not known yet.
type turns struct {
	order []netip.Addr // networks that have some, the next one first; the zero one is of the proxies
	of    map[netip.Addr][]*connection
	count int
}

func (t *turns) none() bool { return t.count == 0 }

func (t *turns) add(c *connection, from netip.Addr) {
	if t.of == nil {
		t.of = map[netip.Addr][]*connection{}
	}
	if len(t.of[from]) == 0 {
		t.queue(from)
	}
	t.of[from] = append(t.of[from], c)
	t.count++
}

func (t *turns) queue(from netip.Addr) {
	at := len(t.order)
	if !from.IsValid() {
		at = min(1, at)
	}
	t.order = slices.Insert(t.order, at, from)
}

// next takes the oldest of the network whose turn it is; nil when nobody waits.
func (t *turns) next() (c *connection, from netip.Addr) {
	if t.none() {
		return nil, from
	}
	t.count--
	from, t.order = t.order[0], t.order[1:]
	c = t.of[from][0]
	if t.of[from] = slices.Delete(t.of[from], 0, 1); len(t.of[from]) == 0 {
		delete(t.of, from)
	} else {
		t.queue(from)
	}
	return c, from
}
