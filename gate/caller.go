package gate

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/governed-execution/writ/denial"
)

// Callers names the users of this host, by number, who may present what was given to an initiator, by URI. Nil asks nobody who he
// is: where a gate belongs to the one who calls it, as in a unit of its own, nobody else can. In any other an initiator that it does
// not name has no callers.
type Callers map[string][]uint32

// check refuses a caller who is none of the initiator's (704, X19).
func (c Callers) check(initiator string, who func() (uint32, error)) error {
	if c == nil {
		return nil
	}
	uid, err := who()
	if err != nil {
		return err
	}
	if !slices.Contains(c[initiator], uid) {
		return denial.New(denial.WorkloadMismatch, "the user who calls the gate is none of those who may present what this initiator was given").
			Try("Call the gate as a user whom [callers] in its configuration names for the initiator.")
	}
	return nil
}

// noLogin is the login of a process that no login led to (proc_pid_loginuid(5)).
const noLogin = 1<<32 - 1

// caller returns who calls the gate: the user who has logged in, whom the kernel remembers through sudo and su, and does not let
// him change; where no login led here, as from a service, the real user of this process, who in a set-user-ID program is the
// one who called it.
func caller() (uint32, error) {
	text, err := os.ReadFile("/proc/self/loginuid")
	if os.IsNotExist(err) { // a kernel without auditing
		return uint32(os.Getuid()), nil
	}
	if err != nil {
		return 0, fmt.Errorf("asking who calls: %w", err)
	}
	login, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("asking who calls: %w", err)
	}
	if login == noLogin {
		return uint32(os.Getuid()), nil
	}
	return uint32(login), nil
}
