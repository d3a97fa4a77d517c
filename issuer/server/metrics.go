package server

import (
	"context"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/governed-execution/writ/denial"
)

// collector reads the issuer's counts when it is scraped. Labels are denial codes, a fixed set: no caller can add one.
type collector struct {
	server                                         *Server
	minted, denied, entries, clock, healthy        *prometheus.Desc
	published, cosigned, operators, failing, scrub *prometheus.Desc
	demanded, witness, glass, unreviewed, epoch    *prometheus.Desc
}

func metrics(s *Server) http.HandlerFunc {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.GoRuntimeMetricsRule{Matcher: heapInUse})))
	registry.MustRegister(&collector{
		server:  s,
		minted:  prometheus.NewDesc("writ_artifacts_minted_total", "Artifacts that left with a receipt.", nil, nil),
		denied:  prometheus.NewDesc("writ_denials_total", "Refusals by denial code.", []string{"code", "name"}, nil),
		entries: prometheus.NewDesc("writ_log_entries", "Entries in the log.", nil, nil),
		clock:   prometheus.NewDesc("writ_log_head_seconds", "Time of the newest signed tree head.", nil, nil),

		healthy:    prometheus.NewDesc("writ_log_healthy", "1 while the log takes entries and signs heads; nothing is permitted otherwise.", nil, nil),
		published:  prometheus.NewDesc("writ_checkpoint_entries", "Entries under the newest published checkpoint.", nil, nil),
		cosigned:   prometheus.NewDesc("writ_checkpoint_cosigned_seconds", "When as many operators as are demanded had cosigned it; 0 without witnesses.", nil, nil),
		operators:  prometheus.NewDesc("writ_checkpoint_operators", "Operators of witnesses that cosigned it.", nil, nil),
		failing:    prometheus.NewDesc("writ_checkpoint_failing", "1 if the last attempt to publish a checkpoint failed.", nil, nil),
		demanded:   prometheus.NewDesc("writ_checkpoint_operators_demanded", "Operators of witnesses that must cosign a checkpoint.", nil, nil),
		witness:    prometheus.NewDesc("writ_witness_cosigned_seconds", "When a witness of the configuration last cosigned; 0 if not since the start.", []string{"operator", "witness"}, nil),
		glass:      prometheus.NewDesc("writ_break_glass_total", "Break-glass authorizations since genesis: published, used to start a program, reviewed.", []string{"event"}, nil),
		scrub:      prometheus.NewDesc("writ_log_scrubbed_seconds", "When the whole log was last read and found as it must be; 0 if not since the start.", nil, nil),
		epoch:      prometheus.NewDesc("writ_log_epoch", "Number of the newest epoch of the log: it rises when the log goes on behind a backup and has lost entries.", nil, nil),
		unreviewed: prometheus.NewDesc("writ_break_glass_unreviewed", "Break-glass authorizations that have no review: all, and those whose review is overdue.", []string{"state"}, nil),
	})
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP
}

// heapInUse is what the last garbage collection found in use: a leak shows in it sooner than in the memory of the process.
var heapInUse = regexp.MustCompile(`^/gc/heap/live:bytes$`)

// Describe sends the descriptions of all metrics.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.minted, c.denied, c.entries, c.clock, c.healthy, c.published, c.cosigned, c.operators, c.failing, c.scrub, c.demanded, c.witness, c.glass, c.unreviewed, c.epoch} {
		ch <- d
	}
}

// Collect sends the present values.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	minted, denied := c.server.issuer.Counts()
	log := c.server.issuer.Log()
	head := log.Head()
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	ch <- prometheus.MustNewConstMetric(c.minted, prometheus.CounterValue, float64(minted))
	for _, r := range denial.All() {
		ch <- prometheus.MustNewConstMetric(c.denied, prometheus.CounterValue, float64(denied[r.Code()]), strconv.Itoa(r.Code()), r.String())
	}
	gauge(c.entries, float64(head.Size))
	gauge(c.clock, float64(head.Time))
	gauge(c.healthy, one(log.Healthy() == nil))
	gauge(c.epoch, float64(c.server.issuer.Epoch().Number))
	gauge(c.scrub, float64(log.Scrubbed()))
	c.breakGlass(ch)
	if p := c.server.publisher; p != nil {
		published := p.Published()
		gauge(c.published, float64(published.Size))
		gauge(c.cosigned, float64(published.Time))
		gauge(c.operators, float64(len(published.Operators)))
		gauge(c.failing, one(p.Fault() != nil))
		gauge(c.demanded, float64(p.Threshold()))
		newest := map[[2]string]float64{} // one operator may call two witnesses the same
		for _, w := range p.Witnesses() {
			label := [2]string{w.Operator, w.Name}
			newest[label] = max(newest[label], float64(unix(w.At)))
		}
		for label, at := range newest {
			ch <- prometheus.MustNewConstMetric(c.witness, prometheus.GaugeValue, at, label[:]...)
		}
	}
}

// unix returns seconds since 1970 UTC; 0 for the zero time.
func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// breakGlass sends how often break-glass was made use of. Where the store cannot say, the metrics are absent.
func (c *collector) breakGlass(ch chan<- prometheus.Metric) {
	b, err := c.server.issuer.BreakGlass(context.Background())
	if err != nil {
		return
	}
	for event, n := range map[string]uint64{"published": b.Published, "used": b.Used, "reviewed": b.Reviewed} {
		ch <- prometheus.MustNewConstMetric(c.glass, prometheus.CounterValue, float64(n), event)
	}
	for state, n := range map[string]int{"open": b.Open, "overdue": b.Overdue} {
		ch <- prometheus.MustNewConstMetric(c.unreviewed, prometheus.GaugeValue, float64(n), state)
	}
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
