// Package console serves read-only pages about an issuer's log to people: decisions, one decision explained, hosts,
// policies, keys, lineage and the health of the log. It writes nothing and holds no key but that of its TLS certificate.
//
// The pages show what the issuer's own log says. They are no proof: an auditor pulls a bundle and verifies it elsewhere.
package console
