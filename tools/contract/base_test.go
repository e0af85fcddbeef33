package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repository is one made for a test.
type repository struct {
	t   *testing.T
	dir string
}

func (r repository) git(args ...string) string {
	r.t.Helper()
	command := exec.Command("git", args...)
	command.Dir = r.dir
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a",
		"GIT_AUTHOR_EMAIL=a@b",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
	out, err := command.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r repository) write(file, content string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, file), []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// commit changes a file and returns the commit.
func (r repository) commit(file, content string) string {
	r.t.Helper()
	r.write(file, content)
	r.git("add", ".")
	r.git("commit", "-qm", "change "+file)
	return r.git("rev-parse", "HEAD")
}

func newRepository(t *testing.T) repository {
	t.Helper()
	r := repository{t, t.TempDir()}
	r.git("init", "-q", "-b", "main")
	r.write(proto, "1")
	return r
}

// clone clones it.
func (r repository) clone(args ...string) repository {
	r.t.Helper()
	c := repository{r.t, filepath.Join(r.t.TempDir(), "clone")}
	r.git(append(append([]string{"clone", "-q"}, args...), "file://"+r.dir, c.dir)...)
	return c
}

// want fails the test unless the base is this commit, for a reason that holds this text.
func (r repository) want(named, commit, reason string) {
	r.t.Helper()
	got, err := checkout{r.dir}.base(r.t.Context(), named)
	if err != nil || got.commit != commit || !strings.Contains(got.what, reason) {
		r.t.Errorf("compared with %q (%s), %v; want %q, %q", got.commit, got.what, err, commit, reason)
	}
}

func TestTheHighestReleaseBeforeHEADIsTheBase(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	first := r.commit(openAPI, "1")
	r.git("tag", "v0.9.0")
	second := r.commit(openAPI, "2")
	r.git("tag", "-a", "-m", "a release", "v0.10.0")
	r.git("tag", "v0.11.0-rc.1")
	r.git("tag", "vendored")
	r.want("", first, "the release v0.9.0") // HEAD is the release
	r.write(openAPI, "3")
	r.want("", second, "the release v0.10.0") // HEAD is, but what lies there is not
	r.commit(openAPI, "3")
	r.want("", second, "the release v0.10.0")
	r.commit("other", "1")
	r.want("", second, "the release v0.10.0")
	r.want(first[:9], first, "named")
	r.want("v0.11.0-rc.1", second, "named")
	r.git("checkout", "-q", "--detach", first)
	r.commit("other", "2")
	r.want("", first, "the release v0.9.0") // v0.10.0 is not among its ancestors
}

func TestWithoutAReleaseMainIsTheBase(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	r.commit(openAPI, "1")
	fork := r.commit(openAPI, "2")
	r.git("checkout", "-q", "-b", "feature")
	r.commit(openAPI, "3")
	r.commit(openAPI, "4")
	r.git("checkout", "-q", "main")
	r.commit(openAPI, "5")
	r.git("checkout", "-q", "feature")
	r.want("", fork, "where HEAD left main")
	r.git("checkout", "-q", "--detach")
	r.want("", fork, "where HEAD left main")

	r.git("checkout", "-q", "feature")
	r.clone().want("", fork, "origin/main")
	alone := r.clone("--single-branch", "--branch", "feature")
	alone.want("", fork, "origin's main")
	r.clone("--depth", "1", "--branch", "feature").want("", fork, "origin's main")

	// main itself has work that origin does not have yet.
	ahead := r.clone("--branch", "main")
	pushed := ahead.git("rev-parse", "HEAD")
	ahead.commit(openAPI, "6")
	ahead.commit("other", "6")
	ahead.want("", pushed, "origin/main")

	alone.git("remote", "remove", "origin")
	alone.git("checkout", "-q", "--detach")
	alone.git("branch", "-q", "-D", "feature")
	alone.want("", alone.git("rev-parse", "HEAD^"), "has left no main branch")
}

func TestMainItselfIsComparedWithTheContractBefore(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	r.commit("other", "1")
	r.want("", "", "made the first contract")
	r.commit(openAPI, "1")
	before := r.commit("other", "2")
	head := r.commit(openAPI, "2")
	r.want("", before, "changed the contract")
	r.write(openAPI, "3")
	r.want("", head, "where HEAD left main") // what is not committed is new
	r.write(openAPI, "2")
	r.commit("other", "3")
	r.want("", before, "changed the contract")
	r.clone().want("", before, "changed the contract")
	r.clone("--depth", "1").want("", before, "changed the contract")

	// A merge is one change, however many commits it brings.
	merged := r.git("rev-parse", "HEAD")
	r.git("checkout", "-q", "-b", "feature")
	r.commit(openAPI, "4")
	r.commit(proto, "5")
	r.git("checkout", "-q", "main")
	r.git("merge", "-q", "--no-ff", "-m", "merge", "feature")
	r.want("", merged, "changed the contract")
	r.git("checkout", "-q", "--detach", "HEAD")
	r.want("", merged, "changed the contract")
}

func TestACheckoutWithoutAnEarlierContractSaysSo(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	r.commit(openAPI, "1")
	r.want("", "", "made the first contract")
	r.commit(openAPI, "2")
	shallow := r.clone("--depth", "1")
	shallow.git("remote", "set-url", "origin", "file://"+t.TempDir())
	none := repository{t, t.TempDir()}
	none.write(openAPI, "1")
	for what, c := range map[string]struct {
		r           repository
		named, want string
	}{
		"shallow, and origin is away": {shallow, "", errHistory.Error()},
		"no history":                  {none, "", "no git history"},
		"no such commit":              {r, "v1.0.0", "-base v1.0.0"},
		"an option":                   {r, "--all", "-base --all"},
	} {
		if got, err := (checkout{c.r.dir}).base(t.Context(), c.named); err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want %q", what, got, err, c.want)
		}
	}
}
