// Package metrics is everything the relay counts, for Prometheus.
//
// Invariant: labels are operation ids, statuses and reasons; never an id, a name or an address.
// Counting cannot fail, and what is counted is lost with the process.
package metrics

import (
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/obscura-relay/obscura/internal/core"
)

// Metrics is one relay's set of collectors.
type Metrics struct {
	registry     *prometheus.Registry
	requests     *prometheus.HistogramVec
	batches      *prometheus.HistogramVec
	sockets      prometheus.Gauge
	accepted     prometheus.Counter
	delivered    prometheus.Counter
	acknowledged prometheus.Counter
	dropped      *prometheus.CounterVec
	blobBytes    *prometheus.CounterVec
	wakeups      *prometheus.CounterVec
	cancelled    prometheus.Counter
	ready        *prometheus.GaugeVec
	pressure     *prometheus.GaugeVec
	free         *prometheus.GaugeVec
}

// New makes the collectors and registers those of the Go runtime and the process beside them.
func New() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "obscura_request_duration_seconds", Help: "HTTP requests by operation and status.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5},
		}, []string{"operation", "status"}),
		batches: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "obscura_batch_envelopes",
			Help:    "Envelopes stored (sends) or deleted (acknowledgements) in one transaction.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 7),
		}, []string{"batch"}),
		sockets: prometheus.NewGauge(prometheus.GaugeOpts{Name: "obscura_live_sockets",
			Help: "Open gateway sockets."}),
		accepted: prometheus.NewCounter(prometheus.CounterOpts{Name: "obscura_envelopes_accepted_total",
			Help: "Envelopes stored."}),
		delivered: prometheus.NewCounter(prometheus.CounterOpts{Name: "obscura_envelopes_delivered_total",
			Help: "Envelopes written to a socket, repeats included."}),
		acknowledged: prometheus.NewCounter(prometheus.CounterOpts{Name: "obscura_envelopes_acknowledged_total",
			Help: "Envelopes deleted because their device acknowledged them."}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "obscura_envelopes_dropped_total", Help: "Envelopes dropped and recorded as a gap, by reason.",
		}, []string{"reason"}),
	}
	m.blobBytes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "obscura_blob_bytes_total", Help: "Bytes of attachments and backups, stored (in) or sent (out).",
	}, []string{"direction"})
	m.blobBytes.WithLabelValues("in")
	m.blobBytes.WithLabelValues("out")
	m.wakeups = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "obscura_push_wakeups_total",
		Help: "Tries to wake up a device, by push service and result; unneeded: nothing was sent, since its mail was gone."}, []string{"kind", "result"})
	m.cancelled = prometheus.NewCounter(prometheus.CounterOpts{Name: "obscura_push_wakeups_cancelled_total",
		Help: "Wake-ups not sent because the device connected in time."})
	m.ready = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "obscura_ready",
		Help: "Whether a part was available (1) when it was looked at last, every 10 seconds and for /readyz."},
		[]string{"part"})
	m.pressure = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "obscura_pressure",
		Help: "What is refused because a resource runs short: 0 nothing, 1 new accounts, 2 also log-ins, 3 also new devices and uploads, 4 also sends."},
		[]string{"resource"})
	m.free = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "obscura_free",
		Help: "What is left of a resource: of disks and memory in bytes, of queues as a part of 1."},
		[]string{"resource"})
	for _, kind := range []string{"web_push", "fcm", "apns"} {
		for _, result := range []string{"delivered", "failed", "invalid", "rejected", "unneeded"} {
			m.wakeups.WithLabelValues(kind, result)
		}
	}
	for _, batch := range []string{"sends", "acknowledgements"} {
		m.batches.WithLabelValues(batch)
	}
	for _, reason := range reasons {
		m.dropped.WithLabelValues(reason)
	}
	m.registry.MustRegister(m.requests, m.batches, m.sockets, m.accepted, m.delivered, m.acknowledged, m.dropped,
		m.blobBytes, m.wakeups, m.cancelled, m.ready, m.pressure, m.free,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

var reasons = map[core.GapReason]string{
	core.GapExpired: "expired", core.GapCap: "cap", core.GapTakeover: "takeover", core.GapQuarantined: "quarantined",
}

// Pressure says how high the pressure of a resource is.
func (m *Metrics) Pressure(resource string, level int) {
	m.pressure.WithLabelValues(resource).Set(float64(level))
}

// Free says how much of a resource is free.
func (m *Metrics) Free(resource string, free float64) { m.free.WithLabelValues(resource).Set(free) }

// Registry is where further collectors are registered and the management port reads.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Queue measures how much waits in a queue.
func (m *Metrics) Queue(name string, waiting func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "obscura_queue_waiting", Help: "What waits to be worked on, by queue.",
		ConstLabels: prometheus.Labels{"queue": name},
	}, func() float64 { return float64(waiting()) }))
}

// Gauge measures something whenever it is asked for.
func (m *Metrics) Gauge(name, help string, value func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help},
		func() float64 { return float64(value()) }))
}

// Counter tells what somebody else has counted.
func (m *Metrics) Counter(name, help string, value func() int) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help},
		func() float64 { return float64(value()) }))
}

// Build tells what runs.
func (m *Metrics) Build(version string) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "obscura_build_info",
		Help:        "1, with the version of the relay and of Go.",
		ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version()}}, func() float64 { return 1 }))
}

// Request counts one HTTP request.
func (m *Metrics) Request(operation string, status int, d time.Duration) {
	m.requests.WithLabelValues(operation, strconv.Itoa(status)).Observe(d.Seconds())
}

// SocketOpened and SocketClosed count gateway sockets.
func (m *Metrics) SocketOpened() { m.sockets.Inc() }

// SocketClosed is the end of a socket.
func (m *Metrics) SocketClosed() { m.sockets.Dec() }

// Accepted counts envelopes that were stored in one transaction.
func (m *Metrics) Accepted(n int) {
	m.accepted.Add(float64(n))
	m.batches.WithLabelValues("sends").Observe(float64(n))
}

// Delivered counts envelopes that were written to a socket.
func (m *Metrics) Delivered(n int) { m.delivered.Add(float64(n)) }

// Acknowledged counts envelopes that were deleted in one transaction because their device has them.
func (m *Metrics) Acknowledged(n int) {
	m.acknowledged.Add(float64(n))
	m.batches.WithLabelValues("acknowledgements").Observe(float64(n))
}

// Dropped counts envelopes that were dropped and recorded as a gap.
func (m *Metrics) Dropped(reason core.GapReason, n int) {
	m.dropped.WithLabelValues(reasons[reason]).Add(float64(n))
}

// BlobBytes counts bytes of attachments and backups.
func (m *Metrics) BlobBytes(in bool, n int64) {
	direction := "out"
	if in {
		direction = "in"
	}
	m.blobBytes.WithLabelValues(direction).Add(float64(n))
}

// Wakeup counts a try to wake up a device, by push service and result.
func (m *Metrics) Wakeup(kind, result string) { m.wakeups.WithLabelValues(kind, result).Inc() }

// WakeupsCancelled counts wake-ups whose device connected in time.
func (m *Metrics) WakeupsCancelled(n int) { m.cancelled.Add(float64(n)) }

// Ready says whether a part of the relay is available.
func (m *Metrics) Ready(part string, is bool) {
	value := 0.0
	if is {
		value = 1
	}
	m.ready.WithLabelValues(part).Set(value)
}
