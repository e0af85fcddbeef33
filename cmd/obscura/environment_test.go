package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

const environmentFile = "deploy/debian/obscura.env"

// packaged are the values that the Debian package sets.
var packaged = map[string]string{"OBSCURA_DATA_DIR": "/var/lib/obscura"}

const environmentIntroduction = `# Settings of the relay. obscura.service reads them at the start: systemctl restart obscura
# A line that begins with # is no setting: it shows a default, or, in capitals, what belongs there.
# An unknown name is refused. Only root reads this file, so it may hold secrets.
# The same in a table: https://github.com/obscura-relay/obscura/blob/main/docs/configuration.md
`

// describeEnvironment writes the file from the same model as docs/configuration.md.
func describeEnvironment() (string, error) {
	parser, err := kong.New(&cli{}, kong.Name("obscura"), kong.DefaultEnvars("OBSCURA"))
	if err != nil {
		return "", err
	}
	serve := slices.IndexFunc(parser.Model.Children, func(c *kong.Node) bool { return c.Name == "serve" })
	var b strings.Builder
	b.WriteString(environmentIntroduction)
	for _, f := range parser.Model.Children[serve].Flags {
		if f.Hidden || len(f.Envs) == 0 {
			continue
		}
		// Who reads this sets variables.
		help := ownFlag.ReplaceAllStringFunc(f.Help, func(name string) string {
			if named := find(parser.Model.Children[serve], strings.TrimPrefix(name, "--")); named != nil {
				return named.Envs[0]
			}
			return name
		})
		b.WriteString("\n" + comment(help))
		value, set := packaged[f.Envs[0]]
		if !set {
			b.WriteString("#")
			_, value, _ = strings.Cut(flagText(f), "=")
			if f.IsBool() {
				value = "false"
			}
			if f.HasDefault && f.Default != "" {
				value = f.Default
			}
		}
		fmt.Fprintf(&b, "%s=%s\n", f.Envs[0], value)
	}
	return b.String(), nil
}

// comment wraps a text at 100 columns.
func comment(text string) string {
	lines := []string{"#"}
	for word := range strings.FieldsSeq(text) {
		if len(lines[len(lines)-1])+1+len(word) > 100 {
			lines = append(lines, "#")
		}
		lines[len(lines)-1] += " " + word
	}
	return strings.Join(lines, "\n") + "\n"
}

var setting = regexp.MustCompile(`(?m)^#?(OBSCURA_[A-Z0-9_]+)=(.*)$`)

// What the file shows can be taken as it stands: the relay starts with all defaults written out.
func TestTheRelayStartsWithTheDefaultsOfThePackage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../" + environmentFile)
	if err != nil {
		t.Fatal(err)
	}
	environ := []string{"OBSCURA_DATABASE_URL=" + testdb.NewURL(t)}
	placeholder := regexp.MustCompile(`^[A-Z]`)
	for _, m := range setting.FindAllStringSubmatch(string(text), -1) {
		if m[1] != "OBSCURA_DATA_DIR" && !placeholder.MatchString(m[2]) {
			environ = append(environ, m[1]+"="+m[2])
		}
	}
	if len(environ) < 20 {
		t.Errorf("only %d settings are found", len(environ))
	}
	serving(t, environ)
}

// A setting that was renamed must not stay behind in what people deploy.
func TestDeploymentsNameKnownVariables(t *testing.T) {
	t.Parallel()
	parser, err := kong.New(&cli{}, kong.Name("obscura"), kong.DefaultEnvars("OBSCURA"))
	if err != nil {
		t.Fatal(err)
	}
	known, found := variables(parser.Model.Node), 0
	for _, folder := range []string{"../../deploy"} {
		err = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			for _, name := range regexp.MustCompile(`OBSCURA_[A-Z0-9_]+`).FindAllString(string(text), -1) {
				found++
				if !known[name] {
					t.Errorf("%s names %s, which no command knows", path, name)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found == 0 {
		t.Error("no variable is named")
	}
}
