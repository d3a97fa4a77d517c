// Command bench measures what the path costs, each figure beside the bare work that it cannot do without, measured in
// the same run. It makes its own token, log, TPMs in software, roots and keys; nothing else believes them.
//
// The issuer runs in this process, its signer process is a child of it, and the hosts run in a third one, so that the CPU
// time of each is known. Which cores each has: see settle.
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

	"github.com/governed-execution/writ/custody"
)

func main() {
	var profiles profiles
	flag.StringVar(&profiles.cpu, "cpuprofile", "", "write a CPU profile of issuance, or of the log, to this file")
	flag.StringVar(&profiles.memory, "memprofile", "", "write a profile of all allocations to this file")
	only := flag.String("only", "", "parts, issuance, log, or tests: the figures of go test -bench, from standard input; default parts and issuance")
	clients := flag.Int("clients", 0, "measure issuance for this number of clients alone (1, 8 or 64), or of the log appends alone for this number of writers")
	kind := flag.String("token", "softhsm", "kind of token that has the keys")
	keys := flag.String("keys", "", "measure issuance with the keys used in this place alone: process (the issuer's own) or apart (a signer process)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	do := func() error { return run(ctx, *only, *kind, profiles, choice{*clients, *keys}) }
	switch flag.Arg(0) {
	case hostsCommand:
		do = func() error { return errors.Join(settle(true, isDevice(*kind)), serveOrders(ctx, os.Stdin, os.Stdout)) }
	case signerCommand:
		do = custody.Serve
	}
	if err := do(); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// choice is what of issuance is measured alone.
type choice struct {
	clients int    // 0: each number of them
	keys    string // where they are used; empty: in both places
}

func run(ctx context.Context, only, kind string, profiles profiles, of choice) (err error) {
	if only == "tests" {
		return testFigures(os.Stdin, os.Stdout)
	}
	debug.SetGCPercent(400) // as writd serve
	if only == "log" {
		return profiles.of(func() error { return logFigures(ctx, of.clients) })
	}
	begun := time.Now()
	dir, err := os.MkdirTemp("", "writ-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	hosts, err := startHosts(ctx, kind)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hosts.close()) }()
	if err := settle(false, isDevice(kind)); err != nil { // after the hosts have begun, who would inherit it
		return err
	}
	site, err := newSite(ctx, dir, kind, hosts.made)
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
		if err := profiles.of(func() error { return issuance(ctx, site, hosts, work, of) }); err != nil {
			return err
		}
	}
	fmt.Printf("\nMeasured in %.0f s.\n", time.Since(begun).Seconds())
	return nil
}

// profiles are the files to write profiles to; empty: none.
type profiles struct{ cpu, memory string }

// of runs f under the profilers that there is a file for.
func (p profiles) of(f func() error) (err error) {
	if p.cpu != "" {
		file, err := os.Create(p.cpu)
		if err != nil {
			return fmt.Errorf("making profile: %w", err)
		}
		if err := pprof.StartCPUProfile(file); err != nil {
			return errors.Join(fmt.Errorf("making profile: %w", err), file.Close())
		}
		defer func() {
			pprof.StopCPUProfile()
			err = errors.Join(err, file.Close())
		}()
	}
	if err := f(); err != nil || p.memory == "" {
		return err
	}
	file, err := os.Create(p.memory)
	if err != nil {
		return fmt.Errorf("making profile: %w", err)
	}
	return errors.Join(pprof.Lookup("allocs").WriteTo(file, 0), file.Close())
}

// aside runs f so that a profile tells it, and what it starts, from the issuer: go tool pprof -tagignore bare FILE.
func aside(f func()) {
	pprof.Do(context.Background(), pprof.Labels("work", "bare"), func(context.Context) { f() })
}
