// Package firmwarepolicy holds the policies of an issuer and evaluates them. An appraisal policy says which verified facts
// a host must show; an authorization policy says which initiator may have what run, where, for how long and how often;
// anchors say which TPM vendors' certificates are believed.
//
// People write a policy as strict TOML (ParseTOML). What authorities sign is its canonical form, deterministic CBOR
// (Document.Canonical, Decode), and its identity is the hash of that form. A Document exists only if its policy compiles.
// Evaluation is a pure function of its arguments: no clock, no network, no environment, no order of map keys. Whatever
// cannot be evaluated is refused, and no zero value allows anything.
package firmwarepolicy
