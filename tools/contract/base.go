package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// fetching bounds what is asked of the network.
const fetching = time.Minute

// checkout is a checkout of the repository.
type checkout struct{ dir string }

// base is what a contract is compared with. Without a commit there is nothing, and what says why.
type base struct{ commit, what string }

var errHistory = errors.New("the history that this checkout has ends before an earlier contract. Fetch more of it " +
	"(git fetch --unshallow --tags), or name what to compare with: make contract BASE=a-commit")

// base finds the earlier contract, as the comment of the command says.
func (c checkout) base(ctx context.Context, named string) (base, error) {
	head, err := c.commit(ctx, "HEAD")
	if err != nil {
		return base{}, fmt.Errorf("there is no git history here, so there is no earlier contract: %w", err)
	}
	if named != "" {
		commit, err := c.commit(ctx, named)
		if err != nil {
			return base{}, fmt.Errorf("-base %s: %w", named, err)
		}
		return base{commit, c.short(ctx, commit) + ", which was named"}, nil
	}
	if c.shallow(ctx) {
		c.fetch(ctx, "--unshallow", "--tags", "origin")
	}
	edited, err := c.edited(ctx)
	if err != nil {
		return base{}, err
	}
	for _, find := range []func(context.Context) ([]base, error){c.releases, c.forks} {
		candidates, err := find(ctx)
		if err != nil {
			return base{}, err
		}
		for _, found := range candidates {
			if found.commit != head || edited { // HEAD itself counts only for what is not committed yet
				return found, nil
			}
		}
	}
	return c.previous(ctx)
}

var releaseTag = regexp.MustCompile(`^v\d+\.\d+\.\d+$`)

// releases are those that HEAD contains, the highest first.
func (c checkout) releases(ctx context.Context) (found []base, err error) {
	tags, err := c.git(ctx, "tag", "--merged", "HEAD", "--sort=-version:refname")
	if err != nil {
		return nil, err
	}
	for _, tag := range strings.Fields(tags) {
		if !releaseTag.MatchString(tag) {
			continue
		}
		commit, err := c.commit(ctx, "refs/tags/"+tag)
		if err != nil {
			return nil, err
		}
		found = append(found, base{commit, "the release " + tag})
	}
	return found, nil
}

// forks is where HEAD left the main branch, if there is one to be had.
func (c checkout) forks(ctx context.Context) ([]base, error) {
	for _, main := range []struct{ ref, name string }{
		{"refs/remotes/origin/main", "origin/main"}, {"refs/heads/main", "main"}, {"FETCH_HEAD", "origin's main"}} {
		if main.ref == "FETCH_HEAD" && !c.fetch(ctx, "origin", "main") {
			continue
		}
		commit, err := c.git(ctx, "merge-base", "HEAD", main.ref)
		if err != nil { // it is not there, or has nothing in common as far as this checkout goes
			continue
		}
		return []base{{commit, c.short(ctx, commit) + ", where HEAD left " + main.name}}, nil
	}
	return nil, nil
}

// previous is the commit before the last one that changed the contract.
func (c checkout) previous(ctx context.Context) (base, error) {
	last, err := c.git(ctx, "rev-list", "--first-parent", "-1", "HEAD", "--", openAPI, proto)
	if err != nil {
		return base{}, err
	}
	if last == "" {
		return base{"", "nothing: no commit holds a contract yet"}, nil
	}
	commit, err := c.commit(ctx, last+"^")
	switch {
	case err == nil:
		return base{commit, fmt.Sprintf("%s, the last one before %s changed the contract, since HEAD has left no main branch and is after no release",
			c.short(ctx, commit), c.short(ctx, last))}, nil
	case c.shallow(ctx):
		return base{}, errHistory
	default:
		return base{"", "nothing: " + c.short(ctx, last) + " made the first contract"}, nil
	}
}

// edited reports whether the contract differs from that of HEAD.
func (c checkout) edited(ctx context.Context) (bool, error) {
	names, err := c.git(ctx, "diff", "--name-only", "HEAD", "--", openAPI, proto)
	return names != "", err
}

// shallow reports whether the history of this checkout is cut off somewhere.
func (c checkout) shallow(ctx context.Context) bool {
	answer, err := c.git(ctx, "rev-parse", "--is-shallow-repository")
	return err != nil || answer == "true"
}

func (c checkout) commit(ctx context.Context, name string) (string, error) {
	return c.git(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", name+"^{commit}")
}

func (c checkout) short(ctx context.Context, commit string) string {
	short, err := c.git(ctx, "rev-parse", "--short", commit)
	if err != nil {
		return commit
	}
	return short
}

// fetch asks for what is missing, and reports whether it came.
func (c checkout) fetch(ctx context.Context, what ...string) bool {
	ctx, cancel := context.WithTimeout(ctx, fetching)
	defer cancel()
	_, err := c.git(ctx, append([]string{"fetch", "--quiet"}, what...)...)
	return err == nil
}

func (c checkout) git(ctx context.Context, args ...string) (string, error) {
	out, err := c.gitRaw(ctx, args...)
	return strings.TrimSpace(string(out)), err
}

func (c checkout) gitRaw(ctx context.Context, args ...string) ([]byte, error) {
	return run(ctx, c.dir, []string{"GIT_TERMINAL_PROMPT=0"}, "git", args...)
}
