package gate

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// landlockSignals is the first version of Landlock's interface that can keep signals in.
const landlockSignals = 6

// confineSignals makes sure that what this process becomes can end neither keeper nor gate. A kernel that cannot do that yet is let
// be; one that could, and is told not to, is not.
func confineSignals() error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno == unix.ENOSYS || errno == unix.EOPNOTSUPP || errno == 0 && version < landlockSignals {
		return nil
	}
	if errno != 0 {
		return fmt.Errorf("asking for Landlock: %w: let the gate use it, as packaging/systemd/writ-gate-report.service does", errno)
	}
	rules := unix.LandlockRulesetAttr{Scoped: unix.LANDLOCK_SCOPE_SIGNAL}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), unsafe.Sizeof(rules), 0)
	if errno == 0 {
		_, _, errno = unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0)
	}
	if errno != 0 {
		return fmt.Errorf("keeping signals in: %w", errno)
	}
	return nil
}

// setsLimits are the numbers of prlimit64(2), which sets the limits of any process of the same user, by architecture.
var setsLimits = []struct{ arch, number uint32 }{
	{unix.AUDIT_ARCH_X86_64, 302}, {unix.AUDIT_ARCH_X86_64, 302 | 1<<30}, // the second of x32
	{unix.AUDIT_ARCH_I386, 340}, {unix.AUDIT_ARCH_AARCH64, 261}, {unix.AUDIT_ARCH_ARM, 369},
}

// confineLimits makes sure that what this process becomes can take from neither keeper nor gate what they need to end it: a keeper
// without descriptors finds no process, and one without processor time is killed. A process sets its own limits as number 0, and may
// read those of others. A kernel without seccomp is let be.
func confineLimits() error {
	filter := limitsFilter()
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
	runtime.KeepAlive(filter)
	if err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("keeping limits in: %w", err)
	}
	return nil
}

// limitsFilter refuses each of setsLimits whose first argument (the process) is not 0 and whose third (the new limits) is given,
// on a little-endian machine (seccomp(2), struct seccomp_data).
func limitsFilter() (p []unix.SockFilter) {
	const number, arch, process, limitsLow, limitsHigh = 0, 4, 16, 32, 36
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	equal := func(k uint32, yes, no uint8) unix.SockFilter { // skips so many
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: yes, Jf: no}
	}
	answer := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	for _, call := range setsLimits {
		p = append(p, load(arch), equal(call.arch, 0, 9), load(number), equal(call.number, 0, 7), load(process), equal(0, 5, 0),
			load(limitsLow), equal(0, 0, 2), load(limitsHigh), equal(0, 1, 0), answer(unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)))
	}
	return append(p, answer(unix.SECCOMP_RET_ALLOW))
}
