package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// document is one Markdown file.
type document struct {
	path     string // relative to the root
	blocks   []block
	output   []string // lines that the commands print, in order; … stands for anything
	links    []link
	headings map[string]bool // as anchors
}

// block is a fenced block of shell commands that is run.
type block struct {
	line  int
	serve bool // it starts a server, which runs until all documents are done
	text  string
}

type link struct {
	line   int
	target string
}

var (
	fence = regexp.MustCompile("^ {0,3}(```+)\\s*(.*)$")
	// notRun stands before a block of commands that cannot be run here, and says why.
	notRun     = regexp.MustCompile(`^<!-- not run: \S.* -->$`)
	inline     = regexp.MustCompile("`[^`]*`")
	linkTarget = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading    = regexp.MustCompile(`^#{1,6} +(.*)$`)
	notInSlug  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// parse reads a document. Its complaints name file and line.
func parse(path, text string) (document, []string) {
	d := document{path: path, headings: map[string]bool{}}
	var wrong []string
	complain := func(line int, sentence string) {
		wrong = append(wrong, fmt.Sprintf("%s:%d: %s", path, line, sentence))
	}
	var open string // the fence that is open
	var keep *block
	output := false
	before := "" // the last line that is not empty
	for i, line := range strings.Split(text, "\n") {
		if open != "" {
			switch {
			case strings.TrimSpace(line) == open:
				if keep != nil {
					d.blocks = append(d.blocks, *keep)
				}
				open, keep, output, before = "", nil, false, line
			case keep != nil:
				keep.text += line + "\n"
			case output:
				d.output = append(d.output, line)
			}
			continue
		}
		if f := fence.FindStringSubmatch(line); f != nil {
			open = f[1]
			switch info := strings.TrimSpace(f[2]); info {
			case "sh run", "sh serve":
				keep = &block{line: i + 1, serve: info == "sh serve"}
			case "text output":
				output = true
			case "sh":
				if !notRun.MatchString(before) {
					complain(i+1,
						"a block of commands that is not run: mark it `sh run`, or write why not in a line before it: <!-- not run: the reason -->")
				}
			case "bash", "shell", "zsh", "sh-session":
				complain(i+1, "write `sh run`, `sh serve`, or `sh` with a reason; `console` is for what a terminal shows")
			}
			continue
		}
		if h := heading.FindStringSubmatch(line); h != nil {
			d.headings[slug(h[1])] = true
		}
		if tooWide(line) {
			complain(i+1, "a line is wider than 100 columns and could be broken")
		}
		for _, m := range linkTarget.FindAllStringSubmatch(inline.ReplaceAllString(line, ""), -1) {
			d.links = append(d.links, link{i + 1, m[1]})
		}
		if strings.TrimSpace(line) != "" {
			before = strings.TrimSpace(line)
		}
	}
	if open != "" {
		complain(strings.Count(text, "\n")+1, "the last fenced block is not closed")
	}
	return d, wrong
}

// width is how many columns a line of prose has at most.
const width = 100

var (
	// whole is what a line is not broken in: a word, with the code and the links in it.
	whole = regexp.MustCompile("(?:`[^`]*`|\\[[^\\]]*\\]\\([^)]*\\)|\\S)+")
	// mark begins an item of a list, or a quotation.
	mark = regexp.MustCompile(`^\s*(?:(?:[-*+]|\d+[.)])\s+|>\s*)?`)
)

// tooWide reports that a line is wider than it need be. Rows of tables are as wide as they are.
func tooWide(line string) bool {
	return utf8.RuneCountInString(line) > width && !strings.HasPrefix(strings.TrimSpace(line), "|") &&
		len(whole.FindAllString(mark.ReplaceAllString(line, ""), 2)) > 1
}

// slug is the anchor that GitHub gives a heading.
func slug(title string) string {
	title = strings.ReplaceAll(strings.ToLower(strings.TrimSpace(title)), "`", "")
	return strings.ReplaceAll(notInSlug.ReplaceAllString(title, ""), " ", "-")
}

// missing returns the first line that the commands of the document should have printed and did not.
func (d *document) missing(printed string) (line string, found bool) {
	rest := strings.Split(printed, "\n")
	for _, want := range d.output {
		pattern := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(want), "…", ".*") + "$")
		i := slices.IndexFunc(rest, pattern.MatchString)
		if i < 0 {
			return want, true
		}
		rest = rest[i+1:]
	}
	return "", false
}

// checkLinks returns what is wrong with the links of a document to files and headings of the
// repository.
func checkLinks(root string, d document, all map[string]document) (wrong []string) {
	for _, l := range d.links {
		if strings.Contains(l.target, "://") || strings.HasPrefix(l.target, "mailto:") {
			continue
		}
		file, anchor, _ := strings.Cut(l.target, "#")
		to := d.path
		if file != "" {
			to = filepath.Join(filepath.Dir(d.path), file)
		}
		if _, err := os.Stat(filepath.Join(root, to)); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s:%d: the link to %s leads nowhere", d.path, l.line, l.target))
			continue
		}
		if other, known := all[to]; anchor != "" && known && !other.headings[anchor] {
			wrong = append(wrong, fmt.Sprintf("%s:%d: %s has no heading #%s", d.path, l.line, to, anchor))
		}
	}
	return wrong
}
