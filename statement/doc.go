// Package statement is the one strict codec of Writ: deterministic CBOR (RFC 8949, section 4.2.1) and COSE_Sign1
// (RFC 9052, section 4.2). Decode makes an Envelope, which is unverified; only Envelope.Verify makes a Verified.
//
// It accepts one encoding only. What is signed is exactly what was received, and what is read is exactly what was
// signed. Every error of a function that reads foreign bytes is a *denial.Denial.
package statement
