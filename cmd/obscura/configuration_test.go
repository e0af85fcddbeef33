package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

var update = flag.Bool("update", false,
	"write docs/configuration.md and the limits in README.md instead of comparing with it")

func TestTheConfigurationDocumentSaysWhatCanBeConfigured(t *testing.T) {
	t.Parallel()
	for file, describe := range map[string]func() (string, error){
		"docs/configuration.md": describeConfiguration, environmentFile: describeEnvironment} {
		want, err := describe()
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile("../../"+file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is stale, run: go test ./cmd/obscura -run TestTheConfigurationDocument -update", file)
		}
	}
}

// describeConfiguration writes the document from the parser's model of the commands.
func describeConfiguration() (string, error) {
	parser, err := kong.New(&cli{}, kong.Name("obscura"), kong.DefaultEnvars("OBSCURA"))
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(configurationIntroduction)
	for _, command := range parser.Model.Children {
		if command.Name != "serve" && command.Name != "migrate" {
			continue // a tool, which explains itself
		}
		var flags []*kong.Flag
		for _, f := range command.Flags {
			if !f.Hidden && f.Name != "help" {
				flags = append(flags, f)
			}
		}
		fmt.Fprintf(&b, "\n## obscura %s\n\n%s\n", command.Name, command.Help)
		b.WriteString("\n| variable | flag | default | meaning |\n|---|---|---|---|\n")
		for _, f := range flags {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", code(f.Envs...), code(flagText(f)), defaultText(f), cell(f.Help))
		}
	}
	b.WriteString(limitsIntroduction + limitsTable())
	return b.String(), nil
}

const configurationIntroduction = `# Configuration

<!-- Written by: go test ./cmd/obscura -run TestTheConfigurationDocument -update -->

Every setting is a flag and a variable of the environment; a flag wins. There is no configuration
file. A variable that begins with ` + "`OBSCURA_`" + ` and that no command knows is refused, so that a typing
error does not silently mean the default; only names that begin with ` + "`OBSCURA_TEST_`" + ` are left alone.
What is wrong with a value is said in one sentence, and the relay does not start.

Durations are written ` + "`250ms`, `20s`, `10m`" + `. Rates are written ` + "`EVENTS/DURATION`" + `: ` + "`30/10m`" + ` allows
thirty events at once, and further ones as time passes, at thirty in ten minutes. Lists are
separated by commas, without spaces. Where two variables are named, the first that is set counts.

Other commands explain themselves: ` + "`obscura --help`, `obscura COMMAND --help`" + `. Limits that clients
rely on are part of the contract and cannot be configured: they are listed in the
[README](../README.md#limits).
`

func flagText(f *kong.Flag) string {
	if f.IsBool() {
		if f.Negated || f.Tag.Negatable != "" {
			return "--[no-]" + f.Name
		}
		return "--" + f.Name
	}
	value := f.PlaceHolder
	if f.Enum != "" {
		value = strings.ReplaceAll(f.Enum, ",", "|")
	}
	if value == "" {
		value = "VALUE"
	}
	return "--" + f.Name + "=" + value
}

func defaultText(f *kong.Flag) string {
	if !f.HasDefault || f.Default == "" {
		return "none"
	}
	return code(f.Default)
}

func code(texts ...string) string { return "`" + cell(strings.Join(texts, "`, `")) + "`" }

// cell keeps a bar from ending a cell of the table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
