// Package receipt makes and verifies COSE receipts (RFC 9942) over the Merkle tree of RFC 6962: the proof that a
// statement stands in the log.
//
// A receipt is a signed tree head and a proof. The head is a COSE_Sign1 whose detached payload is the root; its
// protected header names the issuer (iss), the log and the number of entries (sub), and the time (iat), which is the
// logged time. The proof stands in the unprotected header.
//
// RFC 9942 leaves the tree size unsigned. A holder could then show one path for another index: the path of entry 2 of
// 3 is also a path of entry 1 of 2. So sub is the URI of the log, '#' and the size in decimal digits: with size and
// root signed, every leaf has one index.
//
// The package reads and writes bytes only: no SQL, no network, no clock.
package receipt
