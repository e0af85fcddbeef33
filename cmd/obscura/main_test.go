package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

// asMain tells this test binary to be the command.
const asMain = "OBSCURA_TEST_AS_MAIN"

// descriptors is how many file descriptors the command may have.
const descriptors = "OBSCURA_TEST_DESCRIPTORS"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		if n, err := strconv.ParseUint(os.Getenv(descriptors), 10, 32); err == nil {
			_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n})
		}
		main()
		return
	}
	testdb.Main(m)
}

// command is the program with arguments and variables of its own, and nothing of ours.
func command(t *testing.T, environ []string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append([]string{asMain + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir}, environ...)
	return cmd
}

// fails runs a command that must not start, and returns what it says.
func fails(t *testing.T, environ []string, args ...string) string {
	t.Helper()
	out, err := command(t, environ, args...).CombinedOutput()
	if err == nil {
		t.Errorf("%v: no error, but: %s", args, out)
	}
	return string(out)
}

func TestHelpNamesEveryFlagAndItsVariable(t *testing.T) {
	t.Parallel()
	for _, environ := range [][]string{nil, {"OBSCURA_LISTN=x"}} { // also when it is asked because of a typo
		out, err := command(t, environ, "serve", "--help").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, want := range []string{"--listen=ADDRESS", "$OBSCURA_LISTEN", "127.0.0.1:3000",
			"$OBSCURA_MANAGEMENT_LISTEN", "127.0.0.1:9090",
			"$OBSCURA_DATA_DIR", "$OBSCURA_DATABASE_URL", "$DATABASE_URL", "$OBSCURA_RATE_LIMITS",
			"$OBSCURA_CORS_ORIGINS",
			"$OBSCURA_TRUSTED_PROXIES", "$OBSCURA_TOKEN_KEY", "--limit=NAME=N/TIME", "$OBSCURA_LIMITS",
			"$OBSCURA_LOG_FORMAT", "--[no-]migrate"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("the help lacks %s", want)
			}
		}
	}
	for _, args := range [][]string{nil, {"--help"}} {
		out, err := command(t, nil, args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "serve") || !strings.Contains(string(out), "migrate") ||
			!strings.Contains(string(out), "version") {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
}

func TestVersionIsPrinted(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"version"}, {"--version"}, {"serve", "--version"}} {
		out, err := command(t, nil, args...).CombinedOutput()
		if err != nil || !regexp.MustCompile(`^obscura \S+, commit \S+ of \S+, go1\S+ linux/\S+\n$`).Match(out) {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
}

func TestWhatIsWrongIsSaidInOneLine(t *testing.T) {
	t.Parallel()
	const url = "OBSCURA_DATABASE_URL=postgres://obscura:hunter2hunter2@127.0.0.1:1/obscura"
	for _, c := range []struct {
		environ, args []string
		want          string
	}{
		{nil, []string{"frob"}, "there is no command or argument frob; --help lists those that there are"},
		{nil, []string{"serv"}, "there is no command or argument serv, perhaps serve;"},
		{nil, []string{"serve", "--frob"}, "there is no flag --frob; --help lists those that there are"},
		{nil, []string{"serve", "--listn=x"}, "there is no flag --listn, perhaps --listen;"},
		{[]string{"OBSCURA_LISTN=secret"}, []string{"serve"}, "the environment variable OBSCURA_LISTN is not known"},
		{[]string{"OBSCURA_LISTEN=3000"}, []string{"serve"},
			"--listen (OBSCURA_LISTEN) must be HOST:PORT, for example 127.0.0.1:3000"},
		{nil, []string{"serve", "--listen=3000"},
			"--listen (OBSCURA_LISTEN) must be HOST:PORT, for example 127.0.0.1:3000"},
		{nil, []string{"serve", "--database-connections=1"},
			"--database-connections (OBSCURA_DATABASE_CONNECTIONS) must be at least 4"},
		{[]string{"OBSCURA_RATE_LIMITS=maybe"}, []string{"serve"},
			`--rate-limits (OBSCURA_RATE_LIMITS) must be one of on, off`},
		{[]string{"OBSCURA_LIMIT_SENDS=many"}, []string{"serve"},
			"--limit-sends (OBSCURA_LIMIT_SENDS) must be a rate EVENTS/TIME, for example 20/1m"},
		{[]string{"OBSCURA_LIMITS=sends=many"}, []string{"serve"},
			"--limit (OBSCURA_LIMITS) must be rates by name, for example sends=3000/1m"},
		{nil, []string{"serve", "--limit=sends"},
			"--limit (OBSCURA_LIMITS) must be rates by name, for example sends=3000/1m"},
		{[]string{"OBSCURA_LIMITS=frobs=1/1m"}, []string{"serve"},
			`there is no limit "frobs"; the limits are register, log-in`},
		{nil, []string{"serve", "--limit=frobs=1/1m"}, `there is no limit "frobs"; the limits are register, log-in`},
		{[]string{"OBSCURA_LIMITS=sends=1/1m, frobs=1/1m"}, []string{"serve"},
			`there is no limit "frobs"; the limits are register, log-in`},
		{nil, []string{"serve", "--attachment-quota=1MiB"},
			"--attachment-quota (OBSCURA_ATTACHMENT_QUOTA) and --attachment-daily-quota (OBSCURA_ATTACHMENT_DAILY_QUOTA) must have room"},
		{nil, []string{"migrate", "--database-url="},
			"--database-url (OBSCURA_DATABASE_URL, DATABASE_URL) must be given with a value: --database-url=URL"},
		{[]string{url}, []string{"serve", "--data-dir="}, "--data-dir (OBSCURA_DATA_DIR) must be given with a value"},
		{[]string{"OBSCURA_TRUSTED_PROXIES=10.0.0.1"}, []string{"serve"},
			"--trusted-proxies (OBSCURA_TRUSTED_PROXIES) must be networks, separated by commas without spaces, for example 10.0.0.0/8,::1/128"},
		{[]string{"OBSCURA_TOKEN_KEY=c2VjcmV0c2VjcmV0"}, []string{"serve"},
			"--token-key (OBSCURA_TOKEN_KEY) must be at least 32 bytes in base64"},
		{[]string{"OBSCURA_CORS_ORIGINS=https://a.example,b.example"}, []string{"serve"},
			"--cors-origins (OBSCURA_CORS_ORIGINS) must be"},
		{[]string{"OBSCURA_READ_TIMEOUT=soon"}, []string{"serve"},
			"--read-timeout (OBSCURA_READ_TIMEOUT) must be a time, for example 250ms, 20s or 10m"},
		{[]string{"OBSCURA_READ_TIMEOUT=1ms"}, []string{"serve"},
			"--read-timeout (OBSCURA_READ_TIMEOUT) must be at least 100ms"},
		{[]string{"OBSCURA_LOG_LEVEL=loud"}, []string{"serve"},
			"--log-level (OBSCURA_LOG_LEVEL) must be debug, info, warn or error"},
		{[]string{"OBSCURA_DATABASE_URL=mysql://u:hunter2hunter2@h/d"}, []string{"serve"},
			"the database URL is not valid: it must look like postgres://user@host/database"},
		{[]string{"DATABASE_URL=:hunter2hunter2"}, []string{"migrate"}, "the database URL is not valid"},
		{[]string{url, "OBSCURA_LOG_FORMAT=loud"}, []string{"serve"},
			"--log-format (OBSCURA_LOG_FORMAT) must be one of auto, text, json"},
		{nil, []string{"conform"}, "the URL of the relay must look like http://127.0.0.1:3000"},
		{nil, []string{"conform", "http://me:hunter2hunter2@127.0.0.1:1"},
			"the URL of the relay must look like http://127.0.0.1:3000"},
		{nil, []string{"conform", "http://127.0.0.1:1"}, "no relay answers at this URL"},
		{nil, []string{"conform", "http://127.0.0.1:1", "--only=frob"}, `there is no check "frob"; --list shows all`},
	} {
		out := fails(t, c.environ, c.args...)
		if !strings.Contains(out, c.want) || strings.Count(strings.TrimSpace(out), "\n") != 0 ||
			!strings.HasPrefix(out, "obscura: ") {
			t.Errorf("%v %v: %q, want one line with %q", c.environ, c.args, out, c.want)
		}
		if strings.Contains(out, "hunter2") || strings.Contains(out, "c2VjcmV0") {
			t.Errorf("%v: a secret is printed: %s", c.environ, out)
		}
	}
}

func TestADataFolderThatCannotBeMadeNamesItsSetting(t *testing.T) {
	t.Parallel()
	out := fails(t, nil, "migrate", "--data-dir=/dev/null")
	want := "obscura: the data folder /dev/null cannot be made or written to: mkdir /dev/null: not a directory: name another with " +
		"--data-dir (OBSCURA_DATA_DIR), or make it and give it to the user that runs the relay\n"
	if !strings.HasSuffix(out, want) {
		t.Errorf("%q, want %q at its end", out, want)
	}
}

// serving starts `obscura serve` and waits until it tells where it listens.
func serving(t *testing.T, environ []string, args ...string) (cmd *exec.Cmd, api, management string) {
	t.Helper()
	cmd = command(t, environ, append([]string{"serve", "--listen=127.0.0.1:0", "--management-listen=127.0.0.1:0"},
		args...)...)
	api, management = listens(t, cmd)
	return cmd, api, management
}

// listens starts a command and waits until it tells where it listens.
func listens(t *testing.T, cmd *exec.Cmd) (api, management string) {
	t.Helper()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var said strings.Builder
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		var line struct{ Msg, API, Management string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
			go func() { _, _ = io.Copy(io.Discard, stderr) }()
			return line.API, line.Management
		}
	}
	t.Fatalf("it does not listen: %s", &said)
	return "", ""
}

func TestFlagsAndVariablesReachTheRelay(t *testing.T) {
	t.Parallel()
	// Flags win over variables, OBSCURA_DATABASE_URL over DATABASE_URL.
	cmd, api, management := serving(t,
		[]string{"OBSCURA_DATABASE_URL=" + testdb.NewURL(t), "DATABASE_URL=postgres://nowhere.invalid/x",
			"OBSCURA_LISTEN=not an address", "OBSCURA_CORS_ORIGINS=https://one.example,https://two.example",
			"OBSCURA_TRUSTED_PROXIES=127.0.0.0/8,::1/128",
			"OBSCURA_LIMIT_LOG_IN=2/1h", "OBSCURA_LOG_LEVEL=info", "OBSCURA_TEST_ANYTHING=1"})
	for origin, want := range map[string]string{"https://two.example": "https://two.example",
		"https://three.example": ""} {
		if got := post(t, api,
			map[string]string{"Origin": origin}).header.Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("%s: %q", origin, got)
		}
	}
	for address, limited := range map[string]int{"192.0.2.1": 429, "192.0.2.2": 429} {
		var statuses []int
		for range 3 {
			statuses = append(statuses, post(t, api, map[string]string{"X-Forwarded-For": address}).status)
		}
		if !slices.Equal(statuses, []int{400, 400, limited}) {
			t.Errorf("%s: statuses %v", address, statuses)
		}
	}
	if _, err := net.Dial("tcp", regexp.MustCompile(`^http://`).ReplaceAllString(management, "")); err != nil {
		t.Error(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}

type answer struct {
	status int
	header http.Header
}

// post is a log-in with an empty body: 400, unless a limit comes first.
func post(t *testing.T, api string, header map[string]string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, api+"/v1/sessions",
		strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := (&http.Client{Transport: relaytest.Validated(t,
		&http.Transport{DisableKeepAlives: true})}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return answer{response.StatusCode, response.Header}
}

func TestDatabaseURLIsAnAlias(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	if out, err := command(t, []string{"DATABASE_URL=" + url, "OBSCURA_LISTEN=127.0.0.1:0"},
		"migrate").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	serving(t, []string{"DATABASE_URL=" + url})
}

func TestATakenOrBadPortNamesItsSettingBeforeAnythingIsMade(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for flag, setting := range map[string]string{
		"--listen":            "--listen (OBSCURA_LISTEN)",
		"--management-listen": "--management-listen (OBSCURA_MANAGEMENT_LISTEN)",
	} {
		for address, why := range map[string]string{
			taken.Addr().String(): "another program listens there",
			"127.0.0.1:99999":     "it is not an address with a port from 0 to 65535",
			"192.0.2.1:0":         "this machine does not have the address 192.0.2.1",
			"relay.invalid:0":     "the host name relay.invalid is not known",
		} {
			cmd := command(t, nil, "serve", "--listen=127.0.0.1:0", "--management-listen=127.0.0.1:0", flag+"="+address)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.HasPrefix(string(out), "obscura: cannot listen for ") ||
				strings.Count(string(out), "\n") != 1 ||
				!strings.Contains(string(out), address+": "+why) ||
				!strings.HasSuffix(string(out), ": choose another address with "+setting+"\n") {
				t.Errorf("%s: %s", address, out)
			}
			if made, err := os.ReadDir(cmd.Dir); err != nil || len(made) != 0 {
				t.Errorf("%s: it made %v before", address, made)
			}
		}
	}
}

func TestTheFirstLineNamesTheDocumentation(t *testing.T) {
	t.Parallel()
	cmd := command(t, []string{"DATABASE_URL=postgres://nobody@database.invalid/x"}, "serve", "--listen=127.0.0.1:0",
		"--management-listen=127.0.0.1:0")
	out, _ := cmd.CombinedOutput()
	var line struct{ Msg, Documentation string }
	if err := json.Unmarshal(bytes.SplitN(out, []byte("\n"), 2)[0], &line); err != nil ||
		!regexp.MustCompile(`^http://127\.0\.0\.1:\d+/docs$`).MatchString(line.Documentation) {
		t.Errorf("%v: %s", err, out)
	}
}
