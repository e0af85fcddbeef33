package bench

import "fmt"

func (l *load) result(cfg RelayConfig, t *target, from, to usage, a account) *RelayResult {
	seconds := cfg.Duration.Seconds()
	r := &RelayResult{
		Devices: cfg.Devices, Senders: cfg.Senders, Size: cfg.Size, Batch: cfg.Batch, Rate: cfg.Rate, Duration: seconds,
		Accepted:  round(float64(l.accepted.Load()) / seconds),
		Delivered: round(float64(l.delivered.Load()) / seconds),
		Acked:     round(float64(l.acked.Load()) / seconds),
		Lost:      l.ledger.lost(a), Duplicated: a.duplicated, Unconfirmed: a.unconfirmed,
		AcceptedAll: a.accepted, DeliveredOf: a.delivered, InGaps: l.ledger.gaps.Load(),
		OutOfOrder: l.ledger.twisty.Load(), Misdelivered: l.ledger.wrong.Load(), Alien: l.ledger.alien.Load(),
		Send: l.send.read().percentiles(), EndToEnd: l.endToEnd.read().percentiles(),
		Errors: l.errors.read(), Cost: t.cost(from, to, l.accepted.Load()),
	}
	if from.hasSettled && to.hasSettled {
		r.SettledPerS = ptr(round((to.settled - from.settled) / to.at.Sub(from.at).Seconds()))
	}
	if cfg.Rate > 0 {
		r.Late = ptr(l.late.read().percentiles())
	}
	return r
}

func (r *RelayResult) empty() bool { return r.AcceptedAll == 0 }

func (r *RelayResult) figures() []figure {
	return []figure{
		{"delivered/s", r.Delivered, false},
		{"send to receive, p50 ms", r.EndToEnd.P50, true}, {"send to receive, p99 ms", r.EndToEnd.P99, true},
		{"CPU of relay and PostgreSQL, µs a message", r.cpu(), true},
	}
}

func (r *RelayResult) print(cfg Common, relay string) {
	loop := "as fast as they are answered"
	if r.Rate > 0 {
		loop = fmt.Sprintf("%.0f messages/s offered", r.Rate)
	}
	rows := [][2]string{
		row("load", "%d senders to %d connected devices, %d bytes, %d a request, %s, %.0f s", r.Senders, r.Devices,
			r.Size, r.Batch, loop, r.Duration),
		row("accepted", "%s", perSecond(r.Accepted)),
		row("delivered", "%s", perSecond(r.Delivered)),
		row("acknowledged", "%s", perSecond(r.Acked)),
		latency("send", r.Send),
		latency("send to receive", r.EndToEnd),
	}
	if r.SettledPerS != nil {
		rows = append(rows, row("settled by the relay", "%s", perSecond(*r.SettledPerS)))
	}
	if r.Late != nil {
		rows = append(rows, latency("sent after it was due", *r.Late))
	}
	rows = append(rows, row("lost", "%d of %d accepted", r.Lost, r.AcceptedAll), row("duplicated", "%d", r.Duplicated))
	for _, odd := range []struct {
		name string
		n    int64
	}{
		{"unconfirmed", r.Unconfirmed}, {"reported in gaps", r.InGaps}, {"out of order", r.OutOfOrder},
		{"misdelivered", r.Misdelivered}, {"not of this run", r.Alien},
	} {
		if odd.n != 0 {
			rows = append(rows, row(odd.name, "%d", odd.n))
		}
	}
	rows = append(rows, errorRows(r.Errors)...)
	rows = append(rows, r.costRows()...)
	if r.Floor != nil {
		rows = append(rows, row("floor", "%s, of which the relay delivers %.0f %%", perSecond(*r.Floor),
			*r.FloorRatio*100))
	}
	table(cfg.Out, "obscura bench relay: "+relay, rows...)
}
