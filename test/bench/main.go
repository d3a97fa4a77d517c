// Command bench measures what the path costs, each figure beside the bare work that it cannot do without, measured in
// the same run. It makes its own token, log, TPMs in software, roots and keys; nothing else believes them.
//
// The issuer runs in this process and the hosts in a second one, so that the CPU time of each is known. Each has cores of
// its own (see settle).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"runtime/pprof"
	"time"
)

func main() {
	profile := flag.String("cpuprofile", "", "write a CPU profile of issuance, or of the log, to this file")
	only := flag.String("only", "", "parts, issuance or log; default parts and issuance")
	clients := flag.Int("clients", 0, "measure issuance for this number of clients alone (1, 8 or 64), or of the log appends alone for this number of writers")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	do := func() error { return run(ctx, *only, *profile, *clients) }
	if flag.Arg(0) == hostsCommand {
		do = func() error { return errors.Join(settle(true), serveOrders(ctx, os.Stdin, os.Stdout)) }
	}
	if err := do(); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only, profile string, clients int) (err error) {
	if only == "log" {
		return profiled(profile, func() error { return logFigures(ctx, clients) })
	}
	begun := time.Now()
	dir, err := os.MkdirTemp("", "writ-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	hosts, err := startHosts(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hosts.close()) }()
	if err := settle(false); err != nil { // after the hosts have begun, who would inherit it
		return err
	}
	debug.SetGCPercent(400) // as writd serve
	site, err := newSite(ctx, dir, hosts.made)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.close()) }()
	if err := hosts.enrol(site); err != nil {
		return err
	}
	work, err := newBare(ctx, site)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, work.close()) }()
	fmt.Println(machine())
	if only != "issuance" {
		if err := parts(ctx, site, hosts, work); err != nil {
			return err
		}
	}
	if only != "parts" {
		if err := profiled(profile, func() error { return issuance(ctx, site, hosts, work, clients) }); err != nil {
			return err
		}
	}
	fmt.Printf("\nMeasured in %.0f s.\n", time.Since(begun).Seconds())
	return nil
}

// profiled runs f, under the profiler if there is a file to write to.
func profiled(path string, f func() error) (err error) {
	if path == "" {
		return f()
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("making profile: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := pprof.StartCPUProfile(file); err != nil {
		return fmt.Errorf("making profile: %w", err)
	}
	defer pprof.StopCPUProfile()
	return f()
}
