package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/obscura-relay/obscura/internal/admin"
	"github.com/obscura-relay/obscura/internal/app"
)

var (
	badValue = regexp.MustCompile(`^--(?:\[?no-\]?)?([a-z0-9-]+)(?:: | must be one of )`)
	unknown  = regexp.MustCompile(`^unknown flag (-\S+?)(?:, did you mean.*"(--?[a-z][a-z-]*)".*)?$`)
	ownFlag  = regexp.MustCompile(`--([a-z][a-z-]*[a-z])( \(OBSCURA_)?`)
	number   = regexp.MustCompile(`^[0-9]+$`)
	absent   = regexp.MustCompile(`^missing flags: (.+)$`)
	extra    = regexp.MustCompile(`^unexpected (?:flag )?argument (.+?)(?:, did you mean.*"([a-z]+)".*)?$`)
)

// sentence says in our words what the parser found wrong with the command line or the environment.
// It does not repeat values: what was meant for another place may be a secret.
func sentence(err error, commands *kong.Node) error {
	text := err.Error()
	var selected *kong.Node
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil {
		selected = parse.Context.Selected()
	}
	if m := unknown.FindStringSubmatch(text); m != nil {
		return errors.New(noFlag(m[1], meant(m[2]), cmp.Or(selected, commands)))
	}
	if m := extra.FindStringSubmatch(text); m != nil {
		return errors.New("there is no command or argument " + m[1] + meant(m[2]) +
			"; --help lists those that there are")
	}
	if m := absent.FindStringSubmatch(text); m != nil {
		return errors.New(m[1] + " must be given; --help says what for")
	}
	if strings.HasPrefix(text, "expected ") && selected != nil {
		return errors.New(next(selected))
	}
	if m := badValue.FindStringSubmatch(text); m != nil {
		flag := find(commands, m[1])
		if selected != nil {
			flag = cmp.Or(find(selected, m[1]), flag)
		}
		if flag != nil {
			name := "--" + flag.Name
			if len(flag.Envs) > 0 {
				name += " (" + strings.Join(flag.Envs, ", ") + ")"
			}
			return fmt.Errorf("%s must be %s", name, form(flag))
		}
	}
	if selected != nil {
		if rest, ours := strings.CutPrefix(text, selected.Path()+": "); ours { // of Validate
			return errors.New(withVariables(rest, selected))
		}
	}
	return err
}

// noFlag says that a command has no such flag: it may be an argument with a hyphen, or of a command
// that was left out.
func noFlag(flag, meant string, command *kong.Node) string {
	switch name := strings.TrimLeft(flag, "-"); {
	case len(command.Positional) > 0 && number.MatchString(name):
		return flag + " cannot be an argument; " + next(command)
	case len(command.Children) > 0 && find(command, name) != nil:
		return "--" + name + " stands after the command; " + next(command)
	}
	return "there is no flag " + flag + meant + "; --help lists those that there are"
}

// next says what must follow a command: its arguments, or one of the commands below it.
func next(command *kong.Node) string {
	var names []string
	for _, argument := range command.Positional {
		names = append(names, argument.Summary())
	}
	if len(names) > 0 {
		return fmt.Sprintf("`%s` takes %s; --help says what that is", command.FullPath(), strings.Join(names, " "))
	}
	for _, child := range command.Children {
		names = append(names, child.Name)
	}
	return fmt.Sprintf("`%s` takes a command: %s; --help says what for", command.FullPath(), strings.Join(names, ", "))
}

// withVariables puts the variable beside each flag of a command that a sentence names: the value
// may have come from there.
func withVariables(text string, command *kong.Node) string {
	return ownFlag.ReplaceAllStringFunc(text, func(name string) string {
		flag := find(command, strings.TrimPrefix(name, "--"))
		if flag == nil || len(flag.Envs) == 0 {
			return name
		}
		return name + " (" + strings.Join(flag.Envs, ", ") + ")"
	})
}

func meant(name string) string {
	if name == "" || name == "-h" {
		return ""
	}
	return ", perhaps " + name
}

// emptyFlag refuses --flag= and --flag="$NAME" with a name that is not set: it would silently mean
// the default. A variable may be empty.
func emptyFlag(parsed *kong.Context) error {
	for _, step := range parsed.Path {
		if flag := step.Flag; flag != nil && flag.Target.Kind() == reflect.String && flag.Target.String() == "" {
			return errors.New(withVariables("--"+flag.Name, parsed.Selected()) + " must be " + form(flag))
		}
	}
	return nil
}

// find looks for a flag of a name in all commands.
func find(node *kong.Node, name string) *kong.Flag {
	if i := slices.IndexFunc(node.Flags, func(f *kong.Flag) bool { return f.Name == name }); i >= 0 {
		return node.Flags[i]
	}
	for _, child := range node.Children {
		if flag := find(child, name); flag != nil {
			return flag
		}
	}
	return nil
}

// form says how the value of a flag is written.
func form(flag *kong.Flag) string {
	if flag.Enum != "" {
		return "one of " + strings.ReplaceAll(flag.Enum, ",", ", ")
	}
	t := flag.Target.Type()
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "a time, for example 250ms, 20s or 10m"
	case reflect.TypeFor[admin.Uses]():
		return "a whole number from 1 to 2147483647"
	case reflect.TypeFor[admin.Lifetime]():
		return "a time from 1s to 36500d, for example 7d or 12h, or never"
	case reflect.TypeFor[admin.Age]():
		return "a time from 1d to 36500d, for example 365d"
	case reflect.TypeFor[slog.Level]():
		return "debug, info, warn or error"
	case reflect.TypeFor[[]netip.Prefix]():
		return "networks, separated by commas without spaces, for example 10.0.0.0/8,::1/128"
	case reflect.TypeFor[app.Rate]():
		return "a rate EVENTS/TIME, for example 20/1m"
	case reflect.TypeFor[app.Rates]():
		return "rates by name, for example sends=3000/1m"
	case reflect.TypeFor[app.Size]():
		return "a size in GiB, MiB, KiB or B, for example 10GiB"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int32:
		return "a whole number up to 2147483647"
	case reflect.Int, reflect.Int64, reflect.Uint, reflect.Uint64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	default:
		return "given with a value: --" + flag.Name + "=" + flag.FormatPlaceHolder()
	}
}
