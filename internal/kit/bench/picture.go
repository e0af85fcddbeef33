package bench

import (
	"fmt"
	"html"
	"math"
	"os"
	"strings"
	"time"
)

// The picture is a histogram on a logarithmic scale: 60 bars from 0.1 ms to 100 s, a row for each
// latency.
const (
	pictureWidth = 860
	rowHeight    = 190
	plotLeft     = 30
	plotWidth    = 800
	plotHeight   = 120
	barsPerTen   = 10
	lowestPower  = -4 // of ten, in seconds
	highestPower = 2
)

// drawLatencies writes the histograms of a relay run as SVG.
func drawLatencies(path string, r *RelayResult, send, endToEnd *counts) error {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", pictureWidth, 2*rowHeight+20)
	fmt.Fprintln(&b, `<rect width="100%" height="100%" fill="#ffffff"/>`)
	title := fmt.Sprintf("%d senders, %d devices, %d bytes, %d a request: %.0f delivered/s", r.Senders, r.Devices,
		r.Size, r.Batch, r.Delivered)
	drawRow(&b, 0, "Send: "+title, "#3b6ea5", send, r.Send)
	drawRow(&b, rowHeight, "Send to receive: "+title, "#a5593b", endToEnd, r.EndToEnd)
	fmt.Fprintln(&b, `</svg>`)
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("cannot write the picture: %w", err)
	}
	return nil
}

func drawRow(b *strings.Builder, top int, title, colour string, c *counts, p Percentiles) {
	bars := barsOf(c)
	var tallest uint64 = 1
	for _, n := range bars {
		tallest = max(tallest, n)
	}
	base := top + 35 + plotHeight
	fmt.Fprintf(b, `<text x="%d" y="%d" font-size="14">%s</text>`+"\n", plotLeft, top+22, html.EscapeString(title))
	width := float64(plotWidth) / float64(len(bars))
	for i, n := range bars {
		if height := float64(n) / float64(tallest) * plotHeight; n > 0 {
			fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n",
				plotLeft+float64(i)*width, float64(base)-max(height, 1), width-1, max(height, 1), colour)
		}
	}
	for power := lowestPower; power <= highestPower; power++ {
		x := plotLeft + float64(power-lowestPower)/(highestPower-lowestPower)*plotWidth
		fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#888888"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			x, base, x, base+4, x, base+18, time.Duration(math.Pow10(power+9)))
	}
	for _, mark := range []struct {
		name string
		ms   float64
	}{{"p50", p.P50}, {"p99", p.P99}, {"p99.9", p.P999}} {
		x := place(time.Duration(mark.ms * 1e6))
		fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#222222" stroke-dasharray="3 3"/><text x="%.1f" y="%d" font-size="10">%s</text>`+"\n",
			x, top+38, x, base, x+2, top+46, mark.name)
	}
}

// barsOf sums the buckets of a histogram into the picture's bars.
func barsOf(c *counts) []uint64 {
	bars := make([]uint64, (highestPower-lowestPower)*barsPerTen)
	for i, n := range c {
		if n == 0 {
			continue
		}
		share := (place(upper(i)) - plotLeft) / plotWidth
		bars[min(int(share*float64(len(bars))), len(bars)-1)] += n
	}
	return bars
}

// place is where on the horizontal axis a duration lies.
func place(d time.Duration) float64 {
	power := math.Log10(max(d.Seconds(), math.Pow10(lowestPower)))
	return plotLeft + min((power-lowestPower)/(highestPower-lowestPower), 1)*plotWidth
}
