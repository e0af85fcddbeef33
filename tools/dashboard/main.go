// Command dashboard holds deploy/grafana/obscura.json and deploy/prometheus/alerts.yaml against a
// Prometheus that scrapes a relay: every expression parses and names metrics that there are, every
// panel has something to show, every alert says what to do and is tried. With -picture it draws the
// panels.
//
//	go run -C tools/dashboard . -prometheus URL [-picture FILE.svg]
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"gopkg.in/yaml.v3"
)

const deploy = "../../deploy/"

type panel struct {
	Title       string
	Type        string
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Targets     []struct{ Expr, LegendFormat string }
}

type alert struct {
	Alert, Expr string
	Annotations map[string]string
}

func main() {
	server := flag.String("prometheus", "", "URL of a Prometheus that has scraped a relay")
	picture := flag.String("picture", "", "draw the panels into this SVG")
	flag.Parse()
	if err := run(prometheus(*server), *picture); err != nil {
		fmt.Fprintln(os.Stderr, "dashboard:", err)
		os.Exit(1)
	}
}

func run(server prometheus, picture string) error {
	panels, err := readPanels()
	if err != nil {
		return err
	}
	alerts, err := readAlerts()
	if err != nil {
		return err
	}
	var names struct{ Data []string }
	if err := server.get("/api/v1/label/__name__/values", nil, &names); err != nil {
		return err
	}
	var wrong []error
	tried := 0
	check := func(where, expr string, hasData bool) {
		tried++
		for _, name := range metric.FindAllString(expr, -1) {
			if !slices.Contains(names.Data, name) {
				wrong = append(wrong, fmt.Errorf("%s names %s, which there is not", where, name))
			}
		}
		found, err := server.query(expand(expr))
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", where, err))
		} else if hasData && len(found) == 0 {
			wrong = append(wrong, fmt.Errorf("%s shows nothing: %s", where, expr))
		}
	}
	for _, p := range panels {
		for _, target := range p.Targets {
			// Nothing has to be refused for a relay to be well.
			check("panel "+p.Title, target.Expr, !strings.Contains(target.Expr, "status=~"))
		}
	}
	for _, a := range alerts {
		check("alert "+a.Alert, a.Expr, false)
	}
	if err := errors.Join(wrong...); err != nil {
		return err
	}
	fmt.Printf("%d panels and %d alerts: %d expressions parse and name metrics that there are\n", len(panels), len(alerts),
		tried)
	if picture == "" {
		return nil
	}
	return draw(server, panels, picture)
}

var metric = regexp.MustCompile(`\b(obscura|pgxpool|process|go)_\w+\b`)

// expand replaces what Grafana does.
func expand(expr string) string {
	return strings.NewReplacer("$__rate_interval", "10s", "$instance", ".*").Replace(expr)
}

// readPanels reads the dashboard by Grafana's own schema, strictly, and again for what we need.
func readPanels() ([]panel, error) {
	text, err := os.ReadFile(deploy + "grafana/obscura.json")
	if err != nil {
		return nil, err
	}
	plugins.RegisterDefaultPlugins()
	var whole dashboard.Dashboard
	for _, err := range []error{whole.UnmarshalJSONStrict(text), whole.Validate()} {
		var several cog.BuildErrors // the library returns an empty one where there is no error
		if err != nil && (!errors.As(err, &several) || len(several) > 0) {
			return nil, fmt.Errorf("the dashboard is not one by Grafana's schema: %w", err)
		}
	}
	var ours struct{ Panels []panel }
	err = json.Unmarshal(text, &ours)
	return ours.Panels, err
}

func readAlerts() (all []alert, err error) {
	var file struct {
		Groups []struct{ Rules []alert }
	}
	text, err := os.ReadFile(deploy + "prometheus/alerts.yaml")
	if err == nil {
		err = yaml.Unmarshal(text, &file)
	}
	if err != nil {
		return nil, err
	}
	tests, err := os.ReadFile(deploy + "prometheus/alerts_test.yaml")
	if err != nil {
		return nil, err
	}
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	for _, a := range all {
		if a.Annotations["summary"] == "" || a.Annotations["action"] == "" {
			return nil, fmt.Errorf("the alert %s does not say what it means and what to do", a.Alert)
		}
		if !strings.Contains(string(tests), `{alertname="`+a.Alert+`"`) {
			return nil, fmt.Errorf("no test has the alert %s fire", a.Alert)
		}
	}
	return all, nil
}

// prometheus is the URL of one.
type prometheus string

func (p prometheus) get(path string, query url.Values, into any) error {
	response, err := http.Get(string(p) + path + "?" + query.Encode())
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct{ Error string }
	if response.StatusCode != http.StatusOK {
		_ = json.NewDecoder(response.Body).Decode(&answer)
		return fmt.Errorf("prometheus says %d: %s", response.StatusCode, answer.Error)
	}
	return json.NewDecoder(response.Body).Decode(into)
}

func (p prometheus) query(expr string) ([]any, error) {
	var answer struct{ Data struct{ Result []any } }
	err := p.get("/api/v1/query", url.Values{"query": {expr}}, &answer)
	return answer.Data.Result, err
}
