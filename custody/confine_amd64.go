package custody

import "golang.org/x/sys/unix"

const (
	auditArch    = unix.AUDIT_ARCH_X86_64
	foreignCalls = 0x40000000 // and above: those of x32, the same calls under other numbers
)

// forks are the system calls that only start processes.
func forks() []uint32 { return []uint32{unix.SYS_FORK, unix.SYS_VFORK} }
