package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// Every flag of every command, with values that its type refuses: what is said is ours, names the
// flag and repeats nothing.
func TestABadValueOfAnyFlagIsSaidInOurWords(t *testing.T) {
	t.Parallel()
	parser, err := kong.New(&cli{}, kong.Name("obscura"), kong.DefaultEnvars("OBSCURA"), kong.Exit(func(int) {}))
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	var walk func(node *kong.Node, path []string)
	walk = func(node *kong.Node, path []string) {
		for _, flag := range node.Flags {
			text := flag.Target.Kind() == reflect.String || flag.Target.Type() == reflect.TypeFor[[]string]()
			bad := []string{"--" + flag.Name + "=hunter2", "--" + flag.Name + "=-1x",
				"--" + flag.Name + "=99999999999999999999"}
			switch {
			case flag.Target.Kind() == reflect.Float64:
				bad = bad[:2]
			case flag.Name == "help" || flag.Name == "version":
				continue
			case text && flag.Enum == "":
				bad = []string{"--" + flag.Name} // any text will do, but it takes one
			}
			for _, value := range bad {
				checked++
				_, err := parser.Parse(append(path, value))
				if err == nil {
					t.Errorf("%v %s is taken", path, value)
					continue
				}
				holds(t, sentence(err, parser.Model.Node), "--"+flag.Name)
			}
			for _, name := range flag.Envs { // the parser tells of the variable, with its value
				err := errors.New("--" + flag.Name +
					": expected duration but got \"hunter2\": time: invalid duration (from envar " + name +
					"=\"hunter2\")")
				holds(t, sentence(err, node), name)
			}
		}
		for _, child := range node.Children {
			walk(child, append(path[:len(path):len(path)], child.Name))
		}
	}
	walk(parser.Model.Node, nil)
	if checked < 60 {
		t.Errorf("only %d values were tried", checked)
	}
}

// holds fails unless an error names the flag and has no words of libraries.
func holds(t *testing.T, err error, name string) {
	t.Helper()
	said := err.Error()
	for _, foreign := range []string{"expected", "but got", "slog", "netip", "strconv", "time:", "parsing", "invalid",
		"envar", "EOL", "hunter2", "bit int", "bool value"} {
		if strings.Contains(said, foreign) {
			t.Errorf("%s, which holds %q", said, foreign)
		}
	}
	if !strings.Contains(said, name) || !strings.Contains(said, " must be ") {
		t.Errorf("%s, which does not name %s", said, name)
	}
}

func TestWhatIsMissingIsSaidInOurWords(t *testing.T) {
	t.Parallel()
	parser, err := kong.New(&cli{}, kong.Name("obscura"), kong.DefaultEnvars("OBSCURA"), kong.Exit(func(int) {}))
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"admin keys":               "`obscura admin keys` takes a command: rotate; --help says what for",
		"admin users":              "`obscura admin users` takes a command: list, show, disable, enable, delete, reset-password, forget-wrong-passwords; --help says what for",
		"admin devices remove bob": "`obscura admin devices remove` takes <user> <device>; --help says what that is",
		"admin devices remove bob -1": "-1 cannot be an argument; `obscura admin devices remove` takes <user> <device>; " +
			"--help says what that is",
		"admin keys rotate --data-dir": "--data-dir stands after the command; `obscura admin keys rotate` takes a command: " +
			"tokens, certificates, trust-root; --help says what for",
		"admin keys rotate --data": "there is no flag --data; --help lists those that there are",
		"admin stats -1":           "there is no flag -1; --help lists those that there are",
		"admin purge":              "--older-than=TIME must be given; --help says what for",
	} {
		_, err := parser.Parse(strings.Fields(line))
		if err == nil || sentence(err, parser.Model.Node).Error() != want {
			t.Errorf("%s: %v", line, sentence(err, parser.Model.Node))
		}
	}
	_, err = parser.Parse([]string{"--data-dir=x", "serve"})
	if want := "--data-dir stands after the command; `obscura` takes a command: serve, migrate, "; err == nil ||
		!strings.HasPrefix(sentence(err, parser.Model.Node).Error(), want) {
		t.Error(sentence(err, parser.Model.Node))
	}
}
