package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// sample is what some calls cost.
type sample struct {
	Latencies []time.Duration
	Elapsed   time.Duration // wall time of all of them
	CPU       time.Duration // of the process that made them, all threads
}

// perSecond returns the rate of the calls.
func (s sample) perSecond() float64 { return float64(len(s.Latencies)) / s.Elapsed.Seconds() }

// quantile returns the latency that the fraction q of the calls did not exceed.
func (s sample) quantile(q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(s.Latencies))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// cpuEach returns the CPU time of one call.
func (s sample) cpuEach() time.Duration { return s.CPU / time.Duration(len(s.Latencies)) }

func (s *sample) add(o sample) {
	s.Latencies = append(s.Latencies, o.Latencies...)
	s.Elapsed += o.Elapsed
	s.CPU += o.CPU
}

// concurrently has n callers call until the time is up or call has returned errEnough to each. A caller is told which
// one it is.
func concurrently(n int, limit time.Duration, call func(caller int) error) (sample, error) {
	var mu sync.Mutex
	var all sample
	var faults error
	var wg sync.WaitGroup
	begun, cpu := time.Now(), cpuTime()
	for caller := range n {
		wg.Go(func() {
			mine, err := calls(begun.Add(limit), func() error { return call(caller) })
			mu.Lock()
			defer mu.Unlock()
			all.Latencies, faults = append(all.Latencies, mine...), errors.Join(faults, err)
		})
	}
	wg.Wait()
	all.Elapsed, all.CPU = time.Since(begun), cpuTime()-cpu
	if faults == nil && len(all.Latencies) == 0 {
		faults = errors.New("measuring: nothing was called")
	}
	return all, faults
}

// errEnough says that there is nothing left to call.
var errEnough = errors.New("enough")

func calls(until time.Time, call func() error) (latencies []time.Duration, err error) {
	for begun := time.Now(); begun.Before(until); {
		if err := call(); errors.Is(err, errEnough) {
			return latencies, nil
		} else if err != nil {
			return nil, err
		}
		end := time.Now()
		latencies = append(latencies, end.Sub(begun))
		begun = end
	}
	return latencies, nil
}

// cpuTime returns the CPU time that this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// median returns the middle of some values.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// ms writes a duration in milliseconds.
func ms(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()*1000) }

// us is a duration in microseconds.
func us(d time.Duration) float64 { return d.Seconds() * 1e6 }

// atLeast and atMost write a figure beside its aim. It counts as it is written. Nothing fails where an aim is missed: what
// else the machine does is not known.
func atLeast(got, aim float64) string { return aimed(got, aim, "at least", round(got) >= aim) }

func atMost(got, aim float64) string { return aimed(got, aim, "at most", round(got) <= aim) }

func aimed(got, aim float64, bound string, met bool) string {
	verdict := "missed"
	if met {
		verdict = "met"
	}
	return fmt.Sprintf("%s  (aim: %s %s, %s)", decimals(got), bound, strconv.FormatFloat(aim, 'f', -1, 64), verdict)
}

// decimals writes a number with two decimals, or without any where it is great.
func decimals(n float64) string {
	if n >= 100 {
		return strconv.FormatFloat(n, 'f', 0, 64)
	}
	return strconv.FormatFloat(n, 'f', 2, 64)
}

func round(n float64) float64 { return math.Round(100*n) / 100 }

// machine names what everything is measured on.
func machine() string {
	cpu := "unknown CPU"
	info, _ := os.ReadFile("/proc/cpuinfo") // without it the CPU stays unknown
	for line := range strings.Lines(string(info)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			cpu = strings.TrimSpace(value)
			break
		}
	}
	load, _ := os.ReadFile("/proc/loadavg")
	busy, _, _ := strings.Cut(string(load), " ")
	return fmt.Sprintf("Machine: %s, %d cores, %s/%s, %s. Load average at the start: %s.",
		cpu, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), busy)
}
