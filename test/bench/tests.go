package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// testFigure is one figure of a benchmark that stands beside what it measures, in a package's tests.
type testFigure struct {
	benchmark, unit string // as go test prints them
	what            string
	scale           float64 // what the figure is divided by
	least, most     float64 // the aim; zero: none
}

var testFigureRows = []testFigure{
	{"Replay", "µs-here", "largest boot log of the corpus, strict replay and all facts, us", 1, 0, 0},
	{"Replay", "times-go-eventlog", "  times as long: go-eventlog, in turns with it", 1, 3, 0},
	{"Replay", "times-go-attestation", "  times as long: go-attestation, in turns with it", 1, 3, 0},
	{"ReplayCached", "ns/op", "  the same log again, for a renewed quote, us", 1000, 0, 0},
	{"ReplayMostEvents", "B/op", "boot log of 4,096 events, MiB allocated", 1 << 20, 0, 8},
	{"ReplayJunk/10_MB_of_random_bytes", "ns/op", "10 MB of random bytes refused, us", 1000, 0, 5000},
	{"ReplayJunk/10_MB_of_zeros", "ns/op", "10 MB of zeros refused, us", 1000, 0, 5000},
	{"ReplayJunk/1_MiB_of_random_bytes", "ns/op", "1 MiB, which is the limit, of random bytes refused, us", 1000, 0, 5000},
	{"ReplayJunk/1_MiB_of_zeros", "ns/op", "1 MiB of zeros refused, us", 1000, 0, 5000},
	{"ReplayJunk/a_header_and_random_bytes", "ns/op", "a header and 1 MiB of random bytes refused, us", 1000, 0, 5000},
	{"ReplayJunk/a_header_and_zeros", "ns/op", "a header and 1 MiB of zeros refused, us", 1000, 0, 5000},
	{"Verify", "signed-statements/cpu-s", "bundle verified offline: signed statements a second and core", 1, 5000, 0},
	{"Verify", "entries/cpu-s", "  entries of the log, each under a tree head of its own (1 permit, 2 starts, 2 ends)", 1, 0, 0},
	{"Verify", "x-bare-ECDSA", "  times the bare checks of the signatures in it", 1, 0, 0},
}

// testFigures reads what go test -bench prints and writes the figures in words, each with its aim. A line that it does not know
// it passes on, if it is of a benchmark.
func testFigures(in io.Reader, out io.Writer) error {
	for lines := bufio.NewScanner(in); ; {
		if !lines.Scan() {
			return lines.Err()
		}
		if strings.HasPrefix(lines.Text(), "FAIL") || strings.HasPrefix(lines.Text(), "--- FAIL") {
			return errors.New("reading benchmarks: one of them failed")
		}
		name, rest, ok := strings.Cut(lines.Text(), "\t")
		name, isBenchmark := strings.CutPrefix(strings.TrimSpace(name), "Benchmark")
		if !ok || !isBenchmark {
			continue
		}
		if i := strings.LastIndexByte(name, '-'); i > 0 { // the number of cores
			name = name[:i]
		}
		known := false
		for _, row := range testFigureRows {
			if row.benchmark == name {
				known = true
				if err := row.print(out, rest); err != nil {
					return err
				}
			}
		}
		if !known {
			fmt.Fprintln(out, lines.Text())
		}
	}
}

// print writes the row, whose figure stands before its unit.
func (f testFigure) print(out io.Writer, metrics string) error {
	fields := strings.Fields(metrics)
	for i := 2; i < len(fields); i += 2 { // the first is the number of runs
		if fields[i] != f.unit {
			continue
		}
		n, err := strconv.ParseFloat(fields[i-1], 64)
		if err != nil {
			return fmt.Errorf("reading benchmark: %w", err)
		}
		n /= f.scale
		text := decimals(n)
		switch {
		case f.least > 0:
			text = atLeast(n, f.least)
		case f.most > 0:
			text = atMost(n, f.most)
		}
		_, err = fmt.Fprintf(out, "%-90s %s\n", f.what, text)
		return err
	}
	return fmt.Errorf("reading benchmark: %s reports no %s", f.benchmark, f.unit)
}
