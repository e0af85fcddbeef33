package conform

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
)

// Result is how a check ended.
type Result string

// The results. NotOffered is neither good nor bad: the contract lets a relay do without.
const (
	Pass       Result = "pass"
	Fail       Result = "fail"
	NotOffered Result = "not offered"
	notRun     Result = ""
)

// Outcome is one check's result.
type Outcome struct {
	Name     string  `json:"name"`
	Sentence string  `json:"sentence"`
	Result   Result  `json:"result"`
	Reason   string  `json:"reason,omitempty"` // for fail and not offered; holds no secret
	Seconds  float64 `json:"seconds"`
}

// Results are the outcomes of a run, in the order of the checks. An interrupted run has fewer.
type Results struct {
	URL        string    `json:"url"`
	Passed     int       `json:"passed"`
	Failed     int       `json:"failed"`
	NotOffered int       `json:"notOffered"`
	Seconds    float64   `json:"seconds"`
	Checks     []Outcome `json:"checks"`
}

func (r *Results) set(i int, v verdict, took time.Duration, k *kit) {
	o := &r.Checks[i]
	o.Result, o.Reason, o.Seconds = v.result, k.blot(v.reason), float64(took.Milliseconds())/1000
}

// count leaves out what was not run and counts the rest.
func (r *Results) count(took time.Duration) {
	r.Checks = slices.DeleteFunc(r.Checks, func(o Outcome) bool { return o.Result == notRun })
	for _, o := range r.Checks {
		switch o.Result {
		case Pass:
			r.Passed++
		case Fail:
			r.Failed++
		case NotOffered:
			r.NotOffered++
		}
	}
	r.Seconds = float64(took.Milliseconds()) / 1000
}

// failed returns the names of the checks that failed.
func (r *Results) failed() (names []string) {
	for _, o := range r.Checks {
		if o.Result == Fail {
			names = append(names, o.Name)
		}
	}
	return names
}

// write writes the table, and the JSON where it was asked for.
func (r *Results) write(cfg Config) error {
	if cfg.JSON != "-" {
		r.table(cfg.Out)
	}
	if cfg.JSON == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if cfg.JSON == "-" {
		_, err = cfg.Out.Write(text)
	} else {
		err = os.WriteFile(cfg.JSON, text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("cannot write the results: %w", err)
	}
	return nil
}

func (r *Results) table(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, o := range r.Checks {
		name, sentence := o.Name, o.Sentence
		result := string(o.Result)
		if o.Result == Fail {
			result = "FAIL"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", result, name, sentence)
		if o.Reason != "" {
			fmt.Fprintf(w, "\t\t  %s\n", strings.ReplaceAll(o.Reason, "\n", " "))
		}
	}
	_ = w.Flush()
	fmt.Fprintf(out, "\n%d passed, %d failed, %d not offered, in %.1f s\n", r.Passed, r.Failed, r.NotOffered, r.Seconds)
}

// list prints the names and sentences of checks.
func list(out io.Writer, all []check) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, c := range all {
		fmt.Fprintf(w, "%s\t%s\n", c.name, c.says)
	}
	_ = w.Flush()
}

// ticker shows how far the run is, on a terminal; elsewhere nothing.
type ticker struct {
	out io.Writer

	mu   sync.Mutex
	done int // guarded by mu
}

func newTicker(out io.Writer) *ticker {
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return &ticker{out: out}
	}
	return &ticker{out: io.Discard}
}

func (p *ticker) step(of int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	fmt.Fprintf(p.out, "\r\x1b[K%d of %d checks", p.done, of)
}

func (p *ticker) end() { fmt.Fprint(p.out, "\r\x1b[K") }
