// Command contract fails when the contract of this checkout (openapi.yaml and obscura.proto, as
// they lie there, committed or not) would break a client of an earlier one, unless
// tools/contract/allowed.txt names the change and says why.
//
// It compares with the first of these that there is, and says which:
//
//  1. the commit that -base names;
//  2. the highest release tag, v1.2.3, among the ancestors of HEAD;
//  3. where HEAD left the main branch: origin/main, else main, else what origin has as main.
//
// When that is HEAD itself, only what is not committed yet would be compared. If there is nothing
// of that kind, it compares with the contract before the last commit that changed it (a merge
// counts as one commit), or with the release before if HEAD is a release. Of several commits that
// were pushed to main at once this sees the last one's change; -base, with the commit before the
// push, sees all.
//
// A shallow checkout is completed from origin. If that cannot be done and what there is ends before
// an earlier contract, this is an error, and so is a checkout without history. Only a first
// contract passes without a comparison.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// patience bounds the whole run, in which the tools may have to be built and installed.
const patience = 10 * time.Minute

// The two halves of the contract.
const (
	openAPI = "openapi.yaml"
	proto   = "obscura.proto"
)

func main() {
	named := flag.String("base", "", "the commit to compare with")
	dir := flag.String("dir", ".", "the checkout")
	allowed := flag.String("allowed", "tools/contract/allowed.txt", "the breaks that are meant")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, patience)
	err := check(ctx, checkout{dir: *dir}, *named, *allowed)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "contract:", err)
		os.Exit(1)
	}
}

func check(ctx context.Context, c checkout, named, allowedFile string) (err error) {
	meant, err := readAllowed(allowedFile)
	if err != nil {
		return err
	}
	before, err := c.base(ctx, named)
	if err != nil {
		return err
	}
	fmt.Println("contract: compared with " + before.what)
	if before.commit == "" {
		return nil
	}
	scratch, err := os.MkdirTemp("", "obscura-contract-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	var breaks []string
	differs := false
	for _, half := range []struct {
		file    string
		compare func(context.Context, string) ([]string, error)
	}{{openAPI, compareOpenAPI}, {proto, compareProto}} {
		changed, err := c.layOut(ctx, scratch, before.commit, half.file)
		if err != nil {
			return err
		}
		if !changed {
			continue
		}
		differs = true
		found, err := half.compare(ctx, scratch)
		if err != nil {
			return err
		}
		for _, text := range found {
			breaks = append(breaks, half.file+": "+text)
		}
	}
	if !differs {
		return nil // what is allowed was for an earlier change, or is for a later one
	}
	return judge(breaks, meant, allowedFile)
}

// layOut writes a file of the contract as it was to scratch/base, and as it is to scratch/head. It
// reports whether there is something to compare.
func (c checkout) layOut(ctx context.Context, scratch, commit, file string) (bool, error) {
	is, err := os.ReadFile(filepath.Join(c.dir, file))
	if err != nil {
		return false, err
	}
	if there, err := c.git(ctx, "ls-tree", "--name-only", commit, "--", file); err != nil {
		return false, err
	} else if there == "" {
		fmt.Println("contract: there was no " + file + " yet")
		return false, nil
	}
	was, err := c.gitRaw(ctx, "show", commit+":"+file)
	if err != nil {
		return false, err
	}
	if bytes.Equal(was, is) {
		fmt.Println("contract: " + file + " is the same there")
		return false, nil
	}
	for folder, content := range map[string][]byte{"base": was, "head": is} {
		if err := os.MkdirAll(filepath.Join(scratch, folder), 0o700); err != nil {
			return false, err
		}
		if err := os.WriteFile(filepath.Join(scratch, folder, file), content, 0o600); err != nil {
			return false, err
		}
	}
	return true, nil
}
