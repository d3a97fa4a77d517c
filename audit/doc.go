// Package audit makes bundles of the log and checks them offline.
//
// A bundle is a tar file: statements with their receipts, the evidence that each decision was made on, the policies,
// and a signed manifest of all of it (docs/bundle.md). Build makes it beside the log. Verify needs the bundle and the
// auditor's own trust file, and neither network nor issuer. Nothing in a bundle is an anchor of trust.
package audit
