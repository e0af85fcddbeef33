package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOnlyMarkedBlocksAreRunInOrder(t *testing.T) {
	t.Parallel()
	d, wrong := parse("a.md", "# A\n```sh serve\nmake run\n```\n```console\n$ rm -rf /\n```\n```sh run\necho 1\n\necho 2\n```\n"+
		"<!-- not run: it changes the system -->\n\n```sh\nrm -rf /\n```\n```text\n[no](link)\n```\n")
	if len(wrong) != 0 || len(d.blocks) != 2 || len(d.links) != 0 {
		t.Fatalf("%v %v %v", wrong, d.blocks, d.links)
	}
	if !d.blocks[0].serve || d.blocks[0].text != "make run\n" || d.blocks[1].text != "echo 1\n\necho 2\n" ||
		d.blocks[1].line != 8 {
		t.Errorf("%v", d.blocks)
	}
}

func TestCommandsThatAreNotRunNeedAReason(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"```sh\nls\n```\n", "```bash\nls\n```\n", "<!-- not run: -->\n```sh\nls\n```\n",
		"<!-- not run: a reason for another block -->\nText.\n```sh\nls\n```\n", "```sh run\nls\n"} {
		if _, wrong := parse("a.md", text); len(wrong) != 1 || !strings.HasPrefix(wrong[0], "a.md:") {
			t.Errorf("%q: %v", text, wrong)
		}
	}
}

func TestProseWrapsAt100Columns(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("word ", 20)
	for line, want := range map[string]int{
		long + "é": 1, "- " + long + "and more": 1, strings.Repeat("é", 100): 0, "- `" + long + "and code`": 0,
		"[" + long + "](x)": 0, "[" + long + "](x) and more": 1, "| " + long + "| a row |": 0, "```text\n" + long + "and more\n```": 0,
	} {
		if _, wrong := parse("a.md", line); len(wrong) != want {
			t.Errorf("%q: %v", line, wrong)
		}
	}
}

func TestLinksLeadToFilesAndHeadings(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "docs"), 0o700); err != nil {
		t.Fatal(err)
	}
	all := map[string]document{}
	for name, text := range map[string]string{
		"README.md": "[b](docs/b.md#what-readyz-means) [here](#top) [out](https://example.org) `[code](x)`\n# Top\n[gone](docs/c.md)\n[no](docs/b.md#nothing)",
		"docs/b.md": "## What `/readyz` means?\n[up](../README.md)",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		all[name], _ = parse(name, text)
	}
	wrong := checkLinks(root, all["README.md"], all)
	if len(wrong) != 2 || !strings.HasPrefix(wrong[0], "README.md:3: ") || !strings.HasPrefix(wrong[1], "README.md:4: ") {
		t.Errorf("%v", wrong)
	}
	if wrong := checkLinks(root, all["docs/b.md"], all); len(wrong) != 0 {
		t.Errorf("%v", wrong)
	}
}

func TestWhatCommandsShouldPrintIsLookedForInOrder(t *testing.T) {
	t.Parallel()
	d, _ := parse("a.md", "```text output\none …: \"x\"\ntwo.\n```\n")
	if _, found := d.missing("noise\none 1: \"x\"\nnoise\ntwo.\n"); found {
		t.Error("what is there was missed")
	}
	for printed, want := range map[string]string{"two.\none 1: \"x\"\n": "two.", "one: \"x\"\ntwo.": "one …: \"x\"", "one 1: \"x\"\ntwo+": "two."} {
		if line, _ := d.missing(printed); line != want {
			t.Errorf("%q: %q", printed, line)
		}
	}
}
