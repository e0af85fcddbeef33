// Command page takes what internal/page keeps of Swagger UI from the npm package swagger-ui-dist,
// or proves that what is kept is what npm gives.
//
//	go run ./tools/page [-check] PACKAGE
//
// PACKAGE is the unpacked npm package. Large files are kept compressed, without name and time, so
// that the same file always gives the same bytes. The check compares what is in them: another
// compressor may find a shorter form of it.
package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const folder = "internal/page"

// kept says under which name a file of the package is kept. Its licences ask for the last two.
var kept = []struct {
	theirs, ours string
	packed       bool
}{
	{"swagger-ui-bundle.js", "swagger-ui-bundle.js.gz", true},
	{"swagger-ui.css", "swagger-ui.css.gz", true},
	{"swagger-ui-bundle.js.LICENSE.txt", "swagger-ui-bundle.js.LICENSE.txt", false},
	{"NOTICE", "swagger-ui-bundle.js.NOTICE.txt", false},
}

func main() {
	check := flag.Bool("check", false, "compare instead of writing")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: page [-check] PACKAGE")
		os.Exit(2)
	}
	do := take
	if *check {
		do = compare
	}
	if err := do(flag.Arg(0), folder); err != nil {
		fmt.Fprintln(os.Stderr, "page:", err)
		os.Exit(1)
	}
}

// take writes the kept files from those of the package.
func take(from, into string) error {
	for _, k := range kept {
		data, err := os.ReadFile(filepath.Join(from, k.theirs))
		if err != nil {
			return err
		}
		if k.packed {
			if data, err = pack(data); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(into, k.ours), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// compare returns an error that names the first file that is not what the package has.
func compare(from, into string) error {
	for _, k := range kept {
		want, err := os.ReadFile(filepath.Join(from, k.theirs))
		if err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(into, k.ours))
		if err != nil {
			return err
		}
		if k.packed {
			if got, err = unpack(got); err != nil {
				return fmt.Errorf("%s: %w", k.ours, err)
			}
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s is not %s of the npm package, run make page and commit", k.ours, k.theirs)
		}
	}
	return nil
}

func pack(data []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	err = w.Close()
	return b.Bytes(), err
}

// unpack returns what is in one compressed file, and refuses one that says where or when it was
// made.
func unpack(data []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if !r.ModTime.IsZero() || r.Name != "" || r.Comment != "" || len(r.Extra) > 0 {
		return nil, errors.New("its header has a name, a time or a comment, run make page and commit")
	}
	return io.ReadAll(r)
}
