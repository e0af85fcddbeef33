package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// harder are changes that oasdiff lets pass, and that this contract promises never to make: what
// has a name keeps it, whether or not it was deprecated first, and an operation succeeds as it did.
var harder = []string{"api-operation-id-removed", "api-schema-removed", "api-security-component-removed",
	"api-removed-with-deprecation",
	"api-path-removed-with-deprecation", "request-parameter-removed-with-deprecation",
	"request-property-removed-with-deprecation",
	"response-optional-property-removed", "response-required-property-removed-with-deprecation",
	"optional-response-header-removed",
	"response-success-status-added"}

// compareOpenAPI returns what would break, one sentence each.
func compareOpenAPI(ctx context.Context, scratch string) ([]string, error) {
	levels := filepath.Join(scratch, "levels.txt")
	if err := os.WriteFile(levels, []byte(strings.Join(harder, " err\n")+" err\n"), 0o600); err != nil {
		return nil, err
	}
	was, is := filepath.Join(scratch, "base", openAPI), filepath.Join(scratch, "head", openAPI)
	out, err := run(ctx, ".", nil, "go", "tool", "-modfile=tools/oasdiff/go.mod", "oasdiff", "breaking", was, is,
		"--format=json", "--severity-levels="+levels, "--allow-external-refs=false")
	if err != nil {
		return nil, err
	}
	var changes []struct{ Operation, Path, ID, Text string }
	if err := json.Unmarshal(out, &changes); err != nil {
		return nil, fmt.Errorf("oasdiff's answer: %w", err)
	}
	var breaks []string
	for _, c := range changes {
		where := ""
		if c.Path != "" {
			where = c.Operation + " " + c.Path + ": "
		}
		breaks = append(breaks, fmt.Sprintf("%s%s [%s]", where, c.Text, c.ID))
	}
	scopes, err := narrowed(was, is)
	return append(breaks, scopes...), err
}

// narrowed returns the operations that a token of a user was enough for, and that now need one of a
// device. oasdiff knows nothing of our extension.
func narrowed(was, is string) (breaks []string, err error) {
	earlier, err := deviceScoped(was)
	if err != nil {
		return nil, err
	}
	now, err := deviceScoped(is)
	for operation, scoped := range now {
		if before, known := earlier[operation]; known && scoped && !before {
			breaks = append(breaks, operation+": a device-scoped token became necessary [x-device-scoped]")
		}
	}
	slices.Sort(breaks)
	return breaks, err
}

func deviceScoped(file string) (map[string]bool, error) {
	contract, err := openapi3.NewLoader().LoadFromFile(file)
	if err != nil {
		return nil, err
	}
	operations := map[string]bool{}
	for path, item := range contract.Paths.Map() {
		for method, operation := range item.Operations() {
			operations[method+" "+path], _ = operation.Extensions["x-device-scoped"].(bool)
		}
	}
	return operations, nil
}

// bufBroken is how buf exits when it has found something.
const bufBroken = 100

// compareProto returns what would break, one sentence each. The rules are those of buf.yaml.
func compareProto(ctx context.Context, scratch string) ([]string, error) {
	rules, err := os.ReadFile("buf.yaml")
	if err != nil {
		return nil, err
	}
	was, is := filepath.Join(scratch, "base"), filepath.Join(scratch, "head")
	for _, folder := range []string{was, is} {
		if err := os.WriteFile(filepath.Join(folder, "buf.yaml"), rules, 0o600); err != nil {
			return nil, err
		}
	}
	out, err := run(ctx, ".", nil, "tools/buf.sh", "breaking", is, "--against", was, "--error-format=json")
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != bufBroken) {
		return nil, err
	}
	var breaks []string
	for line := range bytes.Lines(out) {
		var c struct{ Type, Message string }
		if err := json.Unmarshal(line, &c); err != nil {
			return nil, fmt.Errorf("buf's answer: %w", err)
		}
		breaks = append(breaks, fmt.Sprintf("%s [%s]", c.Message, c.Type))
	}
	if err != nil && len(breaks) == 0 {
		return nil, err
	}
	return breaks, nil
}

// run runs a command and returns what it prints, also when it fails.
func run(ctx context.Context, dir string, env []string, name string, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, name, args...)
	command.Dir, command.Env = dir, append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), err
}
