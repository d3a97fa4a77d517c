//go:build vm && vmfull

package vm

// full says whether the whole matrix is booted.
const full = true
