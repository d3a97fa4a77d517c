package main

import (
	"bytes"
	"compress/zlib"
	"slices"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/vectors"
)

// statusVectors break a status list token.
func statusVectors(s *setup) []vectors.Vector {
	l := &list{prefix: "status", signer: "software"}
	w := newSite(s)
	now := uint64(present.Unix())
	trust := w.trustFile(func(*artifact.Trust) {})
	token := func(what string, code denial.Reason, raw []byte, edit func(*vectors.Status)) {
		l.add(what, code, func(v *vectors.Vector) {
			v.Status = &vectors.Status{Raw: raw, Trust: trust, Now: present}
			edit(v.Status)
		})
	}
	plain := func(*vectors.Status) {}
	body := func(iat, exp, ttl uint64, packed []byte) object {
		return object{}.set(1, tstr(issuerURI)).set(2, tstr(listURI)).set(4, number(int64(exp))).set(6, number(int64(iat))).
			set(265, tstr(artifact.StatusProfile)).set(65534, number(int64(ttl))).
			set(65533, object{}.with(tstr("bits"), number(4)).with(tstr("lst"), bstr(packed)).bytes())
	}
	packed := deflate(make([]byte, 4))
	good := body(issued, issued+120, 60, packed)
	signed := func(by signer, kind statement.Kind, payload []byte) []byte {
		return newCOSE(by, kind, issuerURI, listURI, payload).build()
	}
	payload := func(what string, code denial.Reason, payload []byte) {
		token(what, code, signed(w.status, statement.StatusList, payload), plain)
	}
	payload("a status list", accepted, good.bytes())
	payload("P14: as old as the trust file accepts", accepted, body(now-60, now+60, 900, packed).bytes())
	payload("P14: older than the trust file accepts", denial.RevocationUnknown, body(now-61, now+60, 900, packed).bytes())
	payload("P14: older than its own ttl", denial.RevocationUnknown, body(issued, issued+120, 9, packed).bytes())
	payload("P14: at its exp", denial.RevocationUnknown, body(issued, now, 60, packed).bytes())
	payload("P14: from the future", denial.RevocationUnknown, body(now+61, now+120, 60, packed).bytes())
	payload("C25: iat is missing", denial.ClaimAbsent, good.set(6, nil).bytes())
	payload("C25: exp is null", denial.ClaimAbsent, good.set(4, []byte{0xf6}).bytes())
	payload("C26: iat is text", denial.TimeMalformed, good.set(6, tstr("1")).bytes())
	payload("C27: exp is 2 to the 63", denial.TimeMalformed, good.set(4, unhex("1b8000000000000000")).bytes())
	payload("C32: another profile", denial.UnsupportedVersion, good.set(265, tstr(artifact.Profile)).bytes())
	payload("C32: an unknown claim", denial.UnsupportedVersion, good.set(10, number(0)).bytes())
	payload("C32: two bits an entry", denial.UnsupportedVersion, good.set(65533, object{}.with(tstr("bits"), number(2)).with(tstr("lst"), bstr(packed)).bytes()).bytes())
	payload("ttl is zero", denial.ClaimAbsent, good.set(65534, number(0)).bytes())
	payload("ttl is above 2 to the 53", denial.ClaimAbsent, good.set(65534, unhex("1b8000000000000000")).bytes())
	list := func(what string, code denial.Reason, packed []byte) {
		payload(what, code, body(issued, issued+120, 60, packed).bytes())
	}
	list("a list that is not zlib", denial.PayloadForm, []byte("list"))
	list("a list that is cut short", denial.PayloadForm, packed[:len(packed)-1])
	list("a list with a wrong checksum", denial.PayloadForm, flipped(packed))
	list("bytes behind the list", denial.TrailingData, append(slices.Clone(packed), 0))
	list("C18: a list that inflates to more than 1 MiB", denial.StructureLimit, deflate(make([]byte, 1<<20+1)))
	token("no bytes", denial.WrongType, nil, plain)
	token("one bit of the signature", denial.SignatureInvalid, flipped(signed(w.status, statement.StatusList, good.bytes())), plain)
	token("C16: by the key of artifacts", denial.WrongType, signed(w.artifact, statement.StatusList, good.bytes()), plain)
	token("by an unknown key", denial.KeyUnknown, signed(newSigner(), statement.StatusList, good.bytes()), plain)
	token("the header names another list", denial.IdentityConflict, newCOSE(w.status, statement.StatusList, issuerURI, listURI+"0", good.bytes()).build(), plain)
	token("of another issuer", denial.IdentityConflict, newCOSE(w.status, statement.StatusList, personURI, listURI, good.set(1, tstr(personURI)).bytes()).build(), plain)
	token("iss is no URI", denial.ClaimAbsent, newCOSE(w.status, statement.StatusList, "issuer", listURI, good.set(1, tstr("issuer")).bytes()).build(), plain)
	token("sub is no URI", denial.ClaimAbsent, newCOSE(w.status, statement.StatusList, issuerURI, "list", good.set(2, tstr("list")).bytes()).build(), plain)
	raw := signed(w.status, statement.StatusList, good.bytes())
	token("P14: older than the last one seen", denial.StateRollback, raw, func(s *vectors.Status) { s.LastSeen = issued + 1 })
	token("the last one seen", accepted, raw, func(s *vectors.Status) { s.LastSeen = issued })
	token("C34: the key was not yet valid", denial.KeyOutsideValidity, raw, func(s *vectors.Status) {
		s.Trust = w.trustFile(func(t *artifact.Trust) { t.Keys[2].NotBefore = time.Unix(int64(issued+1), 0) })
	})
	token("C34: the key had ended", denial.KeyOutsideValidity, raw, func(s *vectors.Status) {
		s.Trust = w.trustFile(func(t *artifact.Trust) { t.Keys[2].NotAfter = time.Unix(int64(issued), 0) })
	})
	return l.all
}

func deflate(list []byte) []byte {
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	if _, err := z.Write(list); err != nil {
		panic(fault(err.Error()))
	}
	if err := z.Close(); err != nil {
		panic(fault(err.Error()))
	}
	return b.Bytes()
}

// requestVectors break the request of an initiator.
func requestVectors(s *setup) []vectors.Vector {
	l := &list{prefix: "request", signer: "software"}
	w := newSite(s)
	good := artifact.RequestClaims{
		Initiator: personURI, Host: hostURI, Audience: gateURI, Expires: issued + 300, IssuedAt: issued, ID: bytes.Repeat([]byte{1}, 16),
		Confirmation: artifact.Thumbprint{Key: bytes.Repeat([]byte{2}, 32)}, Scope: w.claims().Scope, Profile: artifact.RequestProfile,
		Execution: artifact.Execution{ID: bytes.Repeat([]byte{3}, 16)}, Parents: []artifact.ParentDigest{}, Lifetime: 300,
	}
	request := func(what string, code denial.Reason, raw []byte) {
		l.add(what, code, func(v *vectors.Vector) {
			v.Request = &vectors.Request{Raw: raw, Key: w.person.key.COSE(), Now: present}
		})
	}
	set := func(what string, code denial.Reason, edit func(*artifact.RequestClaims)) {
		c := good
		edit(&c)
		request(what, code, newCOSE(w.person, statement.Request, c.Initiator, c.Host, encode(&c)).build())
	}
	payload := open(encode(&good))
	claim := func(what string, code denial.Reason, key int64, value []byte) {
		request(what, code, newCOSE(w.person, statement.Request, personURI, hostURI, payload.set(key, value).bytes()).build())
	}
	set("a request", accepted, func(*artifact.RequestClaims) {})
	claim("C25: exp is missing", denial.ClaimAbsent, 4, nil)
	claim("C26: iat is text", denial.TimeMalformed, 6, tstr("1"))
	claim("C31: aud is an array", denial.AudienceMismatch, 3, array(tstr(gateURI)))
	claim("C32: an unknown claim", denial.UnsupportedVersion, 11, number(0))
	set("C32: another profile", denial.UnsupportedVersion, func(c *artifact.RequestClaims) { c.Profile = artifact.Profile })
	set("a session of a year", accepted, func(c *artifact.RequestClaims) { c.Limits = &artifact.Limits{Session: artifact.MaxSession} })
	set("a session of a second more than a year", denial.PayloadForm, func(c *artifact.RequestClaims) { c.Limits = &artifact.Limits{Session: artifact.MaxSession + 1} })
	set("the initiator is no URI", denial.ClaimAbsent, func(c *artifact.RequestClaims) { c.Initiator = "ada" })
	set("the host is no URI", denial.ClaimAbsent, func(c *artifact.RequestClaims) { c.Host = "host" })
	set("C31: the audience is no URI", denial.AudienceMismatch, func(c *artifact.RequestClaims) { c.Audience = "gate" })
	set("a request id of 15 bytes", denial.PayloadForm, func(c *artifact.RequestClaims) { c.ID = c.ID[:15] })
	set("a lifetime of zero", denial.PayloadForm, func(c *artifact.RequestClaims) { c.Lifetime = 0 })
	set("a lifetime above 2 to the 53", denial.PayloadForm, func(c *artifact.RequestClaims) { c.Lifetime = 1<<53 + 1 })
	set("a thumbprint of 31 bytes", denial.KeyBinding, func(c *artifact.RequestClaims) { c.Confirmation.Key = c.Confirmation.Key[:31] })
	set("an execution id of 15 bytes", denial.PayloadForm, func(c *artifact.RequestClaims) { c.Execution.ID = c.Execution.ID[:15] })
	set("nine parents", denial.StructureLimit, func(c *artifact.RequestClaims) {
		c.Parents = slices.Repeat([]artifact.ParentDigest{make([]byte, 32)}, 9)
	})
	set("a parent of 31 bytes", denial.LineageChainInvalid, func(c *artifact.RequestClaims) { c.Parents = []artifact.ParentDigest{make([]byte, 31)} })
	set("C29: valid for more than ten minutes", denial.LifetimeTooLong, func(c *artifact.RequestClaims) { c.Expires = issued + 601 })
	set("C30: from the future", denial.NotYetValid, func(c *artifact.RequestClaims) { c.IssuedAt, c.Expires = issued+71, issued+100 })
	set("C28: at exp", denial.Expired, func(c *artifact.RequestClaims) { c.Expires = issued + 10 })
	set("an empty scope", denial.StructureLimit, func(c *artifact.RequestClaims) { c.Scope = artifact.Scope{} })
	request("the header names another initiator", denial.IdentityConflict, newCOSE(w.person, statement.Request, personURI+"/b", hostURI, encode(&good)).build())
	request("signed by another key", denial.KeyUnknown, newCOSE(newSigner(), statement.Request, personURI, hostURI, encode(&good)).build())
	request("C16: signed as another kind", denial.WrongType, newCOSE(w.person, statement.Possession, personURI, hostURI, encode(&good)).build())
	request("C18: more than 8 KiB", denial.StructureLimit, newCOSE(w.person, statement.Request, personURI, hostURI, make([]byte, 8<<10)).build())
	return l.all
}

// possessionVectors break the proof that the holder has the confirmation key. Whatever is wrong, the code is 702.
func possessionVectors(s *setup) []vectors.Vector {
	l := &list{prefix: "possession", signer: "software"}
	w := newSite(s)
	raw := w.transparent(encode(ptr(w.claims())))
	held := w.vector(raw)
	held.Use = nil
	leaf := w.leafOf(raw)
	nonce, parameters := bytes.Repeat([]byte{9}, 32), artifact.ParametersDigest(w.argv)
	good := object{}.set(3, tstr(gateURI)).set(6, number(present.Unix())).set(10, bstr(nonce)).set(265, tstr(artifact.PossessionProfile)).
		set(-90009, bstr(leaf[:])).set(-90010, array(number(-16), bstr(parameters.Value)))
	proof := func(what string, code denial.Reason, by signer, kind statement.Kind, holder string, o object, edit func(*vectors.Possession)) {
		l.add(what, code, func(v *vectors.Vector) {
			v.Possession = &vectors.Possession{Artifact: *held, Raw: newCOSE(by, kind, holder, holder, o.bytes()).build(), Nonce: nonce,
				Parameters: parameters.Value, Now: present}
			edit(v.Possession)
		})
	}
	plain := func(*vectors.Possession) {}
	claim := func(what string, key int64, value []byte) {
		proof(what, denial.KeyBinding, w.holder, statement.Possession, hostURI, good.set(key, value), plain)
	}
	proof("a proof", accepted, w.holder, statement.Possession, hostURI, good, plain)
	proof("a proof 30 seconds old", accepted, w.holder, statement.Possession, hostURI, good.set(6, number(present.Unix()-30)), plain)
	proof("C33: by another key", denial.KeyBinding, newSigner(), statement.Possession, hostURI, good, plain)
	proof("C16: signed as a request", denial.KeyBinding, w.holder, statement.Request, hostURI, good, plain)
	proof("by another holder", denial.KeyBinding, w.holder, statement.Possession, hostURI+"/b", good, plain)
	claim("for another gate", 3, tstr(gateURI+"/b"))
	claim("for a gate that is no URI", 3, tstr("gate"))
	claim("31 seconds old", 6, number(present.Unix()-31))
	claim("31 seconds from the future", 6, number(present.Unix()+31))
	claim("without a time", 6, nil)
	claim("for another nonce", 10, bstr(make([]byte, 32)[:31]))
	claim("another nonce", 10, bstr(bytes.Repeat([]byte{8}, 32)))
	claim("another profile", 265, tstr(artifact.Profile))
	claim("for another artifact", -90009, bstr(make([]byte, 32)))
	claim("for other parameters", -90010, array(number(-16), bstr(make([]byte, 32))))
	claim("an unknown claim", 11, number(0))
	proof("C18: more than 2 KiB", denial.KeyBinding, w.holder, statement.Possession, hostURI, good.set(3, tstr("https://"+string(bytes.Repeat([]byte{'a'}, 2048)))), plain)
	zero := good.set(10, bstr(make([]byte, 32)))
	proof("a nonce of zeros", denial.KeyBinding, w.holder, statement.Possession, hostURI, zero, func(p *vectors.Possession) { p.Nonce = make([]byte, 32) })
	return l.all
}

// leafOf returns the digest of an artifact without its receipts.
func (w *site) leafOf(raw []byte) statement.Digest {
	return must(statement.Decode(raw, len(raw))).Digest()
}
