package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// settle keeps this process to its share of the cores: the issuer, and the bare work that it is compared with, have the
// first core, the hosts have the others. So the load takes nothing from what is measured. On a machine with one core
// all share it.
func settle(hosts bool) error {
	var mine, all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return fmt.Errorf("reading cores: %w", err)
	}
	if all.Count() < 2 {
		return nil
	}
	first := 0
	for !all.IsSet(first) {
		first++
	}
	if mine.Set(first); hosts {
		mine = all
		mine.Clear(first)
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("listing threads: %w", err)
	}
	for _, t := range threads { // a new thread inherits the cores of the one that makes it
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return fmt.Errorf("listing threads: %w", err)
		}
		if err := unix.SchedSetaffinity(id, &mine); err != nil {
			return fmt.Errorf("choosing cores: %w", err)
		}
	}
	runtime.SetDefaultGOMAXPROCS() // as many as it has cores
	return nil
}

// elsewhere puts processes on every core but the one of this process, if there is another.
func elsewhere(processes ...int) error {
	var mine, others unix.CPUSet
	if err := unix.SchedGetaffinity(0, &mine); err != nil {
		return fmt.Errorf("reading cores: %w", err)
	}
	for core := range 1024 { // of which the machine takes those that it has
		if !mine.IsSet(core) {
			others.Set(core)
		}
	}
	for _, id := range processes {
		if err := unix.SchedSetaffinity(id, &others); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("choosing cores: %w", err)
		}
	}
	return nil
}
