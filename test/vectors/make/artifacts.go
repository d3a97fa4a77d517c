package main

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/vectors"
)

// artifactVectors break an artifact in the order in which a gate checks it.
func artifactVectors(s *setup) []vectors.Vector {
	l := &list{prefix: "artifact", signer: "software"}
	w := newSite(s)
	l.artifact("an artifact for this use", accepted, w.vector(w.transparent(encode(ptr(w.claims())))))
	early(l, w)
	receipts(l, w)
	demands(l, w)
	timesOf(l, w)
	claimsOf(l, w)
	hostsOf(l, w)
	originsOf(l, w)
	scopes(l, w)
	uses(l, w)
	return l.all
}

func ptr[T any](v T) *T { return &v }

func (l *list) artifact(what string, code denial.Reason, a *vectors.Artifact) {
	l.add(what, code, func(v *vectors.Vector) { v.Artifact = a })
}

// early breaks what comes before the receipt.
func early(l *list, w *site) {
	good := encode(ptr(w.claims()))
	raw := func(what string, code denial.Reason, raw []byte) { l.artifact(what, code, w.vector(raw)) }
	logged := func(c *cose) []byte {
		leaf := c.build()
		return attach(leaf, w.receipt(leaf, w.log, issuerURI, logURI, issued+1))
	}
	raw("no artifact", denial.NoArtifact, nil)
	raw("not CBOR", denial.WrongType, []byte("not CBOR at all"))
	raw("C18: more than 16 KiB", denial.StructureLimit, append(w.transparent(good), make([]byte, 16<<10)...))
	raw("C21: signed by an unknown key", denial.KeyUnknown, logged(newCOSE(newSigner(), statement.Artifact, issuerURI, hostURI, good)))
	raw("C16: signed by the key of the log", denial.WrongType, logged(newCOSE(w.log, statement.Artifact, issuerURI, hostURI, good)))
	raw("the header names another host", denial.IdentityConflict, logged(newCOSE(w.artifact, statement.Artifact, issuerURI, hostURI+"/b", good)))
	raw("the header names another issuer", denial.IdentityConflict, logged(newCOSE(w.artifact, statement.Artifact, issuerURI+"/b", hostURI, good)))
	dated := newCOSE(w.artifact, statement.Artifact, issuerURI, hostURI, good)
	dated.labels = dated.labels.set(15, object{}.set(1, tstr(issuerURI)).set(2, tstr(hostURI)).set(6, number(int64(issued))).bytes())
	raw("the header names a time", denial.IdentityConflict, logged(dated))
	raw("C35: a malformed payload under a valid signature", denial.NotCanonical, logged(newCOSE(w.artifact, statement.Artifact, issuerURI, hostURI, []byte{0xa1, 0x01})))
}

// receipts breaks the receipt.
func receipts(l *list, w *site) {
	leaf := w.leaf(encode(ptr(w.claims())))
	good := w.receipt(leaf, w.log, issuerURI, logURI, issued+1)
	raw := func(what string, code denial.Reason, raw []byte) { l.artifact(what, code, w.vector(raw)) }
	one := func(what string, receipt []byte) { raw(what, denial.ReceiptInvalid, attach(leaf, receipt)) }
	genesis := bstr(leafHash([]byte("genesis")))
	proof := array(number(2), number(1), array(genesis))
	raw("C20: a receipt of a witness beside the receipt", accepted, attach(leaf, w.receipt(leaf, newSigner(), "https://witness.example", "https://witness.example/log", issued), good))
	raw("no receipt", denial.NoReceipt, leaf)
	raw("no receipt in a list of receipts", denial.ReceiptInvalid, withUnprotected(leaf, object{}.set(394, array()).bytes()))
	raw("an empty receipt", denial.ReceiptInvalid, withUnprotected(leaf, object{}.set(394, array(bstr(nil))).bytes()))
	raw("a receipt that is text", denial.ReceiptInvalid, withUnprotected(leaf, object{}.set(394, array(tstr("receipt"))).bytes()))
	raw("five receipts", denial.ReceiptInvalid, attach(leaf, good, good, good, good, good))
	other := w.claims()
	other.ID, other.Lineage.Root = bytes.Repeat([]byte{9}, 16), bytes.Repeat([]byte{9}, 16)
	raw("C36: the receipt of another artifact", denial.ReceiptInvalid, attach(w.leaf(encode(&other)), good))
	one("a receipt by an unknown key", w.receipt(leaf, newSigner(), issuerURI, logURI, issued+1))
	one("C16: a receipt by the key of artifacts", w.receipt(leaf, w.artifact, issuerURI, logURI, issued+1))
	one("a receipt of another log", w.receipt(leaf, w.log, issuerURI, logURI+"2", issued+1))
	one("a receipt of another issuer", w.receipt(leaf, w.log, issuerURI+"/2", logURI, issued+1))
	same := func(*cose) {}
	one("T07: a receipt for another index", w.receiptAs(leaf, same, array(number(2), number(0), array(genesis))))
	one("T07: a receipt for another size than the signed one", w.receiptAs(leaf, func(c *cose) {
		c.labels = c.labels.set(15, object{}.set(1, tstr(issuerURI)).set(2, tstr(logURI+"#3")).set(6, number(int64(issued+1))).bytes())
	}, proof))
	one("a receipt whose index is not below its size", w.receiptAs(leaf, same, array(number(2), number(2), array(genesis))))
	one("a receipt without a path", w.receiptAs(leaf, same, array(number(1), number(0), array())))
	one("a receipt with a node too many", w.receiptAs(leaf, same, array(number(2), number(1), array(genesis, genesis))))
	one("a receipt with a node of 31 bytes", w.receiptAs(leaf, same, array(number(2), number(1), array(bstr(make([]byte, 31))))))
	one("a receipt with two proofs", w.receiptAs(leaf, func(c *cose) {
		c.unprotected = object{}.set(396, object{}.set(-1, array(bstr(proof), bstr(proof))).bytes()).bytes()
	}, proof))
	one("a receipt with a second member in its unprotected header", w.receiptAs(leaf, func(c *cose) {
		c.unprotected = object{}.set(396, object{}.set(-1, array(bstr(proof))).bytes()).set(9, number(1)).bytes()
	}, proof))
	one("a receipt without a time", w.receiptAs(leaf, func(c *cose) {
		c.labels = c.labels.set(15, object{}.set(1, tstr(issuerURI)).set(2, tstr(logURI+"#2")).bytes())
	}, proof))
	one("a receipt that names no size", w.receiptAs(leaf, func(c *cose) {
		c.labels = c.labels.set(15, object{}.set(1, tstr(issuerURI)).set(2, tstr(logURI)).set(6, number(int64(issued+1))).bytes())
	}, proof))
	one("a receipt that names its size in another spelling", w.receiptAs(leaf, func(c *cose) {
		c.labels = c.labels.set(15, object{}.set(1, tstr(issuerURI)).set(2, tstr(logURI+"#02")).set(6, number(int64(issued+1))).bytes())
	}, proof))
	one("a receipt with one bit of its signature changed", flipped(good))
	logged := func(what string, code denial.Reason, at uint64) {
		raw(what, code, attach(leaf, w.receipt(leaf, w.log, issuerURI, logURI, at)))
	}
	logged("logged in the future", denial.NotYetValid, uint64(present.Unix())+61)
	logged("logged within the tolerance of clocks", accepted, uint64(present.Unix())+60)
	late := w.vector(attach(leaf, w.receipt(leaf, w.log, issuerURI, logURI, issued+121)))
	late.Now = present.Add(112 * time.Second)
	late.Status = w.token(artifact.StatusValid, func(l *artifact.StatusList) { l.IssuedAt, l.Expires = issued+120, issued+240 })
	l.artifact("P19: logged more than two minutes after it was issued", denial.EvidenceStale, late)
}

func flipped(b []byte) []byte {
	out := slices.Clone(b)
	out[len(out)-1] ^= 1
	return out
}

// withUnprotected puts a map into the empty unprotected header of a leaf.
func withUnprotected(leaf, header []byte) []byte {
	skip := 2
	switch leaf[2] & 0x1f { // the protected header is a byte string of 24 to 65535 bytes
	case 24:
		skip += 2 + int(leaf[3])
	case 25:
		skip += 3 + int(leaf[3])<<8 + int(leaf[4])
	}
	return slices.Concat(leaf[:skip], header, leaf[skip+1:])
}

// demands breaks what the relying party holds against a valid artifact.
func demands(l *list, w *site) {
	good := w.transparent(encode(ptr(w.claims())))
	with := func(what string, code denial.Reason, edit func(*vectors.Artifact)) {
		a := w.vector(good)
		edit(a)
		l.artifact(what, code, a)
	}
	trust := func(what string, code denial.Reason, edit func(*artifact.Trust)) {
		with(what, code, func(a *vectors.Artifact) { a.Trust = w.trustFile(edit) })
	}
	at := func(s uint64) time.Time { return time.Unix(int64(s), 0).UTC() }
	with("without a use, for a caller that checks the scope itself", accepted, func(a *vectors.Artifact) { a.Use = nil })
	with("the present time is before 1970", denial.ClockUntrusted, func(a *vectors.Artifact) {
		a.Now, a.Status = time.Unix(-1, 0).UTC(), nil
	})
	with("C31: for another gate", denial.AudienceMismatch, func(a *vectors.Artifact) { a.Audience = gateURI + "x" })
	with("C31: a gate that does not say who it is", denial.AudienceMismatch, func(a *vectors.Artifact) { a.Audience = "" })
	trust("C31: the trust file is of another gate", denial.AudienceMismatch, func(t *artifact.Trust) { t.Audience = gateURI + "x" })
	with("the trust file names the gate", accepted, func(a *vectors.Artifact) {
		a.Audience, a.Trust = "", w.trustFile(func(t *artifact.Trust) { t.Audience = gateURI })
	})
	trust("P02: the trust file has expired", denial.PolicyExpired, func(t *artifact.Trust) { t.Expires = present })
	trust("the authorization policy is not accepted", denial.PolicyHashMismatch, func(t *artifact.Trust) { t.Policies = t.Policies[1:] })
	trust("the appraisal policy is not accepted", denial.PolicyHashMismatch, func(t *artifact.Trust) { t.Policies = t.Policies[:1] })
	trust("P01: an older version of the policy", denial.PolicyRollback, func(t *artifact.Trust) { t.Policies[0].MinVersion = 4 })
	trust("P03: the policy has another hash", denial.PolicyHashMismatch, func(t *artifact.Trust) { t.Policies[0].Hash = make([]byte, 32) })
	trust("P03: the appraisal policy has another hash", denial.PolicyHashMismatch, func(t *artifact.Trust) { t.Policies[1].Hash = make([]byte, 32) })
	trust("C34: the key of artifacts was not yet valid when the artifact was issued", denial.KeyOutsideValidity, func(t *artifact.Trust) { t.Keys[0].NotBefore = at(issued + 1) })
	trust("P19: the key of artifacts had ended when the artifact was logged", denial.KeyOutsideValidity, func(t *artifact.Trust) { t.Keys[0].NotAfter = at(issued + 1) })
	trust("C34: the key of the log was not yet valid when the artifact was logged", denial.KeyOutsideValidity, func(t *artifact.Trust) { t.Keys[1].NotBefore = at(issued + 2) })
	trust("C34: the key of the log had ended when the artifact was logged", denial.KeyOutsideValidity, func(t *artifact.Trust) { t.Keys[1].NotAfter = at(issued + 1) })
	with("P14: no status list", denial.RevocationUnknown, func(a *vectors.Artifact) { a.Status = nil })
	with("P14: a status list that the artifact does not name", denial.RevocationUnknown, func(a *vectors.Artifact) {
		a.Status = w.token(artifact.StatusValid, func(l *artifact.StatusList) { l.URI = listURI + "0" })
	})
	with("P14: a status list that is too short", denial.RevocationUnknown, func(a *vectors.Artifact) {
		a.Status = w.token(artifact.StatusValid, func(l *artifact.StatusList) { l.Values = l.Values[:2] })
	})
	for value, code := range []denial.Reason{1: denial.ArtifactRevoked, 2: denial.KeyRevoked, 3: denial.HostRevoked, 4: denial.PolicyWithdrawn,
		5: denial.InitiatorRevoked, 6: denial.AncestorRevoked, 7: denial.RevocationUnknown} {
		if value > 0 {
			with("P12: status "+string(rune('0'+value)), code, func(a *vectors.Artifact) {
				a.Status = w.token(artifact.StatusValue(value), func(*artifact.StatusList) {})
			})
		}
	}
	theirs := w.claims()
	theirs.Issuer = issuerURI + "/b"
	leaf := newCOSE(w.artifact, statement.Artifact, theirs.Issuer, hostURI, encode(&theirs)).build()
	l.artifact("the artifact names another issuer than the trust file", denial.IdentityConflict,
		w.vector(attach(leaf, w.receipt(leaf, w.log, issuerURI, logURI, issued+1))))
}

// timesOf breaks the times of the claims.
func timesOf(l *list, w *site) {
	now := present.Unix()
	for _, r := range []struct {
		what          string
		iat, nbf, exp int64 // relative to the present
		code          denial.Reason
	}{
		{"C28: one second before exp", -10, -10, 1, accepted},
		{"C28: at exp", -10, -10, 0, denial.Expired},
		{"C28: within the tolerance of clocks before nbf", -10, 60, 100, accepted},
		{"C28: beyond the tolerance of clocks before nbf", -10, 61, 100, denial.NotYetValid},
		{"C29: as long as the trust file accepts", -10, -10, 3590, accepted},
		{"C29: a second longer than the trust file accepts", -10, -10, 3591, denial.LifetimeTooLong},
		{"C30: issued in the future", 61, 0, 100, denial.NotYetValid},
		{"C30: nbf after exp", -10, 20, 10, denial.TimeMalformed},
		{"C30: iat after exp", 20, -10, 10, denial.TimeMalformed},
	} {
		c := w.claims()
		c.IssuedAt, c.NotBefore, c.Expires = uint64(now+r.iat), uint64(now+r.nbf), uint64(now+r.exp)
		l.artifact(r.what, r.code, w.vector(w.transparent(encode(&c))))
	}
	payload := open(encode(ptr(w.claims())))
	for key, name := range map[int64]string{4: "exp", 5: "nbf", 6: "iat"} {
		claim := func(what string, code denial.Reason, value []byte) {
			l.artifact(what, code, w.vector(w.transparent(payload.set(key, value).bytes())))
		}
		claim("C25: "+name+" is missing", denial.ClaimAbsent, nil)
		claim("C25: "+name+" is null", denial.ClaimAbsent, []byte{0xf6})
		claim("C25: "+name+" is zero", denial.ClaimAbsent, []byte{0})
		claim("C26: "+name+" is a float", denial.TimeMalformed, unhex("fb41dad274d6400000"))
		claim("C26: "+name+" is negative", denial.TimeMalformed, unhex("3a6b49d200"))
		claim("C26: "+name+" is tagged", denial.TimeMalformed, unhex("c11a6b49d200"))
		claim("C26: "+name+" is text", denial.TimeMalformed, tstr("1800000000"))
		claim("C27: "+name+" is 2 to the 63", denial.TimeMalformed, unhex("1b8000000000000000"))
	}
}

func unhex(s string) []byte { return must(hex.DecodeString(s)) }

// claimsOf breaks claims by their encoding.
func claimsOf(l *list, w *site) {
	payload := open(encode(ptr(w.claims())))
	claim := func(what string, code denial.Reason, key int64, value []byte) {
		l.artifact(what, code, w.vector(w.transparent(payload.set(key, value).bytes())))
	}
	claim("C31: aud is missing", denial.AudienceMismatch, 3, nil)
	claim("C31: aud is null", denial.AudienceMismatch, 3, []byte{0xf6})
	claim("C31: aud is an array of one", denial.AudienceMismatch, 3, array(tstr(gateURI)))
	claim("C31: aud is a prefix", denial.AudienceMismatch, 3, tstr(gateURI[:len(gateURI)-1]))
	claim("C31: aud in another case", denial.AudienceMismatch, 3, tstr("https://Gate.example/one"))
	claim("C31: aud is a wildcard", denial.AudienceMismatch, 3, tstr("https://gate.example/*"))
	claim("C31: aud is no URI", denial.AudienceMismatch, 3, tstr("gate"))
	claim("C32: an unknown claim", denial.UnsupportedVersion, 11, number(0))
	claim("C32: another profile", denial.UnsupportedVersion, 265, tstr("https://github.com/governed-execution/writ/profile/authz/2"))
	claim("C33: no confirmation key", denial.KeyBinding, 8, nil)
	claim("C33: a confirmation key that is off its curve", denial.AlgKeyMismatch, 8, object{}.set(1, offTheCurve(w.holder)).bytes())
	claim("the issuer is missing", denial.ClaimAbsent, 1, nil)
	claim("cti is text", denial.PayloadForm, 7, tstr("0123456789abcdef"))
	claim("C09: a claim in a longer form", denial.NotCanonical, 9, append([]byte{0x5a, 0, 0, 0}, payload.value(9)[1:]...))
	l.artifact("C07: a claim twice", denial.LabelDuplicate, w.vector(w.transparent(twice(payload))))
}

func offTheCurve(s signer) []byte {
	raw := s.key.COSE()
	raw[len(raw)-1] ^= 1
	return raw
}

// claim adds an artifact whose claims are changed before they are signed.
func (l *list) claim(w *site, what string, code denial.Reason, edit func(*artifact.Claims)) {
	c := w.claims()
	edit(&c)
	raw := w.transparent(encode(&c))
	if c.Issuer != issuerURI || c.Subject != hostURI { // the header says the same
		leaf := newCOSE(w.artifact, statement.Artifact, c.Issuer, c.Subject, encode(&c)).build()
		raw = attach(leaf, w.receipt(leaf, w.log, issuerURI, logURI, issued+1))
	}
	l.artifact(what, code, w.vector(raw))
}

// hostsOf breaks what the claims say of the host.
func hostsOf(l *list, w *site) {
	bad := artifact.Digest{Algorithm: artifact.SHA256, Value: make([]byte, 31)}
	set := func(what string, code denial.Reason, edit func(*artifact.Claims)) { l.claim(w, what, code, edit) }
	set("iss is no URI", denial.ClaimAbsent, func(c *artifact.Claims) { c.Issuer = "issuer" })
	set("sub has a line feed", denial.ClaimAbsent, func(c *artifact.Claims) { c.Subject += "\n" })
	set("sub is longer than 512 bytes", denial.ClaimAbsent, func(c *artifact.Claims) { c.Subject += strings.Repeat("a", 512) })
	set("sub has a scheme in upper case", denial.ClaimAbsent, func(c *artifact.Claims) { c.Subject = "Spiffe://example/host/a" })
	set("sub has a scheme that begins with a digit", denial.ClaimAbsent, func(c *artifact.Claims) { c.Subject = "1spiffe://example/host/a" })
	set("sub has a scheme with another letter", denial.ClaimAbsent, func(c *artifact.Claims) { c.Subject = "spiff_e://example/host/a" })
	set("sub is a scheme alone", denial.ClaimAbsent, func(c *artifact.Claims) { c.Subject = "spiffe:" })
	set("sub has no scheme", denial.ClaimAbsent, func(c *artifact.Claims) { c.Subject = "://example/host/a" })
	set("sub has a letter that is not ASCII", denial.ClaimAbsent, func(c *artifact.Claims) { c.Subject += "é" })
	set("cti of 15 bytes", denial.ClaimAbsent, func(c *artifact.Claims) { c.ID = c.ID[:15]; c.Lineage.Root = c.ID })
	set("cti of 33 bytes", denial.ClaimAbsent, func(c *artifact.Claims) { c.ID = make([]byte, 33) })
	set("eat_nonce of 7 bytes", denial.ClaimAbsent, func(c *artifact.Claims) { c.Challenge = c.Challenge[:7] })
	set("ueid of another type", denial.ClaimAbsent, func(c *artifact.Claims) { c.UEID[0] = 2 })
	set("ueid of 32 bytes", denial.ClaimAbsent, func(c *artifact.Claims) { c.UEID = c.UEID[:32] })
	set("bootseed of 31 bytes", denial.ClaimAbsent, func(c *artifact.Claims) { c.BootSeed = c.BootSeed[:31] })
	set("dbgstat of 5", denial.PayloadForm, func(c *artifact.Claims) { c.Debug = ptr(uint64(5)) })
	set("no status list is named", denial.ClaimAbsent, func(c *artifact.Claims) { c.Status.List.URI = "" })
	env := func(what string, code denial.Reason, edit func(*artifact.Environment)) {
		set(what, code, func(c *artifact.Claims) { edit(&c.Environment) })
	}
	env("no PCRs", denial.ClaimAbsent, func(e *artifact.Environment) { e.PCRs = []artifact.PCRBinding{} })
	env("five PCR bindings", denial.ClaimAbsent, func(e *artifact.Environment) { e.PCRs = slices.Repeat(e.PCRs, 5) })
	env("a PCR bitmap of two bytes", denial.ClaimAbsent, func(e *artifact.Environment) { e.PCRs[0].Select = []byte{1, 2} })
	env("an empty PCR digest", denial.ClaimAbsent, func(e *artifact.Environment) { e.PCRs[0].Digest = []byte{} })
	env("a PCR digest of 65 bytes", denial.ClaimAbsent, func(e *artifact.Environment) { e.PCRs[0].Digest = make([]byte, 65) })
	env("PCRs of an unknown bank", denial.ClaimAbsent, func(e *artifact.Environment) { e.PCRs[0].Bank = -14 })
	env("an AK thumbprint of 31 bytes", denial.ClaimAbsent, func(e *artifact.Environment) { e.AK.Thumbprint = e.AK.Thumbprint[:31] })
	env("an AK name of 33 bytes", denial.ClaimAbsent, func(e *artifact.Environment) { e.AK.Name = e.AK.Name[:33] })
	env("a cnf name of 33 bytes", denial.ClaimAbsent, func(e *artifact.Environment) { e.CNFName = e.CNFName[:33] })
	env("a cnf policy of 31 bytes", denial.ClaimAbsent, func(e *artifact.Environment) { e.CNFPolicy = e.CNFPolicy[:31] })
	env("an EK digest of 31 bytes", denial.PayloadForm, func(e *artifact.Environment) { e.EK = &artifact.EK{Certificate: bad} })
	env("an EK name of 33 bytes", denial.PayloadForm, func(e *artifact.Environment) { e.EK.Name = e.AK.Name[:33] })
	env("an evidence digest of 31 bytes", denial.PayloadForm, func(e *artifact.Environment) { e.Evidence = bad })
	env("a boot aggregate of 31 bytes", denial.PayloadForm, func(e *artifact.Environment) { e.IMABoot = &bad })
	env("a boot signer digest of 31 bytes", denial.PayloadForm, func(e *artifact.Environment) { e.BootSigner = &bad })
	env("a dbx digest of 31 bytes", denial.PayloadForm, func(e *artifact.Environment) { e.SecureBoot.DBX = &bad })
	env("an IMA log whose PCR 10 has 31 bytes", denial.PayloadForm, func(e *artifact.Environment) { e.IMALog = &artifact.IMALog{PCR10: bad} })
	env("a Secure Boot mode of 4", denial.PayloadForm, func(e *artifact.Environment) { e.SecureBoot.Mode = ptr(uint64(4)) })
	env("a reference set without a name", denial.PayloadForm, func(e *artifact.Environment) { e.References = []artifact.Reference{{Digest: digest("x")}} })
	env("a reference set with a digest of 31 bytes", denial.PayloadForm, func(e *artifact.Environment) { e.References = []artifact.Reference{{ID: "x", Digest: bad}} })
}

// originsOf breaks what the claims say of initiator, policy and lineage.
func originsOf(l *list, w *site) {
	bad := artifact.Digest{Algorithm: artifact.SHA256, Value: make([]byte, 31)}
	set := func(what string, code denial.Reason, edit func(*artifact.Claims)) { l.claim(w, what, code, edit) }
	set("no policy", denial.ClaimAbsent, func(c *artifact.Claims) { c.Policy.ID = "" })
	set("a policy of version 0", denial.ClaimAbsent, func(c *artifact.Claims) { c.Policy.Version = 0 })
	set("a policy hash of 31 bytes", denial.ClaimAbsent, func(c *artifact.Claims) { c.Policy.Hash = bad })
	set("an input digest of 31 bytes", denial.ClaimAbsent, func(c *artifact.Claims) { c.Policy.Input = bad })
	set("a request digest of 31 bytes", denial.ClaimAbsent, func(c *artifact.Claims) { c.Policy.Request = bad })
	set("no appraisal policy", denial.ClaimAbsent, func(c *artifact.Claims) { c.Policy.Appraisal.ID = "" })
	set("an appraisal policy of version 0", denial.ClaimAbsent, func(c *artifact.Claims) { c.Policy.Appraisal.Version = 0 })
	set("an appraisal policy hash of 31 bytes", denial.ClaimAbsent, func(c *artifact.Claims) { c.Policy.Appraisal.Hash = bad })
	set("no initiator", denial.ClaimAbsent, func(c *artifact.Claims) { c.Initiator.Principal = "" })
	set("no authority of the initiator", denial.ClaimAbsent, func(c *artifact.Claims) { c.Initiator.Authority = "" })
	set("an initiator of kind 4", denial.ClaimAbsent, func(c *artifact.Claims) { c.Initiator.Kind = 4 })
	set("an initiator's credential of 31 bytes", denial.ClaimAbsent, func(c *artifact.Claims) { c.Initiator.Credential = &bad })
	set("a prior actor without a name", denial.ClaimAbsent, func(c *artifact.Claims) { c.Initiator.Actor = &artifact.Initiator{Authority: issuerURI} })
	child := func(c *artifact.Claims) {
		c.Lineage = artifact.Lineage{Root: bytes.Repeat([]byte{5}, 16), Depth: 1, Origin: personURI,
			Parents: []artifact.Parent{{ID: bytes.Repeat([]byte{5}, 16), Statement: make([]byte, 32), Delegation: make([]byte, 32)}}}
	}
	set("an artifact with a parent", accepted, child)
	set("no origin", denial.ClaimAbsent, func(c *artifact.Claims) { c.Lineage.Origin = "" })
	set("a root of 15 bytes", denial.ClaimAbsent, func(c *artifact.Claims) { child(c); c.Lineage.Root = make([]byte, 15) })
	set("a root of another artifact, and no parent", denial.LineageChainInvalid, func(c *artifact.Claims) { c.Lineage.Root = make([]byte, 16) })
	set("a depth without parents", denial.LineageChainInvalid, func(c *artifact.Claims) { child(c); c.Lineage.Parents = []artifact.Parent{} })
	set("parents without a depth", denial.LineageChainInvalid, func(c *artifact.Claims) {
		root := c.Lineage.Root
		child(c)
		c.Lineage.Root, c.Lineage.Depth = root, 0
	})
	set("nine parents", denial.LineageChainInvalid, func(c *artifact.Claims) { child(c); c.Lineage.Parents = slices.Repeat(c.Lineage.Parents, 9) })
	set("a parent id of 15 bytes", denial.LineageChainInvalid, func(c *artifact.Claims) { child(c); c.Lineage.Parents[0].ID = make([]byte, 15) })
	set("a parent digest of 31 bytes", denial.LineageChainInvalid, func(c *artifact.Claims) { child(c); c.Lineage.Parents[0].Statement = make([]byte, 31) })
	set("a delegation digest of 31 bytes", denial.LineageChainInvalid, func(c *artifact.Claims) { child(c); c.Lineage.Parents[0].Delegation = make([]byte, 31) })
	set("a dependency of 31 bytes", denial.PayloadForm, func(c *artifact.Claims) { c.Lineage.Dependencies = []artifact.Digest{bad} })
	set("a session of a second more than a year", denial.PayloadForm, func(c *artifact.Claims) { c.Limits = &artifact.Limits{Session: artifact.MaxSession + 1} })
	set("an execution id of 15 bytes", denial.PayloadForm, func(c *artifact.Claims) { c.Execution.ID = make([]byte, 15) })
	set("an execution kind that is no URI", denial.PayloadForm, func(c *artifact.Claims) { c.Execution.Kind = "kind" })
	set("an input of 31 bytes", denial.PayloadForm, func(c *artifact.Claims) { c.Execution.Inputs = []artifact.Digest{bad} })
	set("65 inputs", denial.PayloadForm, func(c *artifact.Claims) { c.Execution.Inputs = slices.Repeat([]artifact.Digest{digest("x")}, 65) })
}
