package server

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
)

// collector reads the issuer's counts when it is scraped. Labels are denial codes, a fixed set: no caller can add one.
type collector struct {
	issuer                         *issuer.Issuer
	minted, denied, entries, clock *prometheus.Desc
}

func metrics(i *issuer.Issuer) http.HandlerFunc {
	registry := prometheus.NewRegistry()
	registry.MustRegister(&collector{
		issuer:  i,
		minted:  prometheus.NewDesc("writ_artifacts_minted_total", "Artifacts that left with a receipt.", nil, nil),
		denied:  prometheus.NewDesc("writ_denials_total", "Refusals by denial code.", []string{"code", "name"}, nil),
		entries: prometheus.NewDesc("writ_log_entries", "Entries in the log.", nil, nil),
		clock:   prometheus.NewDesc("writ_log_head_seconds", "Time of the newest signed tree head.", nil, nil),
	})
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP
}

// Describe sends the descriptions of all metrics.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.minted
	ch <- c.denied
	ch <- c.entries
	ch <- c.clock
}

// Collect sends the present values.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	minted, denied := c.issuer.Counts()
	head := c.issuer.Log().Head()
	ch <- prometheus.MustNewConstMetric(c.minted, prometheus.CounterValue, float64(minted))
	for _, r := range denial.All() {
		ch <- prometheus.MustNewConstMetric(c.denied, prometheus.CounterValue, float64(denied[r.Code()]), strconv.Itoa(r.Code()), r.String())
	}
	ch <- prometheus.MustNewConstMetric(c.entries, prometheus.GaugeValue, float64(head.Size))
	ch <- prometheus.MustNewConstMetric(c.clock, prometheus.GaugeValue, float64(head.Time))
}
