// Package corpus holds tests alone: real evidence that nobody in this project wrote, run through the verifier with the
// result that its manifest expects, through the verifiers of others, and through mutations. The corpus is found through
// WRIT_CORPUS; no file of it is part of the project.
//
// docs/machines.md is made from it: go test ./test/corpus -run TestMachines -update
package corpus

//go:generate go test . -run TestMachines -update
