package app_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/obscura-relay/obscura/internal/app"
)

// logPipe is a log and its reader, which reads when the test does.
func logPipe(t *testing.T) (log *app.LogFile, reader, writer *os.File) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close(); _ = writer.Close() })
	return app.NewLogFile(app.Config{LogFormat: "json"}, writer), reader, writer
}

func TestLinesOfManyComeWholeAndInTheOrderOfEach(t *testing.T) {
	const writers, each = 8, 500
	log, reader, writer := logPipe(t)
	read := make(chan []string)
	go func() {
		var got []string
		for scanner := bufio.NewScanner(reader); scanner.Scan(); {
			got = append(got, scanner.Text())
		}
		read <- got
	}()
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				fmt.Fprintf(log, "%d %d\n", w, i)
			}
		})
	}
	all.Wait()
	if err := errors.Join(log.Close(), writer.Close()); err != nil {
		t.Fatal(err)
	}
	var next [writers]int
	for _, line := range <-read {
		var w, i int
		if _, err := fmt.Sscanf(line, "%d %d", &w, &i); err != nil || i != next[w] {
			t.Fatalf("%q after %d of its writer", line, next[w])
		}
		next[w]++
	}
	for w, got := range next {
		if got != each {
			t.Errorf("%d lines of writer %d", got, w)
		}
	}
}

func TestALineIsWrittenAtOnceInAQuietTime(t *testing.T) {
	log, reader, _ := logPipe(t)
	fmt.Fprintln(log, "first")
	buffer := make([]byte, 100)
	n, err := reader.Read(buffer) // waits for as long as the test may take
	if err != nil || string(buffer[:n]) != "first\n" {
		t.Errorf("%q, %v", buffer[:n], err)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}

func TestLinesThatTheFileDoesNotTakeAreCounted(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "log")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	reads := func() *os.File {
		reader, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		return reader
	}
	reader := reads()
	writer, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = writer.Close() }()
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	failed := make(chan os.Signal, 1)
	signal.Notify(failed, syscall.SIGPIPE)
	defer signal.Stop(failed)
	log := app.NewLogFile(app.Config{LogFormat: "json"}, writer)
	fmt.Fprint(log, "lost\nlost\nlost\n")
	<-failed // the write to nobody; this test is not parallel, so it is ours
	reader = reads()
	defer func() { _ = reader.Close() }()
	fmt.Fprintln(log, "kept")
	if err := errors.Join(log.Close(), writer.Close()); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(reader)
	if err != nil || !strings.HasPrefix(string(got), "kept\n") || !strings.Contains(string(got), `"lines":3`) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestALogThatNobodyReadsKeepsNobodyWaiting(t *testing.T) {
	const written, size = 10_000, 1000 // more than is kept and a pipe takes
	log, reader, _ := logPipe(t)
	line := append(bytes.Repeat([]byte{'x'}, size-1), '\n')
	for range written {
		if n, err := log.Write(line); n != size || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := log.Close(); err == nil {
		t.Error("it says that all was read")
	}
	var got, dropped int
	scanner := bufio.NewScanner(reader)
	for got+dropped < written && scanner.Scan() {
		if strings.HasPrefix(scanner.Text(), "x") {
			got++
		} else if _, err := fmt.Sscanf(scanner.Text()[strings.Index(scanner.Text(), `"lines":`):], `"lines":%d`,
			&dropped); err != nil {
			t.Fatalf("%q: %v", scanner.Text(), err)
		}
	}
	if got == 0 || dropped == 0 || got+dropped != written {
		t.Errorf("%d lines came, %d are said to be dropped, of %d", got, dropped, written)
	}
}
