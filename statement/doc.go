// Package statement is the one strict codec of Writ: deterministic CBOR (RFC 8949, section 4.2.1) and COSE_Sign1
// (RFC 9052, section 4.2). Decode makes an Envelope, which is unverified; only Envelope.Verify and
// Envelope.VerifyDetached make a Verified.
//
// It accepts one encoding only. What is signed is exactly what was received, and what is read is exactly what was
// signed. Every error of Scan, Unmarshal, Decode, Verify and ParseKey is a *denial.Denial.
//
// A signature is not unique: from an ECDSA signature (r, s) anyone can make the other, (r, n-s), and TPMs and HSMs emit
// both forms, so both are accepted. Nothing may therefore be recognised as seen before, used up or revoked by the bytes
// or the digest of a statement alone; that is what identifiers inside of the payload are for. A statement with the other
// signature has another digest, and so no receipt.
package statement
