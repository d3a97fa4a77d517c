package custody

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Harden keeps the memory of this process out of core files and away from other processes of the same user.
func Harden() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbidding core files: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("closing memory to other processes: %w", err)
	}
	return nil
}

// confine takes from the signer process what it does not need, before the module is loaded. In this order: Harden; no
// more data than the limit; no new privileges; and, where the kernel has seccomp, none of the system calls of denied, no
// new process, and no socket other than of Unix, unless network. Threads that run already are confined too.
func confine(network bool, memory uint64) error {
	if err := Harden(); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: memory, Max: memory}); err != nil {
		return fmt.Errorf("limiting memory: %w", err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forbidding new privileges: %w", err)
	}
	program := filter(network)
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(program)
	switch {
	case errno == 0 || errors.Is(errno, unix.ENOSYS) || errors.Is(errno, unix.EINVAL): // a kernel without seccomp
		return nil
	default:
		return fmt.Errorf("confining system calls: %w", errno)
	}
}

// denied are the system calls that no PKCS#11 module needs: to run programs, to look into other processes, to change
// the system, to become another user, and to get around this filter.
func denied() []uint32 {
	return []uint32{
		unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
		unix.SYS_KCMP, unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_GETFD, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN,
		unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_KEXEC_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE,
		unix.SYS_DELETE_MODULE, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_SETNS,
		unix.SYS_UNSHARE, unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_KEYCTL, unix.SYS_ADD_KEY,
		unix.SYS_REQUEST_KEY, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_ACCT, unix.SYS_SETUID, unix.SYS_SETGID,
		unix.SYS_SETREUID, unix.SYS_SETREGID, unix.SYS_SETRESUID, unix.SYS_SETRESGID, unix.SYS_SETGROUPS, unix.SYS_CAPSET,
	}
}

// The places in struct seccomp_data: number, architecture and low half of the first argument, on a little-endian machine.
const (
	dataNumber = 0
	dataArch   = 4
	dataArg    = 16
)

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

// jump skips so many instructions if the comparison holds, or does not.
func jump(code uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | code, K: k, Jt: yes, Jf: no}
}

func answer(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

// filter is the program that the kernel runs for each system call. Whatever is refused is EPERM, so that a module can
// say so; clone3 is ENOSYS, since its flags are out of sight here and the C library then takes clone.
func filter(network bool) []unix.SockFilter {
	refuse, allow := answer(unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)), answer(unix.SECCOMP_RET_ALLOW)
	p := []unix.SockFilter{
		load(dataArch), jump(unix.BPF_JEQ, auditArch, 1, 0), refuse,
		load(dataNumber), jump(unix.BPF_JGE, foreignCalls, 0, 1), refuse,
		jump(unix.BPF_JEQ, unix.SYS_CLONE3, 0, 1), answer(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)),
	}
	for _, n := range append(denied(), forks()...) {
		p = append(p, jump(unix.BPF_JEQ, n, 0, 1), refuse)
	}
	p = append(p, jump(unix.BPF_JEQ, unix.SYS_CLONE, 0, 3), // threads, but no processes
		load(dataArg), jump(unix.BPF_JSET, unix.CLONE_THREAD, 1, 0), refuse, load(dataNumber))
	if !network {
		p = append(p, jump(unix.BPF_JEQ, unix.SYS_SOCKET, 0, 3), load(dataArg), jump(unix.BPF_JEQ, unix.AF_UNIX, 1, 0), refuse)
	}
	return append(p, allow)
}
