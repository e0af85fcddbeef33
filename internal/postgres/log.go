package postgres

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
)

// maxLine bounds a line of the server's log, in bytes; the rest of it is dropped.
const maxLine = 4096

// logWriter passes the server's log on, a line at a time. What the server says about a client's
// statement may carry what the client sent, and the client is told anyway, so it is left out; so
// is a line without a known beginning, once the server has begun to log.
type logWriter struct {
	log   *slog.Logger
	rest  []byte
	begun bool
	last  string // the last line that tells of a failure
}

// Write never fails.
func (w *logWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		w.rest = append(w.rest, line[:min(len(line), maxLine-len(w.rest))]...)
		if whole {
			w.line(string(w.rest))
			w.rest = w.rest[:0]
		}
		rest = after
	}
	return len(p), nil
}

// line is one of "process|SEVERITY:  text", or what came before the server read its settings.
func (w *logWriter) line(line string) {
	head, text, ok := strings.Cut(line, ":  ")
	process, severity, named := strings.Cut(head, "|")
	if !ok || !named {
		if !w.begun && line != "" {
			w.last = line
			w.log.Debug("postgres", "text", line)
		}
		return
	}
	w.begun = true
	level := slog.LevelDebug
	switch severity {
	case "WARNING", "ERROR", "FATAL", "PANIC":
		level = slog.LevelWarn
	}
	if process == "autovacuum worker" && severity == "FATAL" && strings.HasSuffix(text, "due to administrator command") {
		level = slog.LevelDebug // one that was at work when the server was told to stop
	}
	if process == "client backend" || process == "parallel worker" {
		if severity != "LOG" && severity != "FATAL" {
			return
		}
		level = slog.LevelDebug
	}
	if level == slog.LevelWarn {
		w.last = severity + ": " + text
	}
	w.log.Log(context.Background(), level, "postgres", "process", process, "severity", severity, "text", text)
}
