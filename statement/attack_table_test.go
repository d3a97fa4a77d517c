package statement

import (
	"bytes"
	"slices"
	"testing"

	"github.com/governed-execution/writ/denial"
)

func set(label int64, value any) func(*parts) { return func(p *parts) { p.labels[label] = value } }

func unset(label int64) func(*parts) { return func(p *parts) { delete(p.labels, label) } }

func unprotected(t *testing.T, m any) func(*parts) {
	return func(p *parts) { p.unprotected = encode(t, m) }
}

func algorithmAttacks(t *testing.T) []attack {
	list := []attack{
		{name: "C01 alg only in the unprotected header", want: denial.AlgNotProtected, brk: func(p *parts) {
			delete(p.labels, labelAlg)
			p.unprotected = encode(t, map[int64]any{labelAlg: ES256})
		}},
		{name: "C01 empty protected header, alg unprotected", want: denial.AlgNotProtected, brk: func(p *parts) {
			p.protected = []byte{}
			p.unprotected = encode(t, map[int64]any{labelAlg: ES256})
		}},
		{name: "C02 no alg anywhere", want: denial.AlgNotProtected, brk: unset(labelAlg)},
		{name: "C02 empty protected header", want: denial.AlgNotProtected, brk: func(p *parts) { p.protected = []byte{0xa0} }},
		{name: "C03 alg as text", want: denial.AlgNotAllowed, brk: set(labelAlg, "ES256")},
		{name: "C03 alg beyond int64", want: denial.AlgNotAllowed, brk: set(labelAlg, uint64(1)<<63)},
	}
	refused := map[string]int64{"none": 0, "HMAC 256": 5, "RS256": -257, "RS1": -65535, "PS256": -37, "ES512": -36,
		"ES256K": -47, "ESB256": -265, "ML-DSA-44": -48, "A128GCM": 1, "EdDSA Ed448": -53}
	for name, alg := range refused {
		list = append(list, attack{name: "C03 " + name, want: denial.AlgNotAllowed, brk: set(labelAlg, alg)})
	}
	for _, alg := range []Algorithm{ES384, ESP384, EdDSA, Ed25519} {
		list = append(list, attack{name: "C04 another curve's algorithm with a P-256 key", want: denial.AlgKeyMismatch,
			brk: set(labelAlg, alg)})
	}
	return list
}

func headerAttacks(t *testing.T) []attack {
	return []attack{
		{name: "C05 unknown critical label", want: denial.CritUnknown, brk: func(p *parts) {
			p.labels[labelCrit], p.labels[999] = []int64{999}, true
		}},
		{name: "C05 known label marked critical", want: denial.CritUnknown, brk: set(labelCrit, []int64{labelType})},
		{name: "C06 crit in the unprotected header", want: denial.CritUnknown,
			brk: unprotected(t, map[int64]any{labelCrit: []int64{999}, 999: true})},
		{name: "C06 empty crit", want: denial.CritUnknown, brk: set(labelCrit, []int64{})},
		{name: "C06 crit names an absent label", want: denial.CritUnknown, brk: set(labelCrit, []int64{999})},
		{name: "C07 a label twice in the protected header", want: denial.LabelDuplicate, brk: func(p *parts) {
			p.protected = []byte{0xa2, 0x01, 0x26, 0x01, 0x26}
		}},
		{name: "C07 a label twice in the unprotected header", want: denial.LabelDuplicate, brk: func(p *parts) {
			p.unprotected = []byte{0xa2, 0x04, 0x40, 0x04, 0x40}
		}},
		{name: "C08 kid in both headers", want: denial.LabelDuplicate,
			brk: unprotected(t, map[int64]any{labelKeyID: []byte("b")})},
		{name: "C08 alg in both headers", want: denial.LabelDuplicate, brk: unprotected(t, map[int64]any{labelAlg: ES256})},
		{name: "C23 x5u in the protected header", want: denial.CritUnknown, brk: set(35, "https://attacker.example/key")},
		{name: "C23 x5chain in the protected header", want: denial.CritUnknown, brk: set(33, []byte("certificate"))},
		{name: "C23 jku by name in the protected header", want: denial.CritUnknown, brk: func(p *parts) {
			m := map[any]any{"jku": "https://attacker.example/keys"}
			for k, v := range p.labels {
				m[k] = v
			}
			p.protected = encode(t, m)
		}},
		{name: "unknown protected label", want: denial.CritUnknown, brk: set(-70000, 1)},
		{name: "receipts in the protected header", want: denial.CritUnknown, brk: set(labelReceipts, [][]byte{{1}})},
		{name: "typ missing", want: denial.WrongType, brk: unset(labelType)},
		{name: "typ as a number", want: denial.WrongType, brk: set(labelType, 18)},
		{name: "typ in upper case", want: denial.WrongType, brk: set(labelType, "application/vnd.writ.AUTHZ+cwt")},
		{name: "typ with a parameter", want: denial.WrongType, brk: set(labelType, Artifact.MediaType()+"; v=1")},
		{name: "a content type that the kind has not", want: denial.WrongType, brk: set(labelContent, "application/cwt")},
		{name: "claims missing", want: denial.ClaimAbsent, brk: unset(labelClaims)},
		{name: "iss missing", want: denial.ClaimAbsent, brk: set(labelClaims, map[int64]any{2: "sub"})},
		{name: "sub missing", want: denial.ClaimAbsent, brk: set(labelClaims, map[int64]any{1: "iss"})},
		{name: "iss empty", want: denial.ClaimAbsent, brk: set(labelClaims, map[int64]any{1: "", 2: "sub"})},
		{name: "iss as bytes", want: denial.PayloadForm, brk: set(labelClaims, map[int64]any{1: []byte("iss"), 2: "sub"})},
		{name: "claims as an array", want: denial.PayloadForm, brk: set(labelClaims, []int{1})},
		{name: "unknown claim", want: denial.UnsupportedVersion, brk: set(labelClaims, map[int64]any{1: "i", 2: "s", 9: 1})},
		{name: "unknown text claim", want: denial.UnsupportedVersion, brk: set(labelClaims, map[any]any{1: "i", 2: "s", "x": 1})},
		{name: "iat negative", want: denial.TimeMalformed, brk: set(labelClaims, map[int64]any{1: "i", 2: "s", 6: -1})},
		{name: "iat zero", want: denial.TimeMalformed, brk: set(labelClaims, map[int64]any{1: "i", 2: "s", 6: 0})},
		{name: "iat as text", want: denial.TimeMalformed, brk: set(labelClaims, map[int64]any{1: "i", 2: "s", 6: "1"})},
		{name: "iat null", want: denial.TimeMalformed, brk: set(labelClaims, map[int64]any{1: "i", 2: "s", 6: nil})},
		{name: "iat above 2^53", want: denial.TimeMalformed, brk: set(labelClaims, map[int64]any{1: "i", 2: "s", 6: maxTime + 1})},
		{name: "iat of 2^64-1", want: denial.TimeMalformed,
			brk: set(labelClaims, map[int64]any{1: "i", 2: "s", 6: ^uint64(0)})},
		{name: "iat a float", want: denial.NotCanonical, brk: set(labelClaims, map[int64]any{1: "i", 2: "s", 6: 1.5})},
	}
}

func encodingAttacks(t *testing.T) []attack {
	reencode := func(old, new []byte) func(*parts) {
		return func(p *parts) { p.protected = bytes.Replace(encode(t, p.labels), old, new, 1) }
	}
	return []attack{
		{name: "C10 label in a longer form", want: denial.NotCanonical, brk: reencode([]byte{0x01, 0x26}, []byte{0x18, 0x01, 0x26})},
		{name: "C10 label in the longest form", want: denial.NotCanonical,
			brk: reencode([]byte{0x01, 0x26}, []byte{0x1b, 0, 0, 0, 0, 0, 0, 0, 1, 0x26})},
		{name: "C10 map head in a longer form", want: denial.NotCanonical, brk: reencode([]byte{0xa4}, []byte{0xb8, 0x04})},
		{name: "C10 unsorted protected header", want: denial.NotCanonical, brk: func(p *parts) {
			p.protected = []byte{0xa2, 0x04, 0x41, 0x61, 0x01, 0x26}
		}},
		{name: "C10 unsorted unprotected header", want: denial.NotCanonical, brk: func(p *parts) {
			p.unprotected = []byte{0xa2, 0x19, 0x01, 0x00, 0x40, 0x18, 0x63, 0x40}
		}},
		{name: "C11 protected map of indefinite length", want: denial.NotCanonical, brk: func(p *parts) {
			m := encode(t, p.labels)
			p.protected = slices.Concat([]byte{0xbf}, m[1:], []byte{0xff})
		}},
		{name: "C11 unprotected map of indefinite length", want: denial.NotCanonical, brk: func(p *parts) { p.unprotected = []byte{0xbf, 0xff} }},
		{name: "C11 payload of indefinite length", want: denial.NotCanonical, brk: func(p *parts) {
			p.payloadItem = slices.Concat([]byte{0x5f}, encode(t, p.payload), []byte{0xff})
		}},
		{name: "C12 a byte behind the statement", want: denial.TrailingData, after: func(b []byte) []byte { return append(b, 0) }},
		{name: "C12 a byte behind the protected map", want: denial.TrailingData, brk: func(p *parts) {
			p.protected = append(encode(t, p.labels), 0)
		}},
		{name: "a tag in the protected header", want: denial.NotCanonical, brk: func(p *parts) {
			p.protected = []byte{0xa1, 0x01, 0xc1, 0x01}
		}},
		{name: "undefined in the unprotected header", want: denial.NotCanonical, brk: func(p *parts) { p.unprotected = []byte{0xa1, 0x09, 0xf7} }},
		{name: "text that is not UTF-8", want: denial.NotCanonical, brk: func(p *parts) { p.unprotected = []byte{0xa1, 0x09, 0x61, 0xff} }},
		{name: "C17 depth in the unprotected header", want: denial.StructureLimit, brk: func(p *parts) {
			p.unprotected = slices.Concat([]byte{0xa1, 0x09}, bytes.Repeat([]byte{0x81}, 1000), []byte{0x01})
		}},
		{name: "C17 depth in the protected header", want: denial.StructureLimit, brk: func(p *parts) {
			p.protected = slices.Concat([]byte{0xa1, 0x09}, bytes.Repeat([]byte{0x81}, 1000), []byte{0x01})
		}},
		{name: "C18 a huge array", want: denial.StructureLimit, brk: func(p *parts) {
			p.unprotected = slices.Concat([]byte{0xa1, 0x09, 0x9b}, bytes.Repeat([]byte{0xff}, 8))
		}},
		{name: "C18 a huge byte string", want: denial.StructureLimit, brk: func(p *parts) {
			p.unprotected = slices.Concat([]byte{0xa1, 0x09, 0x5b}, bytes.Repeat([]byte{0xff}, 8))
		}},
		{name: "C18 a huge map", want: denial.StructureLimit, brk: func(p *parts) {
			p.unprotected = slices.Concat([]byte{0xbb}, bytes.Repeat([]byte{0xff}, 8))
		}},
		{name: "C18 65 pairs", want: denial.StructureLimit, brk: func(p *parts) {
			m := map[int64]any{}
			for i := range int64(65) {
				m[1000+i] = 0
			}
			p.unprotected = encode(t, m)
		}},
		{name: "C18 more than 8 KiB", want: denial.StructureLimit, brk: func(p *parts) { p.payload = make([]byte, 8<<10) }},
	}
}

func formAttacks(t *testing.T) []attack {
	prefix := func(b ...byte) func(*parts) { return func(p *parts) { p.prefix = b } }
	item := func(v any) func(*parts) { return func(p *parts) { p.payloadItem = encode(t, v) } }
	whole := func(v []byte) func([]byte) []byte { return func([]byte) []byte { return v } }
	return []attack{
		{name: "C13 untagged", want: denial.WrongType, brk: prefix(0x84)},
		{name: "C13 tag 61 around it", want: denial.WrongType, brk: prefix(0xd8, 0x3d, 0xd2, 0x84)},
		{name: "C13 tag 18 twice", want: denial.WrongType, brk: prefix(0xd2, 0xd2, 0x84)},
		{name: "C13 tag 18 in a longer form", want: denial.WrongType, brk: prefix(0xd8, 0x12, 0x84)},
		{name: "C13 self-described CBOR around it", want: denial.WrongType, brk: prefix(0xd9, 0xd9, 0xf7, 0xd2, 0x84)},
		{name: "C13 array of indefinite length", want: denial.WrongType, brk: prefix(0xd2, 0x9f)},
		{name: "C13 array of five", want: denial.WrongType, brk: prefix(0xd2, 0x85)},
		{name: "C15 COSE_Sign", want: denial.WrongType, brk: prefix(0xd8, 0x62, 0x84)},
		{name: "C15 COSE_Mac0", want: denial.WrongType, brk: prefix(0xd1, 0x84)},
		{name: "C15 COSE_Encrypt0", want: denial.WrongType, brk: prefix(0xd0, 0x83)},
		{name: "C14 payload nil", want: denial.PayloadForm, brk: item(nil)},
		{name: "C14 payload text", want: denial.PayloadForm, brk: item("text")},
		{name: "C14 payload a map", want: denial.PayloadForm, brk: item(map[int64]any{1: "x"})},
		{name: "C14 payload false", want: denial.PayloadForm, brk: item(false)},
		{name: "protected header a bare map", want: denial.WrongType, after: whole([]byte{0xd2, 0x84, 0xa1, 1, 0x26, 0xa0, 0x40, 0x40})},
		{name: "protected header an array", want: denial.WrongType, brk: func(p *parts) { p.protected = []byte{0x80} }},
		{name: "unprotected header an array", want: denial.WrongType, brk: func(p *parts) { p.unprotected = []byte{0x80} }},
		{name: "signature text", want: denial.WrongType, after: whole([]byte{0xd2, 0x84, 0x40, 0xa0, 0x40, 0x61, 'x'})},
		{name: "C37 no bytes", want: denial.WrongType, after: whole(nil)},
		{name: "C37 an empty byte string", want: denial.WrongType, after: whole([]byte{0x40})},
		{name: "C37 the tag alone", want: denial.WrongType, after: whole([]byte{0xd2})},
		{name: "C37 an empty array", want: denial.WrongType, after: whole([]byte{0xd2, 0x80})},
		{name: "C37 nothing behind the array head", want: denial.NotCanonical, after: whole([]byte{0xd2, 0x84})},
		{name: "C37 four empty parts", want: denial.AlgNotProtected, after: whole([]byte{0xd2, 0x84, 0x40, 0xa0, 0x40, 0x40})},
	}
}

func keyAttacks(t *testing.T) []attack {
	kids := map[string]any{"a path": []byte("../../x"), "a URL": []byte("https://attacker.example/key"), "SQL": []byte("' OR 1=1 --"),
		"empty": []byte{}, "text of 32 bytes": "0123456789abcdef0123456789abcdef", "32 zero bytes": make([]byte, 32), "an array": []int{1}}
	var list []attack
	for name, kid := range kids {
		list = append(list, attack{name: "C21 kid is " + name, want: denial.KeyUnknown, brk: set(labelKeyID, kid)})
	}
	other, _ := newSigner(t)
	return append(list,
		attack{name: "C21 kid missing", want: denial.KeyUnknown, brk: unset(labelKeyID)},
		attack{name: "C21 kid of another key", want: denial.KeyUnknown, brk: func(p *parts) {
			k, err := NewKey(&other.PublicKey)
			if err != nil {
				t.Fatal(err)
			}
			id := k.Thumbprint()
			p.labels[labelKeyID] = id[:]
		}},
		attack{name: "C39 another's signature and certificate beside a trusted kid", want: denial.SignatureInvalid, brk: func(p *parts) {
			p.unprotected = encode(t, map[int64]any{33: []byte("the attacker's certificate")})
			p.sign = func(tbs []byte) []byte { return rawSignature(t, other, tbs) }
		}},
		attack{name: "C38 signed in one encoding, sent in another", want: denial.SignatureInvalid, brk: func(p *parts) {
			sign := p.sign
			p.sign = func([]byte) []byte { // over a header with alg in a longer form
				longer := bytes.Replace(encode(t, p.labels), []byte{0x01, 0x26}, []byte{0x01, 0x38, 0x06}, 1)
				return sign(toBeSigned(longer, p.payload))
			}
		}},
	)
}
