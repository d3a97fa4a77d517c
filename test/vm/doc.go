// Package vm boots real machines for tests: QEMU in software emulation with OVMF firmware, Secure Boot keys made at run
// time, a signed unified kernel image with a Debian kernel, a guest (/init) made of this project's own packages, and a
// software TPM that firmware and kernel measure into. Nothing of it needs privileges, KVM or a network.
//
// Kernel and firmware are packages of the distribution (make vm-deps); none is committed. The tests that boot machines
// have the build tag vm; what is committed as fixtures in testdata replays without a machine.
package vm
