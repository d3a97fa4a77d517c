package main

import (
	"bytes"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/vectors"
)

const agentURI = "https://agents.example/summary"

// delegationVectors break the delegation of an artifact, the artifact, and the request that rests on both.
func delegationVectors(s *setup) []vectors.Vector {
	l := &list{prefix: "delegation", signer: "software"}
	w := newSite(s)
	parent := func(edit func(*artifact.Claims)) []byte {
		c := w.claims()
		c.Scope[0].Terms.Operations |= artifact.Delegate
		c.Limits = &artifact.Limits{Uses: 2, Depth: 1}
		if edit != nil {
			edit(&c)
		}
		return w.leaf(encode(&c))
	}
	root := parent(nil)
	good := func(of []byte) artifact.DelegationClaims {
		digest, scope := statement.DigestOf(of), w.claims().Scope
		scope[0].Terms.Operations = artifact.Execute
		return artifact.DelegationClaims{Delegator: hostURI, Host: hostURI + "/b", Audience: gateURI, Expires: issued + 300, IssuedAt: issued + 1,
			ID: bytes.Repeat([]byte{9}, 16), Scope: scope, Profile: artifact.DelegationProfile, Limits: &artifact.Limits{Uses: 2}, Parent: digest[:], Initiator: agentURI}
	}
	delegation := func(what string, code denial.Reason, of, raw, request []byte) {
		l.add(what, code, func(v *vectors.Vector) {
			v.Delegation = &vectors.Delegation{Parent: of, Key: w.artifact.key.COSE(), Raw: raw, Request: request, Now: present}
		})
	}
	signed := func(c artifact.DelegationClaims) []byte {
		return newCOSE(w.holder, statement.Delegation, c.Delegator, c.Host, encode(&c)).build()
	}
	set := func(what string, code denial.Reason, edit func(*artifact.DelegationClaims)) {
		c := good(root)
		edit(&c)
		delegation(what, code, root, signed(c), nil)
	}
	claim := func(what string, code denial.Reason, key int64, value []byte) {
		delegation(what, code, root, newCOSE(w.holder, statement.Delegation, hostURI, hostURI+"/b", open(encode(ptr(good(root)))).set(key, value).bytes()).build(), nil)
	}
	set("a delegation", accepted, func(*artifact.DelegationClaims) {})
	set("a delegation without limits", accepted, func(c *artifact.DelegationClaims) { c.Limits = nil })
	claim("C25: exp is missing", denial.ClaimAbsent, 4, nil)
	claim("C26: iat is text", denial.TimeMalformed, 6, tstr("1"))
	claim("C31: aud is an array", denial.AudienceMismatch, 3, array(tstr(gateURI)))
	claim("C32: an unknown claim", denial.UnsupportedVersion, 11, number(0))
	set("C32: another profile", denial.UnsupportedVersion, func(c *artifact.DelegationClaims) { c.Profile = artifact.Profile })
	set("a session of more than a year", denial.PayloadForm, func(c *artifact.DelegationClaims) { c.Limits.Session = artifact.MaxSession + 1 })
	set("the delegator is no URI", denial.ClaimAbsent, func(c *artifact.DelegationClaims) { c.Delegator = "host" })
	set("the host is no URI", denial.ClaimAbsent, func(c *artifact.DelegationClaims) { c.Host = "host" })
	set("the initiator is no URI", denial.ClaimAbsent, func(c *artifact.DelegationClaims) { c.Initiator = "ada" })
	set("C31: the audience is no URI", denial.AudienceMismatch, func(c *artifact.DelegationClaims) { c.Audience = "gate" })
	set("a delegation id of 15 bytes", denial.PayloadForm, func(c *artifact.DelegationClaims) { c.ID = c.ID[:15] })
	set("a parent of 31 bytes", denial.LineageChainInvalid, func(c *artifact.DelegationClaims) { c.Parent = c.Parent[:31] })
	set("an empty scope", denial.StructureLimit, func(c *artifact.DelegationClaims) { c.Scope = artifact.Scope{} })
	set("C27: exp above 2 to the 53", denial.TimeMalformed, func(c *artifact.DelegationClaims) { c.Expires = 1<<53 + 1 })
	set("C28: at exp", denial.Expired, func(c *artifact.DelegationClaims) { c.Expires = issued + 10 })
	set("C29: valid for more than a year", denial.LifetimeTooLong, func(c *artifact.DelegationClaims) { c.IssuedAt = issued - 366*24*3600 })
	set("C30: from the future", denial.NotYetValid, func(c *artifact.DelegationClaims) { c.IssuedAt = issued + 71 })
	set("X20: of another artifact", denial.LineageChainInvalid, func(c *artifact.DelegationClaims) { c.Parent = make([]byte, 32) })
	set("X20: by another than the holder", denial.LineageChainInvalid, func(c *artifact.DelegationClaims) { c.Delegator += "/c" })
	exceeded := func(what string, edit func(*artifact.DelegationClaims)) { set(what, denial.DelegationExceeded, edit) }
	exceeded("longer than the parent", func(c *artifact.DelegationClaims) { c.Expires++ })
	exceeded("X21: another target", func(c *artifact.DelegationClaims) { c.Scope[0].Target += "2" })
	exceeded("X21: a verb more", func(c *artifact.DelegationClaims) { c.Scope[0].Terms.Operations |= artifact.Net })
	exceeded("X21: parameters free", func(c *artifact.DelegationClaims) { c.Scope[0].Terms.Parameters = nil })
	exceeded("X21: other code", func(c *artifact.DelegationClaims) { c.Scope[0].Terms.Code = []artifact.Digest{digest("other")} })
	exceeded("X21: a variable more", func(c *artifact.DelegationClaims) {
		c.Scope[0].Terms.Constraints = &artifact.Constraints{Env: []string{"LANG", "STAGE", "TERM"}, Directory: "/srv"}
	})
	exceeded("X21: another directory", func(c *artifact.DelegationClaims) { c.Scope[0].Terms.Constraints.Directory = "/tmp" })
	exceeded("X21: more uses", func(c *artifact.DelegationClaims) { c.Limits.Uses = 3 })
	exceeded("X21: a session, where the parent has none", func(c *artifact.DelegationClaims) { c.Limits.Session = 60 })
	exceeded("X21: as deep as the parent", func(c *artifact.DelegationClaims) { c.Limits.Depth = 1 })
	plain := encode(ptr(good(root)))
	delegation("the header names another delegator", denial.IdentityConflict, root, newCOSE(w.holder, statement.Delegation, hostURI+"/c", hostURI+"/b", plain).build(), nil)
	delegation("signed by another key", denial.LineageChainInvalid, root, newCOSE(newSigner(), statement.Delegation, hostURI, hostURI+"/b", plain).build(), nil)
	delegation("C16: signed as another kind", denial.LineageChainInvalid, root, newCOSE(w.holder, statement.Possession, hostURI, hostURI+"/b", plain).build(), nil)
	delegation("C18: more than 8 KiB", denial.LineageChainInvalid, root, newCOSE(w.holder, statement.Delegation, hostURI, hostURI+"/b", make([]byte, 8<<10)).build(), nil)
	w.ancestors(parent, good, signed, delegation)
	requests(root, signed(good(root)), good(root), delegation)
	return l.all
}

// ancestors break the artifact that is delegated.
func (w *site) ancestors(parent func(func(*artifact.Claims)) []byte, good func([]byte) artifact.DelegationClaims, signed func(artifact.DelegationClaims) []byte,
	delegation func(string, denial.Reason, []byte, []byte, []byte)) {
	of := func(what string, code denial.Reason, leaf []byte) {
		c := good(leaf)
		c.Limits = nil
		delegation(what, code, leaf, signed(c), nil)
	}
	timed := parent(func(c *artifact.Claims) { c.Limits.Session = 60 })
	lasting := func(what string, code denial.Reason, session uint64) {
		c := good(timed)
		c.Limits.Session = session
		delegation(what, code, timed, signed(c), nil)
	}
	lasting("a session as long as that of the parent", accepted, 60)
	lasting("X21: a session of a second more than that of the parent", denial.DelegationExceeded, 61)
	of("X21: of an artifact that may not be delegated", denial.DelegationExceeded, parent(func(c *artifact.Claims) { c.Limits.Depth = 0 }))
	of("X21: of an artifact without limits", denial.DelegationExceeded, parent(func(c *artifact.Claims) { c.Limits = nil }))
	of("X21: of an artifact with a session", denial.DelegationExceeded, parent(func(c *artifact.Claims) { c.Limits.Session = 60 }))
	of("X21: of a target that may not be delegated", denial.DelegationExceeded, parent(func(c *artifact.Claims) { c.Scope[0].Terms.Operations = artifact.Execute }))
	c := w.claims()
	enc := encode(&c)
	of("X20: the parent is by another key", denial.KeyUnknown, newCOSE(newSigner(), statement.Artifact, issuerURI, hostURI, enc).build())
	of("X20: the parent is no artifact", denial.WrongType, newCOSE(w.artifact, statement.Request, issuerURI, hostURI, enc).build())
	of("X20: the header of the parent names another host", denial.IdentityConflict, newCOSE(w.artifact, statement.Artifact, issuerURI, hostURI+"/b", enc).build())
	of("X20: the parent has an unknown claim", denial.UnsupportedVersion, w.leaf(open(enc).set(11, number(0)).bytes()))
	of("X20: the parent has no end", denial.StructureLimit, w.leaf(enc)[:100])
}

// requests ask for more than a delegation allows.
func requests(root, raw []byte, d artifact.DelegationClaims, delegation func(string, denial.Reason, []byte, []byte, []byte)) {
	ask := func(what string, code denial.Reason, edit func(*artifact.RequestClaims)) {
		c := artifact.RequestClaims{Initiator: d.Initiator, Host: d.Host, Audience: d.Audience, Expires: issued + 300, IssuedAt: issued, ID: bytes.Repeat([]byte{1}, 16),
			Confirmation: artifact.Thumbprint{Key: bytes.Repeat([]byte{2}, 32)}, Scope: d.Scope.Canonical(), Profile: artifact.RequestProfile,
			Execution: artifact.Execution{ID: bytes.Repeat([]byte{3}, 16)}, Limits: &artifact.Limits{Uses: 2}, Parents: []artifact.ParentDigest{d.Parent}, Lifetime: 290}
		edit(&c)
		delegation(what, code, root, raw, encode(&c))
	}
	ask("a request for all of it", accepted, func(*artifact.RequestClaims) {})
	ask("a request for another host", denial.HostMismatch, func(c *artifact.RequestClaims) { c.Host = hostURI })
	ask("a request by another initiator", denial.InitiatorDenied, func(c *artifact.RequestClaims) { c.Initiator = personURI })
	ask("a request for another gate", denial.AudienceMismatch, func(c *artifact.RequestClaims) { c.Audience += "/b" })
	ask("X21: a request for a second more", denial.DelegationExceeded, func(c *artifact.RequestClaims) { c.Lifetime++ })
	ask("X21: a request for a verb more", denial.DelegationExceeded, func(c *artifact.RequestClaims) { c.Scope[0].Terms.Operations |= artifact.Read })
	ask("X21: a request for a use more", denial.DelegationExceeded, func(c *artifact.RequestClaims) { c.Limits.Uses = 3 })
	ask("X21: a request for a session", denial.DelegationExceeded, func(c *artifact.RequestClaims) { c.Limits.Session = 60 })
	ask("X21: a request that could be delegated", denial.DelegationExceeded, func(c *artifact.RequestClaims) { c.Limits.Depth = 1 })
}
