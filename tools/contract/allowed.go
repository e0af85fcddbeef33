package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// allowance is a line of the file of breaks that are meant.
type allowance struct {
	line    int
	text    string
	matched bool
}

const because = " because "

// readAllowed reads the file: comments, blank lines, and lines of a break as this command prints
// it, "because", and the reason.
func readAllowed(file string) ([]*allowance, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var meant []*allowance
	number := 0
	for line := range strings.Lines(string(content)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		text, reason, _ := strings.Cut(line, because)
		if strings.TrimSpace(reason) == "" {
			return nil, fmt.Errorf("%s:%d: a break that is meant needs%sand a reason", file, number, because)
		}
		meant = append(meant, &allowance{line: number, text: strings.TrimSpace(text)})
	}
	return meant, nil
}

// judge holds the breaks that were found against those that are meant.
func judge(breaks []string, meant []*allowance, file string) error {
	failed := 0
	for _, text := range breaks {
		allowed := false
		for _, a := range meant {
			if a.text == text {
				a.matched, allowed = true, true
			}
		}
		if allowed {
			fmt.Println("meant: " + text)
		} else {
			failed++
			fmt.Println("breaks: " + text)
		}
	}
	stale := 0
	for _, a := range meant {
		if !a.matched {
			stale++
			fmt.Printf("%s:%d: there is no such break: %s\n", file, a.line, a.text)
		}
	}
	var errs []error
	if failed > 0 {
		errs = append(errs, fmt.Errorf("%d changes break clients. Take them back, or say in %s why: the text after \"breaks: \", "+
			"then%sand the reason, in one line each", failed, file, because))
	}
	if stale > 0 {
		errs = append(errs, fmt.Errorf("%d lines of %s match nothing: correct them, or remove what is no longer needed",
			stale, file))
	}
	if len(breaks) == 0 && stale == 0 {
		fmt.Println("contract: nothing breaks")
	}
	return errors.Join(errs...)
}
