package api

import (
	"context"
	"testing"
	"time"
)

func TestUploadsAreBoundedAndWaitedFor(t *testing.T) {
	t.Parallel()
	u := NewUploads()
	for range maxUploads {
		if !u.begin() {
			t.Fatal("refused")
		}
	}
	if u.begin() {
		t.Error("one too many")
	}
	u.end()
	if !u.begin() {
		t.Error("refused although there is room")
	}
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	u.Shutdown(soon)
	if soon.Err() == nil {
		t.Error("it did not wait")
	}
	if u.begin() {
		t.Error("one was taken while stopping")
	}
	go func() {
		<-u.ctx.Done()
		for range maxUploads {
			u.end()
		}
	}()
	u.Abandon()
	u.Shutdown(t.Context())
}
