package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// settle keeps this process to its share of the cores: the issuer, and the bare work that it is compared with, have the
// first core, the hosts have the others. So the load takes nothing from what is measured. On a machine with one core
// all share it.
//
// Where the token is a device, that has the last core (see enclose), and all others go where there is room, the hosts with the
// lowest priority: of such a token the module may use more CPU than the device, in whichever process calls it.
func settle(hosts, device bool) error {
	var mine unix.CPUSet
	all, err := cores()
	if err != nil {
		return err
	}
	switch {
	case device && hosts:
		return ofThreads(os.Getpid(), func(id int) error { return unix.Setpriority(unix.PRIO_PROCESS, id, 19) })
	case device, len(all) < 2:
		return nil
	case !hosts:
		all = all[:1]
	default:
		all = all[1:]
	}
	for _, core := range all {
		mine.Set(core)
	}
	if err := ofThreads(os.Getpid(), func(id int) error { return unix.SchedSetaffinity(id, &mine) }); err != nil {
		return err
	}
	runtime.SetDefaultGOMAXPROCS() // as many as it has cores
	return nil
}

// enclose keeps the processes of a device to the last core.
func enclose(processes ...int) error {
	all, err := cores()
	if err != nil {
		return err
	}
	var last unix.CPUSet
	last.Set(all[len(all)-1])
	for _, process := range processes {
		if err := ofThreads(process, func(id int) error { return unix.SchedSetaffinity(id, &last) }); err != nil {
			return err
		}
	}
	return nil
}

// cores are those that this process may use.
func cores() (all []int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("reading cores: %w", err)
	}
	for core := 0; len(all) < set.Count(); core++ {
		if set.IsSet(core) {
			all = append(all, core)
		}
	}
	return all, nil
}

// ofThreads does something with every thread of a process. Those that they make later inherit it.
func ofThreads(process int, settle func(id int) error) error {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", process))
	if err != nil {
		return fmt.Errorf("listing threads: %w", err)
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err == nil {
			err = settle(id)
		}
		if err != nil {
			return fmt.Errorf("choosing cores: %w", err)
		}
	}
	return nil
}
