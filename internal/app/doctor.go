package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/obscura-relay/obscura/internal/notice"
)

// Finding is what the doctor says about one part.
type Finding struct {
	Part    string `json:"part"`
	State   State  `json:"state"`
	Finding string `json:"finding"`
	Advice  string `json:"advice,omitempty"` // what to do, unless the state is ok
}

// State is ok, warning or problem, the worse the greater.
type State int

// What a finding is.
const (
	StateOK State = iota
	StateWarning
	StateProblem
)

// String writes the state as it is shown.
func (s State) String() string { return [...]string{"ok", "warning", "problem"}[s] }

// MarshalText writes it so in JSON too.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// doctor looks at everything that a relay needs and changes nothing.
type doctor struct {
	cfg   Config
	url   string // the relay's, as users reach it; "" when it was not named
	found []Finding
}

// askTime bounds each question to another program.
const askTime = 5 * time.Second

// Doctor prints its findings about the relay with this configuration, on this machine. The error
// says how many problems there are.
func Doctor(ctx context.Context, cfg Config, address string, asJSON bool, out io.Writer) error {
	if u, err := url.Parse(address); address != "" && (err != nil || u.Host == "" || u.User != nil) {
		return errors.New("--url must look like https://relay.example.org")
	}
	d := &doctor{cfg: cfg, url: strings.TrimSuffix(address, "/")}
	d.machine()
	d.folders()
	d.ports(ctx)
	d.certificate()
	d.domains(ctx)
	d.database(ctx)
	d.blobs(ctx)
	if cfg.NATSURL != "" {
		d.judge("NATS", notice.TryNATS(cfg.NATSURL), "it answers",
			"check --nats-url (OBSCURA_NATS_URL) and the server; until then mail waits for the polls")
	}
	d.outside(ctx)
	return d.print(asJSON, out)
}

func (d *doctor) say(part string, state State, finding, advice string) {
	if state == StateOK {
		advice = ""
	}
	d.found = append(d.found, Finding{part, state, finding, advice})
}

// judge says that a part is well, or that the error is a problem.
func (d *doctor) judge(part string, err error, well, advice string) {
	if err != nil {
		d.say(part, StateProblem, err.Error(), advice)
		return
	}
	d.say(part, StateOK, well, "")
}

// level is the state of a figure that should not be below two limits.
func level[N int64 | uint64 | time.Duration](figure, problem, warning N) State {
	switch {
	case figure < problem:
		return StateProblem
	case figure < warning:
		return StateWarning
	default:
		return StateOK
	}
}

func (d *doctor) print(asJSON bool, out io.Writer) (err error) {
	problems := 0
	for _, f := range d.found {
		if f.State == StateProblem {
			problems++
		}
		if asJSON {
			continue
		}
		_, failed := fmt.Fprintf(out, "%-8s %s: %s\n", f.State, f.Part, f.Finding)
		if err = errors.Join(err, failed); f.Advice != "" {
			_, failed = fmt.Fprintf(out, "         do: %s\n", f.Advice)
			err = errors.Join(err, failed)
		}
	}
	if asJSON {
		err = json.NewEncoder(out).Encode(d.found)
	}
	switch {
	case err != nil:
		return err
	case problems == 1:
		return errors.New("there is a problem")
	case problems > 1:
		return fmt.Errorf("there are %d problems", problems)
	}
	return nil
}

// causeOf says what is behind an error whose own sentence is for users, or repeats the URL.
func causeOf(err error) error {
	var request *url.Error
	var errno syscall.Errno
	switch {
	case err == nil:
		return nil
	case errors.As(err, &request) && request.Timeout():
		return fmt.Errorf("no answer within %v", askTime)
	case errors.As(err, &request):
		return request.Err
	case errors.As(err, &errno):
		return errno
	}
	return err
}
