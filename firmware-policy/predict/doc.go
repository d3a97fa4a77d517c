// Package predict computes the PCR values that a machine will quote after a boot, from what the boot is made of: a unified
// kernel image and the Secure Boot variables. Reference values in a policy should come from here, never from a quote: a
// quote shows what a machine did boot, a prediction what it ought to.
//
// It knows EDK II firmware that starts a signed or unsigned image of systemd-stub with a Linux kernel, and PCRs 4, 7, 9
// and 11 of it. Everything is a function of the arguments; nothing is read from the machine that it runs on.
package predict
