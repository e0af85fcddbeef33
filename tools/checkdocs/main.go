// Command checkdocs keeps the documents true: links between them lead somewhere, and the commands
// they show work. No line, of prose or of Go, is too wide.
//
// A fenced block of commands is marked in one of three ways, which a reader does not see:
//
//	```sh run      the commands are run; those of one document in one shell, in order, and any failure is a failure
//	```sh serve    starts a server; it is waited for and runs until all documents are done; the other commands of its document run twice
//	```sh          is not run; the line before the block says why: <!-- not run: the reason -->
//
// A block marked ```text output shows lines that the commands of its document print, in this order;
// … stands for anything. Blocks of other kinds (text, console, json, …) show things and are left
// alone.
//
// The commands run in a copy of what is in the checkout and not ignored, so that they find what
// somebody finds who has just cloned it, and leave nothing behind. README.md comes first, because
// it starts the relay. The two addresses of the documents are replaced by free ones.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// patience bounds the whole run, on a machine that has to build everything first.
const patience = 15 * time.Minute

// documents are checked in this order.
var documents = []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "clients/*/README.md",
	"examples/*/README.md", "tools/*/README.md"}

func main() {
	read := flag.Bool("read", false, "check links and widths only; run no commands")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, patience)
	wrong, err := check(ctx, ".", *read)
	cancel()
	stop()
	for _, sentence := range wrong {
		fmt.Fprintln(os.Stderr, sentence)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "checkdocs:", err)
	}
	if err != nil || len(wrong) > 0 {
		os.Exit(1)
	}
}

// check returns what is wrong in the text of the documents or, if nothing is and they are not only
// to be read, runs their commands.
func check(ctx context.Context, root string, read bool) (wrong []string, err error) {
	all := map[string]document{}
	var inOrder []document
	for _, pattern := range documents {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return nil, err
		}
		slices.Sort(paths)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return nil, err
			}
			d, complaints := parse(name, string(text))
			wrong = append(wrong, complaints...)
			all[name] = d
			inOrder = append(inOrder, d)
		}
	}
	for _, d := range inOrder {
		wrong = append(wrong, checkLinks(root, d, all)...)
	}
	wide, err := checkWidths(root)
	if wrong = append(wrong, wide...); err != nil || len(wrong) > 0 || read {
		return wrong, err
	}
	return nil, run(ctx, root, inOrder)
}
