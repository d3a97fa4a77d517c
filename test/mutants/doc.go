// Package mutants makes mutants of Go packages: programs with one small mistake each, which the tests of the package
// should notice. All mutants of a package are compiled into one binary, each behind a switch, so that trying one costs
// a run of the tests and no compilation. The program in package run tries them and writes report.md; package vectors
// uses the mutants that drop a check, to see that a published vector notices.
package mutants
