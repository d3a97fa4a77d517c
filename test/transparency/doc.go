// Command transparency lets programs that others wrote look at a log of Writ: the witness of transparency-dev cosigns it,
// and the fsck of Tessera reads the whole of it. It is a module of its own, so that the modules that those need are not
// among those of Writ.
//
//	transparency fsck URL VKEY              check the log below the URL, down to every entry
//	transparency witness NAME ORIGIN VKEY   serve a witness on loopback; it writes its URL and verifier key, and ends with its input
package main
