package main

import (
	"bytes"
	"crypto/elliptic"
	"math/big"
	"slices"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/vectors"
)

// content is the payload of the statements: {1: "x"}.
var content = []byte{0xa1, 0x01, 0x61, 'x'}

const (
	iss = "https://issuer.example"
	sub = "spiffe://example/host/a"
)

// statementVectors break a statement that is otherwise an artifact by a trusted key.
func statementVectors(*setup) []vectors.Vector {
	l := &list{prefix: "statement", signer: "software"}
	by := newSigner()
	attack := func(what string, code denial.Reason, edit func(*cose)) {
		c := newCOSE(by, statement.Artifact, iss, sub, content)
		edit(c)
		l.statement(what, code, c.build(), by)
	}
	attack("a statement", accepted, func(*cose) {})
	attack("ESP256 names the same algorithm", accepted, func(c *cose) { c.labels = c.labels.set(1, number(-9)) })
	attack("C20: a header without a signature over it", accepted, func(c *cose) { c.unprotected = object{}.set(99, bstr([]byte("ignored"))).bytes() })
	algorithms(attack)
	headers(attack)
	claims(attack)
	encodingsOf(attack)
	formsOf(l, attack, by)
	keysOf(l, attack, by)
	kinds(l, by)
	return l.all
}

func (l *list) statement(what string, code denial.Reason, raw []byte, by signer, more ...vectors.Key) {
	keys := append([]vectors.Key{{COSE: by.key.COSE(), Kinds: []string{"artifact"}}}, more...)
	l.add(what, code, func(v *vectors.Vector) {
		v.Statement = &vectors.Statement{Raw: raw, Kind: "artifact", Limit: 8 << 10, Keys: keys}
	})
}

type attacker func(what string, code denial.Reason, edit func(*cose))

func algorithms(attack attacker) {
	attack("C01: alg in the unprotected header alone", denial.AlgNotProtected, func(c *cose) {
		c.labels, c.unprotected = c.labels.set(1, nil), object{}.set(1, number(-7)).bytes()
	})
	attack("C02: no alg", denial.AlgNotProtected, func(c *cose) { c.labels = c.labels.set(1, nil) })
	attack("C02: an empty protected header", denial.AlgNotProtected, func(c *cose) { c.protected = []byte{} })
	for _, a := range []struct {
		name string
		alg  int64
	}{{"none", 0}, {"HMAC", 5}, {"RS256", -257}, {"RS1", -65535}, {"PS256", -37}, {"ES512", -36}, {"ES256K", -47}, {"A128GCM", 1}} {
		attack("C03: alg "+a.name, denial.AlgNotAllowed, func(c *cose) { c.labels = c.labels.set(1, number(a.alg)) })
	}
	attack("C03: alg as text", denial.AlgNotAllowed, func(c *cose) { c.labels = c.labels.set(1, tstr("ES256")) })
	for name, alg := range map[string]int64{"ES384": -35, "EdDSA": -8} {
		attack("C04: "+name+" with a key on P-256", denial.AlgKeyMismatch, func(c *cose) { c.labels = c.labels.set(1, number(alg)) })
	}
}

func headers(attack attacker) {
	label := func(key int64, value []byte) func(*cose) {
		return func(c *cose) { c.labels = c.labels.set(key, value) }
	}
	attack("C05: an unknown critical label", denial.CritUnknown, func(c *cose) {
		c.labels = c.labels.set(2, array(number(999))).set(999, []byte{0xf5})
	})
	attack("C05: crit names a label that is known", denial.CritUnknown, label(2, array(number(16))))
	attack("C06: crit in the unprotected header", denial.CritUnknown, func(c *cose) { c.unprotected = object{}.set(2, array(number(999))).bytes() })
	attack("C07: a label twice in the protected header", denial.LabelDuplicate, func(c *cose) { c.protected = twice(c.labels) })
	attack("C07: a label twice in the unprotected header", denial.LabelDuplicate, func(c *cose) { c.unprotected = []byte{0xa2, 0x09, 0x40, 0x09, 0x40} })
	attack("C08: kid in both headers", denial.LabelDuplicate, func(c *cose) { c.unprotected = object{}.set(4, bstr([]byte("b"))).bytes() })
	attack("C23: x5chain in the protected header", denial.CritUnknown, label(33, bstr([]byte("certificate"))))
	attack("C23: x5u in the protected header", denial.CritUnknown, label(35, tstr("https://attacker.example/key")))
	attack("C23: a label that is text in the protected header", denial.CritUnknown, func(c *cose) {
		c.labels = c.labels.with(tstr("jku"), tstr("https://attacker.example/keys"))
	})
	attack("C16: typ is missing", denial.WrongType, label(16, nil))
	attack("C16: typ of another kind", denial.WrongType, label(16, tstr(statement.Request.MediaType())))
	attack("C16: typ as a number", denial.WrongType, label(16, number(18)))
	attack("C16: a content type that the kind does not have", denial.WrongType, label(3, tstr("application/cwt")))
	attack("C16: a verifiable data structure that the kind does not have", denial.WrongType, label(395, number(1)))
	attack("C16: a preimage type that the kind does not have", denial.WrongType, label(259, tstr("application/cbor")))
	attack("C16: a hash algorithm that the kind does not have", denial.WrongType, label(258, number(-16)))
}

func claims(attack attacker) {
	claim := func(o object) func(*cose) { return func(c *cose) { c.labels = c.labels.set(15, o.bytes()) } }
	both := object{}.set(1, tstr(iss)).set(2, tstr(sub))
	attack("the claims of the header are missing", denial.ClaimAbsent, func(c *cose) { c.labels = c.labels.set(15, nil) })
	attack("the claims of the header are an array", denial.PayloadForm, func(c *cose) { c.labels = c.labels.set(15, array()) })
	attack("iss is missing in the header", denial.ClaimAbsent, claim(both.set(1, nil)))
	attack("sub is empty in the header", denial.ClaimAbsent, claim(both.set(2, tstr(""))))
	attack("iss is bytes in the header", denial.PayloadForm, claim(both.set(1, bstr([]byte(iss)))))
	attack("C32: an unknown claim in the header", denial.UnsupportedVersion, claim(both.set(9, number(1))))
	attack("C26: iat is text in the header", denial.TimeMalformed, claim(both.set(6, tstr("1"))))
	attack("C26: iat is zero in the header", denial.TimeMalformed, claim(both.set(6, number(0))))
	attack("C27: iat is above 2 to the 53 in the header", denial.TimeMalformed, claim(both.set(6, []byte{0x1b, 0, 0x20, 0, 0, 0, 0, 0, 1})))
	attack("iat in the header", accepted, claim(both.set(6, number(1_800_000_000))))
}

func encodingsOf(attack attacker) {
	replaced := func(old, new []byte) func(*cose) {
		return func(c *cose) { c.protected = bytes.Replace(c.labels.bytes(), old, new, 1) }
	}
	unprotected := func(parts ...[]byte) func(*cose) { return func(c *cose) { c.unprotected = slices.Concat(parts...) } }
	attack("C10: a label in a longer form", denial.NotCanonical, replaced([]byte{0x01, 0x26}, []byte{0x18, 0x01, 0x26}))
	attack("C10: a map in a longer form", denial.NotCanonical, replaced([]byte{0xa4}, []byte{0xb8, 0x04}))
	attack("C10: labels that are not sorted", denial.NotCanonical, func(c *cose) {
		c.protected = append(object(nil), c.labels[1], c.labels[0], c.labels[2], c.labels[3]).bytes()
	})
	attack("C11: a map of indefinite length", denial.NotCanonical, func(c *cose) { c.protected = slices.Concat([]byte{0xbf}, c.labels.bytes()[1:], []byte{0xff}) })
	attack("C11: a payload of indefinite length", denial.NotCanonical, func(c *cose) { c.item = slices.Concat([]byte{0x5f}, bstr(c.payload), []byte{0xff}) })
	attack("C12: a byte behind the protected header", denial.TrailingData, func(c *cose) { c.protected = append(c.labels.bytes(), 0) })
	attack("a tag in a header", denial.NotCanonical, unprotected([]byte{0xa1, 0x09, 0xc1, 0x01}))
	attack("a float in a header", denial.NotCanonical, unprotected([]byte{0xa1, 0x09, 0xf9, 0x3c, 0x00}))
	attack("undefined in a header", denial.NotCanonical, unprotected([]byte{0xa1, 0x09, 0xf7}))
	attack("text that is not UTF-8", denial.NotCanonical, unprotected([]byte{0xa1, 0x09, 0x61, 0xff}))
	attack("a label that is an array", denial.NotCanonical, unprotected([]byte{0xa1, 0x80, 0x01}))
	attack("a label that is longer than the data", denial.StructureLimit, unprotected([]byte{0xa1, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}))
	attack("C17: nesting in a header", denial.StructureLimit, unprotected([]byte{0xa1, 0x09}, bytes.Repeat([]byte{0x81}, 12), []byte{0x01}))
	attack("C18: a huge array", denial.StructureLimit, unprotected([]byte{0xa1, 0x09, 0x9b}, bytes.Repeat([]byte{0xff}, 8)))
	attack("C18: a huge byte string", denial.StructureLimit, unprotected([]byte{0xa1, 0x09, 0x5b}, bytes.Repeat([]byte{0xff}, 8)))
	attack("C18: a huge map", denial.StructureLimit, unprotected([]byte{0xbb}, bytes.Repeat([]byte{0xff}, 8)))
	var pairs object
	for i := range int64(65) {
		pairs = pairs.set(1000+i, number(0))
	}
	attack("C18: a map of 65 pairs", denial.StructureLimit, unprotected(pairs.bytes()))
	attack("C18: an array of 8193 elements", denial.StructureLimit, unprotected([]byte{0xa1, 0x09, 0x99, 0x20, 0x01}, make([]byte, 8193)))
}

func formsOf(l *list, attack attacker, by signer) {
	good := newCOSE(by, statement.Artifact, iss, sub, content).build()
	whole := func(what string, code denial.Reason, raw []byte) { l.statement(what, code, raw, by) }
	prefix := func(b ...byte) func(*cose) { return func(c *cose) { c.prefix = b } }
	whole("C12: a byte behind the statement", denial.TrailingData, append(slices.Clone(good), 0))
	whole("C37: no bytes", denial.WrongType, nil)
	whole("C37: the tag alone", denial.WrongType, []byte{0xd2})
	whole("C37: nothing behind the head of the array", denial.NotCanonical, []byte{0xd2, 0x84})
	whole("C37: four empty parts", denial.AlgNotProtected, []byte{0xd2, 0x84, 0x40, 0xa0, 0x40, 0x40})
	whole("Q21: a statement cut short", denial.StructureLimit, good[:len(good)-1])
	whole("a length cut short", denial.NotCanonical, []byte{0xd2, 0x84, 0x59, 0x01})
	whole("the protected header is a map", denial.WrongType, []byte{0xd2, 0x84, 0xa1, 1, 0x26, 0xa0, 0x40, 0x40})
	whole("the signature is text", denial.WrongType, []byte{0xd2, 0x84, 0x40, 0xa0, 0x40, 0x61, 'x'})
	attack("C13: without a tag", denial.WrongType, prefix(0x84))
	attack("C13: tag 61 around it", denial.WrongType, prefix(0xd8, 0x3d, 0xd2, 0x84))
	attack("C13: tag 18 in a longer form", denial.WrongType, prefix(0xd8, 0x12, 0x84))
	attack("C15: COSE_Mac0", denial.WrongType, prefix(0xd1, 0x84))
	attack("C15: COSE_Sign", denial.WrongType, prefix(0xd8, 0x62, 0x84))
	attack("the protected header is an array", denial.WrongType, func(c *cose) { c.protected = []byte{0x80} })
	attack("the unprotected header is an array", denial.WrongType, func(c *cose) { c.unprotected = []byte{0x80} })
	attack("C14: no payload", denial.PayloadForm, func(c *cose) { c.item = []byte{0xf6} })
	attack("C14: the payload is text", denial.PayloadForm, func(c *cose) { c.item = tstr("text") })
	attack("C18: a statement of more than 8 KiB", denial.StructureLimit, func(c *cose) { c.payload = make([]byte, 8<<10) })
	big := newCOSE(by, statement.Artifact, iss, sub, make([]byte, 8<<10)).build()
	l.add("C18: an artifact of more than 8 KiB, though more was allowed to be read", denial.StructureLimit, func(v *vectors.Vector) {
		v.Statement = &vectors.Statement{Raw: big, Kind: "artifact", Limit: 16 << 10,
			Keys: []vectors.Key{{COSE: by.key.COSE(), Kinds: []string{"artifact"}}}}
	})
}

func keysOf(l *list, attack attacker, by signer) {
	for what, kid := range map[string][]byte{"a path": []byte("../../x"), "a URL": []byte("https://attacker.example/key"), "32 zero bytes": make([]byte, 32)} {
		attack("C21: kid is "+what, denial.KeyUnknown, func(c *cose) { c.labels = c.labels.set(4, bstr(kid)) })
	}
	attack("C21: kid is missing", denial.KeyUnknown, func(c *cose) { c.labels = c.labels.set(4, nil) })
	attack("C21: kid is 32 letters", denial.KeyUnknown, func(c *cose) { c.labels = c.labels.set(4, tstr("0123456789abcdef0123456789abcdef")) })
	other := newSigner()
	attack("C39: the signature of another key beside a trusted kid", denial.SignatureInvalid, func(c *cose) { c.signature = other.sign })
	attack("one bit of the signature", denial.SignatureInvalid, func(c *cose) {
		c.signature = func(tbs []byte) []byte { sig := by.sign(tbs); sig[63] ^= 1; return sig }
	})
	attack("C38: signed in one encoding, sent in another", denial.SignatureInvalid, func(c *cose) {
		c.signature = func([]byte) []byte {
			longer := bytes.Replace(c.labels.bytes(), []byte{0x01, 0x26}, []byte{0x01, 0x38, 0x06}, 1)
			return by.sign(array(tstr("Signature1"), bstr(longer), bstr(nil), bstr(c.payload)))
		}
	})
	attack("signed with external data", denial.SignatureInvalid, func(c *cose) {
		c.signature = func([]byte) []byte {
			return by.sign(array(tstr("Signature1"), bstr(c.labels.bytes()), bstr([]byte("external")), bstr(c.payload)))
		}
	})
	attack("C24: r and s of zero", denial.SignatureInvalid, func(c *cose) { c.signature = func([]byte) []byte { return make([]byte, 64) } })
	attack("C24: r is the order of the curve", denial.SignatureInvalid, func(c *cose) {
		c.signature = func(tbs []byte) []byte { return append(elliptic.P256().Params().N.Bytes(), by.sign(tbs)[32:]...) }
	})
	attack("C24: a signature of 63 bytes", denial.SignatureInvalid, func(c *cose) { c.signature = func(tbs []byte) []byte { return by.sign(tbs)[:63] } })
	attack("C24: a signature of 66 bytes with the same numbers", denial.SignatureInvalid, func(c *cose) {
		c.signature = func(tbs []byte) []byte {
			sig := by.sign(tbs)
			return slices.Concat([]byte{0}, sig[:32], []byte{0}, sig[32:])
		}
	})
	attack("C19: s exchanged for n less s", accepted, func(c *cose) {
		c.signature = func(tbs []byte) []byte {
			sig := by.sign(tbs)
			s := new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(sig[32:]))
			return append(sig[:32:32], s.FillBytes(make([]byte, 32))...)
		}
	})
	good := newCOSE(by, statement.Artifact, iss, sub, content).build()
	again := vectors.Key{COSE: by.key.COSE(), Kinds: []string{"artifact"}}
	l.statement("C22: two trusted keys with one thumbprint", denial.KeyAmbiguous, good, by, again)
	broken := by.key.COSE()
	broken[len(broken)-1] ^= 1
	l.statement("a trusted key whose point is not on its curve", denial.AlgKeyMismatch, good, by, vectors.Key{COSE: broken, Kinds: []string{"artifact"}})
	short := object{}.set(1, number(2)).set(-1, number(1)).set(-2, bstr(make([]byte, 31))).set(-3, bstr(make([]byte, 32))).bytes()
	l.statement("a trusted key with a coordinate of 31 bytes", denial.AlgNotAllowed, good, by, vectors.Key{COSE: short, Kinds: []string{"artifact"}})
	identity := append([]byte{1}, make([]byte, 31)...)
	small := object{}.set(1, number(1)).set(-1, number(6)).set(-2, bstr(identity)).bytes()
	l.statement("a trusted Ed25519 key of small order", denial.AlgKeyMismatch, good, by, vectors.Key{COSE: small, Kinds: []string{"artifact"}})
	high := bytes.Repeat([]byte{0xff}, 32)
	high[31] = 0x7f
	l.statement("a trusted Ed25519 key whose y is not reduced", denial.AlgKeyMismatch, good, by,
		vectors.Key{COSE: object{}.set(1, number(1)).set(-1, number(6)).set(-2, bstr(high)).bytes(), Kinds: []string{"artifact"}})
	two := append([]byte{2}, make([]byte, 31)...)
	l.statement("a trusted Ed25519 key that is no point", denial.AlgKeyMismatch, good, by,
		vectors.Key{COSE: object{}.set(1, number(1)).set(-1, number(6)).set(-2, bstr(two)).bytes(), Kinds: []string{"artifact"}})
	l.statement("a trusted key for no purpose", denial.KeyUnknown, good, by, vectors.Key{COSE: newSigner().key.COSE()})
}

// kinds shows a statement of each kind, by a key that may sign it, as an artifact.
func kinds(l *list, by signer) {
	for _, k := range statement.Kinds() {
		if k == statement.Artifact {
			continue
		}
		other := newSigner()
		c := newCOSE(other, k, iss, sub, content)
		l.add("C16: a "+k.String()+" in place of an artifact", kindCode(k), func(v *vectors.Vector) {
			v.Statement = &vectors.Statement{Raw: c.build(), Kind: "artifact", Limit: 8 << 10, Keys: []vectors.Key{
				{COSE: by.key.COSE(), Kinds: []string{"artifact"}}, {COSE: other.key.COSE(), Kinds: []string{k.String()}}}}
		})
	}
	record := newSigner()
	c := newCOSE(record, statement.Artifact, iss, sub, content)
	l.add("C16: an artifact by the key of records", denial.WrongType, func(v *vectors.Vector) {
		v.Statement = &vectors.Statement{Raw: c.build(), Kind: "artifact", Limit: 8 << 10, Keys: []vectors.Key{
			{COSE: by.key.COSE(), Kinds: []string{"artifact"}}, {COSE: record.key.COSE(), Kinds: []string{"record"}}}}
	})
}

// kindCode is the code of another kind: all have another typ.
func kindCode(statement.Kind) denial.Reason { return denial.WrongType }
