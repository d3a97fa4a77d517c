// Package monitor follows a log from outside, as anybody can: it keeps the last checkpoint that it has seen, demands that the
// next one continues it, compares both with what others were shown, and keeps the evidence of a log that shows two histories.
package monitor
