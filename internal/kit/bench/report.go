package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
)

// table prints a result: pairs of a name and a value, of any kind.
func table(out io.Writer, title string, rows ...[2]string) {
	if out == nil {
		return
	}
	fmt.Fprintf(out, "\n%s\n", title)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		if row[1] != "" {
			fmt.Fprintf(w, "  %s\t%s\n", row[0], row[1])
		}
	}
	_ = w.Flush()
}

func row(name, format string, values ...any) [2]string {
	return [2]string{name, fmt.Sprintf(format, values...)}
}

func latency(name string, p Percentiles) [2]string {
	return row(name, "p50 %s ms   p95 %s   p99 %s   p99.9 %s", short(p.P50), short(p.P95), short(p.P99), short(p.P999))
}

// short prints three digits that matter.
func short(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func perSecond(v float64) string { return strconv.FormatFloat(v, 'f', 0, 64) + "/s" }

func megabytes(bytes int64) string {
	return strconv.FormatFloat(float64(bytes)/(1<<20), 'f', 1, 64) + " MiB"
}

// costRows are the lines of a cost.
func (c Cost) costRows() [][2]string {
	var rows [][2]string
	if c.CPUPerThousand != nil {
		rows = append(rows, row("relay CPU", "%.3f s per thousand (%.1f s)", *c.CPUPerThousand, *c.RelayCPU))
	}
	if c.DatabasePerThousand != nil {
		rows = append(rows, row("PostgreSQL CPU", "%.3f s per thousand (%.1f s)", *c.DatabasePerThousand,
			*c.DatabaseCPU))
	}
	generator := fmt.Sprintf("%.1f s", c.GeneratorCPU)
	if c.GeneratorShare != nil {
		generator += fmt.Sprintf(", %.0f %% of all", *c.GeneratorShare*100)
	}
	rows = append(rows, row("load generator CPU", "%s", generator))
	if c.RelayPeak != nil {
		rows = append(rows, row("relay peak memory", "%s", megabytes(*c.RelayPeak)))
	}
	if c.WALPerOperation != nil {
		rows = append(rows, row("WAL", "%.0f bytes per message", *c.WALPerOperation))
	}
	return rows
}

func errorRows(errors map[string]int64) [][2]string {
	rows := [][2]string{}
	for _, kind := range slices.Sorted(maps.Keys(errors)) {
		rows = append(rows, row("error", "%d x %s", errors[kind], kind))
	}
	return rows
}

// save writes the figures as JSON, when a file was named.
func save(path string, figures any) error {
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("cannot write the figures: %w", err)
	}
	return nil
}

// A ticker shows a line that changes, on a terminal; elsewhere nothing.
type ticker struct {
	out  io.Writer
	last time.Time
}

func newTicker(out io.Writer) *ticker {
	file, isFile := out.(*os.File)
	if !isFile || !term.IsTerminal(int(file.Fd())) {
		return &ticker{}
	}
	return &ticker{out: out}
}

// show replaces the line. Whoever calls it from several goroutines serialises the calls.
func (t *ticker) show(format string, values ...any) {
	if t.out != nil {
		fmt.Fprintf(t.out, "\r\x1b[K"+format, values...)
	}
}

func (t *ticker) end() {
	if t.out != nil {
		fmt.Fprint(t.out, "\r\x1b[K")
	}
}

// every calls show at most ten times a second.
func (t *ticker) every(format string, values ...any) {
	if t.out == nil || time.Since(t.last) < 100*time.Millisecond {
		return
	}
	t.last = time.Now()
	t.show(format, values...)
}
