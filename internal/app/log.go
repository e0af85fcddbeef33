package app

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// newLogger writes text to a terminal, and JSON (one object a line) elsewhere, unless it is told
// which.
func newLogger(format string, level slog.Leveler, out io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	file, isFile := out.(interface{ Fd() uintptr })
	if format == "text" || format == "auto" && isFile && term.IsTerminal(int(file.Fd())) {
		return slog.New(slog.NewTextHandler(out, options))
	}
	return slog.New(slog.NewJSONHandler(out, options))
}

const (
	// logEvery is how often a log under load is written: the first line of a quiet time goes out at
	// once.
	logEvery = 100 * time.Millisecond
	// logMost is how many bytes of lines wait for a reader that has stopped reading.
	logMost = 4 << 20
	// logKept is how large a buffer may be that is used again.
	logKept = 256 << 10
	// logClose is how long the end of the process waits for such a reader.
	logClose = time.Second
)

// LogFile writes lines to a file without making the writer wait: neither for the file, nor for
// other writers' lines to be written. What a reader does not take in time, or the file does not
// take, is dropped, line by line, and counted in a line of its own. Make it with NewLogFile.
type LogFile struct {
	file   *os.File
	logger *slog.Logger  // writes to the file at once
	wake   chan struct{} // holds a token when there are lines, closed at the end
	ended  chan struct{} // closed when the last line has been written

	mu      sync.Mutex
	lines   []byte // guarded by mu: not written yet
	dropped int    // guarded by mu: lines since the last write
	closed  bool   // guarded by mu
}

// NewLogFile begins to write to file, until Close.
func NewLogFile(cfg Config, file *os.File) *LogFile {
	l := &LogFile{file: file, logger: newLogger(cfg.LogFormat, cfg.LogLevel, file), wake: make(chan struct{}, 1),
		ended: make(chan struct{})}
	go l.run()
	return l
}

// Fd is the descriptor of the file, which may be a terminal.
func (l *LogFile) Fd() uintptr { return l.file.Fd() }

// Write takes one or more whole lines, or drops them. It does not fail.
func (l *LogFile) Write(lines []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.lines)+len(lines) > logMost {
		l.dropped++
		return len(lines), nil
	}
	l.lines = append(l.lines, lines...)
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return len(lines), nil
}

// Close writes what is left, for a second at most. It leaves the file open.
func (l *LogFile) Close() error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.wake)
	}
	l.mu.Unlock()
	select {
	case <-l.ended:
		return nil
	case <-time.After(logClose):
		return fmt.Errorf("the log was not read to its end within %s", logClose)
	}
}

func (l *LogFile) run() {
	defer close(l.ended)
	pause := time.NewTicker(logEvery)
	defer pause.Stop()
	var lines []byte
	for open := true; open; {
		_, open = <-l.wake
		lines = l.flush(lines)
		if open {
			<-pause.C
		}
	}
}

// flush writes the lines that wait, and returns a buffer for the next ones.
func (l *LogFile) flush(next []byte) []byte {
	l.mu.Lock()
	lines, dropped := l.lines, l.dropped
	l.lines, l.dropped = next[:0], 0
	l.mu.Unlock()
	n, err := l.file.Write(lines)
	if err != nil { // a full disk, or a reader that has gone: it is told when lines can be written again
		l.mu.Lock()
		l.dropped += dropped + bytes.Count(lines[n:], []byte("\n"))
		l.mu.Unlock()
	} else if dropped > 0 {
		l.logger.Warn("log lines were dropped, because nobody took them in time; the relay goes on", "component", "log",
			"lines", dropped)
	}
	if cap(lines) > logKept {
		return nil
	}
	return lines
}
