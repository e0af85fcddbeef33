package main

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The picture: three panels in a row, as in the dashboard, each with at most mostLines lines.
const (
	panelWidth, panelHeight = 400, 190
	left, top               = 52, 28
	plotWidth, plotHeight   = 330, 100
	mostLines               = 6
	points                  = 60
)

var colours = []string{"#3b6ea5", "#c4672f", "#4f8f4f", "#a03c6f", "#7a6bb0", "#8a8a2a"}

type series struct {
	label  string
	values [][2]float64
	most   float64
}

// draw draws the time from the first sample to now.
func draw(server prometheus, panels []panel, path string) error {
	var since struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := server.get("/api/v1/query", url.Values{"query": {`min_over_time(timestamp(up)[1h:1s])`}}, &since); err != nil {
		return err
	}
	if len(since.Data.Result) == 0 {
		return fmt.Errorf("nothing was scraped")
	}
	end := time.Now()
	begin, _ := strconv.ParseFloat(since.Data.Result[0].Value[1].(string), 64)
	length := float64(end.Unix()) - begin
	var b strings.Builder
	at, rows := 0, 0
	for _, p := range panels {
		if p.Type == "row" {
			at = (at + 2) / 3 * 3
			continue
		}
		lines, err := server.lines(p, begin, length)
		if err != nil {
			return err
		}
		drawPanel(&b, at%3*panelWidth, at/3*panelHeight, p, lines, begin, length)
		at++
		rows = (at + 2) / 3
	}
	svg := fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="10">`+
		"\n"+`<rect width="100%%" height="100%%" fill="#ffffff"/>`+"\n%s</svg>\n", 3*panelWidth, rows*panelHeight, b.String())
	return os.WriteFile(path, []byte(svg), 0o644)
}

var labelName = regexp.MustCompile(`\{\{(\w+)\}\}`)

// lines asks for what a panel shows: the highest lines of each of its expressions.
func (p prometheus) lines(shown panel, begin, length float64) (all []series, err error) {
	for _, target := range shown.Targets {
		var answer struct {
			Data struct {
				Result []struct {
					Metric map[string]string
					Values [][2]any
				}
			}
		}
		if err := p.get("/api/v1/query_range", url.Values{"query": {expand(target.Expr)},
			"start": {fmt.Sprint(int64(begin))}, "end": {fmt.Sprint(int64(begin + length))},
			"step": {fmt.Sprint(length / points)}}, &answer); err != nil {
			return nil, err
		}
		for _, r := range answer.Data.Result {
			s := series{label: labelName.ReplaceAllStringFunc(target.LegendFormat, func(name string) string {
				if name = strings.Trim(name, "{}"); name == "instance" {
					return ""
				}
				return r.Metric[name]
			})}
			for _, v := range r.Values {
				value, _ := strconv.ParseFloat(v[1].(string), 64)
				if !math.IsNaN(value) && !math.IsInf(value, 0) {
					s.values = append(s.values, [2]float64{v[0].(float64), value})
					s.most = max(s.most, value)
				}
			}
			if len(s.values) > 0 {
				all = append(all, s)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b series) int { return cmp.Compare(b.most, a.most) })
	return all[:min(len(all), mostLines)], nil
}

func drawPanel(b *strings.Builder, x, y int, p panel, lines []series, begin, length float64) {
	most := 0.0
	for _, s := range lines {
		most = max(most, s.most)
	}
	if most == 0 {
		most = 1
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" font-size="13" font-weight="bold">%s</text>`+"\n", x+left, y+18,
		html.EscapeString(p.Title))
	for i := range 3 {
		height := y + top + plotHeight - i*plotHeight/2
		fmt.Fprintf(b, `<path d="M%d %dh%d" stroke="#dddddd"/>`, x+left, height, plotWidth)
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", x+left-4, height+3,
			readable(most*float64(i)/2, p.FieldConfig.Defaults.Unit))
	}
	labelX, labelY := x+left, y+top+plotHeight+15
	for i, s := range lines {
		colour := colours[i]
		var path strings.Builder
		for n, v := range s.values {
			fmt.Fprintf(&path, "%s%.0f %.0f", map[bool]string{true: "M", false: "L"}[n == 0],
				float64(x+left)+(v[0]-begin)/length*plotWidth, float64(y+top+plotHeight)-v[1]/most*plotHeight)
		}
		fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", path.String(), colour)
		label := strings.TrimSpace(s.label)
		if labelX > x+left && labelX+6*len(label) > x+panelWidth-8 {
			labelX, labelY = x+left, labelY+12
		}
		fmt.Fprintf(b, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n", labelX, labelY, colour, html.EscapeString(label))
		labelX += 6*len(label) + 12
	}
}

// readable writes a value of a unit of Grafana's.
func readable(v float64, unit string) string {
	switch unit {
	case "bytes", "Bps":
		for _, scale := range []struct {
			name string
			size float64
		}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
			if v >= scale.size {
				return fmt.Sprintf("%.3g %s", v/scale.size, scale.name)
			}
		}
	case "s":
		return time.Duration(v * float64(time.Second)).Round(100 * time.Microsecond).String()
	case "percentunit":
		return fmt.Sprintf("%.0f %%", 100*v)
	}
	if v >= 1000 {
		return fmt.Sprintf("%.3gk", v/1000)
	}
	return fmt.Sprintf("%.3g", v)
}
