package faults_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// link is a connection path that can be made slow, silent or broken: a toxiproxy.
type link struct {
	*toxiproxy.Proxy
}

func newLink(t testing.TB, name, upstream string) *link {
	t.Helper()
	host := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	l := &link{toxiproxy.NewProxy(host, name, "127.0.0.1:0", upstream)}
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Stop)
	return l
}

// poison adds a toxic, for connections that there are and for new ones, and returns what removes
// it.
func (l *link) poison(t testing.TB, kind, stream string, attributes map[string]int) (heal func()) {
	t.Helper()
	name := kind + "-" + stream
	toxic, err := json.Marshal(map[string]any{"name": name, "type": kind, "stream": stream, "attributes": attributes})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Toxics.AddToxicJson(strings.NewReader(string(toxic))); err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := l.Toxics.RemoveToxic(ctx, name); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// cut breaks every connection and refuses new ones until mend.
func (l *link) cut() { l.Stop() }

func (l *link) mend(t testing.TB) {
	t.Helper()
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
}
