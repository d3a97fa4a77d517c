package statement

import (
	"bytes"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/governed-execution/writ/denial"
)

func TestReceiptsStandBesideTheStatement(t *testing.T) {
	_, s := newSigner(t)
	leaf := mustSign(t, s, Artifact, []byte{0xa0})
	if r, err := mustDecode(t, leaf).Receipts(); r != nil || err != nil {
		t.Errorf("got %x, %v", r, err)
	}
	want := [][]byte{{1, 2}, bytes.Repeat([]byte{3}, 300)}
	raw, err := Attach(leaf, want...)
	if err != nil {
		t.Fatal(err)
	}
	v, err := verifyArtifact(raw, trust(t, s.Key(), Artifact))
	if err != nil {
		t.Fatal(err)
	}
	got, err := v.env.Receipts()
	if err != nil || len(got) != 2 || !bytes.Equal(got[0], want[0]) || !bytes.Equal(got[1], want[1]) {
		t.Errorf("got %x, %v", got, err)
	}
	if !bytes.Equal(v.Leaf(), leaf) || v.Digest() != DigestOf(leaf) {
		t.Error("the receipts changed the leaf")
	}
	again, err := Attach(raw, want[0])
	if err != nil {
		t.Fatal(err)
	}
	if got, err := mustDecode(t, again).Receipts(); err != nil || len(got) != 1 {
		t.Errorf("attached to a transparent statement: %x, %v", got, err)
	}
	if _, err := Attach([]byte{0x80}, want[0]); err == nil {
		t.Error("attached to what is no statement")
	}
	none, err := Attach(leaf)
	if err != nil {
		t.Fatal(err)
	}
	_, err = mustDecode(t, none).Receipts()
	wantDenial(t, err, denial.ReceiptInvalid)
}

func TestMalformedReceiptsAreRefused(t *testing.T) {
	_, s := newSigner(t)
	for name, value := range map[string]any{
		"one byte string": []byte{1}, "empty array": []any{}, "text": []any{"receipt"}, "null": nil, "numbers": []any{[]int{1, 2}},
		"null in the array": []any{nil}, "an empty receipt": []any{[]byte{}}, "a map": map[int]any{1: []byte{1}},
	} {
		p := artifactParts(t, s)
		p.unprotected = encode(t, map[int64]any{labelReceipts: value})
		_, err := mustDecode(t, p.build(t)).Receipts()
		if !denial.Is(err, denial.ReceiptInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAReceiptCarriesItsProofs(t *testing.T) {
	_, s := newSigner(t)
	root := DigestOf([]byte("root"))
	head := mustSign(t, s, Receipt, root[:])
	proofs := encode(t, map[int64]any{-1: [][]byte{{0x80}}})
	raw, err := WithProofs(head, proofs)
	if err != nil {
		t.Fatal(err)
	}
	e := mustDecode(t, raw)
	if !bytes.Equal(e.Proofs(), proofs) || !bytes.Equal(e.Leaf(), head) || e.Payload() != nil {
		t.Errorf("got %x", e.Proofs())
	}
	if _, err := e.VerifyDetached(trust(t, s.Key(), Receipt), Receipt, root[:]); err != nil {
		t.Error(err)
	}
	if _, err := WithProofs(head, []byte{0xa1}); err == nil {
		t.Error("proofs that are not CBOR are accepted")
	}
}

func TestDetachedPayloads(t *testing.T) {
	_, s := newSigner(t)
	keys := trust(t, s.Key(), Receipt, Artifact)
	root := DigestOf([]byte("root"))
	head := mustDecode(t, mustSign(t, s, Receipt, root[:]))
	artifact := mustDecode(t, mustSign(t, s, Artifact, root[:]))
	other := DigestOf([]byte("another root"))

	_, err := head.VerifyDetached(keys, Receipt, other[:])
	wantDenial(t, err, denial.SignatureInvalid)
	_, err = head.VerifyDetached(keys, Receipt, nil)
	wantDenial(t, err, denial.PayloadForm)
	_, err = head.VerifyDetached(keys, Receipt, []byte{})
	wantDenial(t, err, denial.SignatureInvalid)
	_, err = head.Verify(keys, Receipt)
	wantDenial(t, err, denial.PayloadForm)
	_, err = artifact.VerifyDetached(keys, Artifact, root[:]) // embedded, and given besides
	wantDenial(t, err, denial.PayloadForm)

	p := artifactParts(t, s) // a receipt with its payload embedded, and an artifact with its payload detached
	p.labels[labelType], p.labels[labelVDS] = Receipt.MediaType(), 1
	_, err = mustDecode(t, p.build(t)).Verify(keys, Receipt)
	wantDenial(t, err, denial.PayloadForm)
	p = artifactParts(t, s)
	p.payloadItem = []byte{0xf6}
	_, err = mustDecode(t, p.build(t)).VerifyDetached(keys, Artifact, p.payload)
	wantDenial(t, err, denial.PayloadForm)
}

// TestEveryLabelOfAKindIsNeeded removes and changes each label that a kind has beyond those of all.
func TestEveryLabelOfAKindIsNeeded(t *testing.T) {
	_, s := newSigner(t)
	for _, kind := range Kinds() {
		f := kind.form()
		labels := func() map[int64]any {
			p := artifactParts(t, s)
			p.labels[labelType] = f.typ
			for label, value := range map[int64]any{labelContent: f.content, labelVDS: f.vds, labelPreimage: f.preimage, labelHashAlg: f.hashAlg()} {
				if value != "" && value != int64(0) {
					p.labels[label] = value
				}
			}
			return p.labels
		}
		verify := func(m map[int64]any) error {
			p := artifactParts(t, s)
			p.labels = m
			if f.detached {
				p.payloadItem = []byte{0xf6}
				_, err := mustDecode(t, p.build(t)).VerifyDetached(trust(t, s.Key(), kind), kind, p.payload)
				return err
			}
			_, err := mustDecode(t, p.build(t)).Verify(trust(t, s.Key(), kind), kind)
			return err
		}
		if err := verify(labels()); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		for _, label := range []int64{labelType, labelContent, labelVDS, labelPreimage, labelHashAlg} {
			m := labels()
			_, had := m[label]
			if had {
				delete(m, label)
				wantDenial(t, verify(m), denial.WrongType)
			}
			for _, value := range []any{"application/other", 2, -43, []byte("x")} {
				m[label] = value
				wantDenial(t, verify(m), denial.WrongType)
			}
		}
	}
}

func TestLimitsOfHeadersAreExact(t *testing.T) {
	_, s := newSigner(t)
	keys := trust(t, s.Key(), Artifact)
	p := artifactParts(t, s)
	p.labels[labelClaims] = map[int64]any{1: "i", 2: "s", 6: maxTime}
	m := map[int64]any{}
	for i := range int64(MaxMap) {
		m[1000+i] = 0
	}
	p.unprotected = encode(t, m)
	v, err := verifyArtifact(p.build(t), keys)
	if err != nil || v.Claims().IssuedAt != maxTime {
		t.Errorf("got %+v, %v", v, err)
	}
	for item, want := range map[string]int64{"00": 0, "20": -1, "1b7fffffffffffffff": math.MaxInt64, "3b7fffffffffffffff": math.MinInt64} {
		if got, ok := integer(unhex(t, item)); !ok || got != want {
			t.Errorf("%s: got %d, %v", item, got, ok)
		}
	}
	for _, item := range []string{"1b8000000000000000", "3b8000000000000000", "40", "f6", ""} {
		if got, ok := integer(unhex(t, item)); ok {
			t.Errorf("%s: got %d", item, got)
		}
	}
}

func TestTheZeroValuesAreRefused(t *testing.T) {
	_, s := newSigner(t)
	_, err := new(Envelope).Verify(trust(t, s.Key(), Artifact), Artifact)
	wantDenial(t, err, denial.AlgNotProtected)
	_, err = mustDecode(t, mustSign(t, s, Artifact, []byte{0xa0})).Verify(Keys{}, Artifact)
	wantDenial(t, err, denial.KeyUnknown)
	var v Verified
	if v.Payload() != nil || v.Key().Valid() || v.Kind() != 0 || v.Claims() != (Claims{}) || v.Leaf() != nil {
		t.Errorf("the zero Verified says %+v", v)
	}
	var out any
	if err := v.Unmarshal(&out); err == nil {
		t.Error("the zero Verified has a payload")
	}
	var keys Keys
	if keys.Has(s.Key().Thumbprint(), Artifact) || keys.Has(Thumbprint{}, 0) {
		t.Error("the zero Keys trusts somebody")
	}
	if Kind(0).String() != "unknown kind" || kinds.String() != "unknown kind" || Kind(0).MediaType() != "" {
		t.Error("the zero kind has a name")
	}
}

func TestAnEnvelopeIsACopy(t *testing.T) {
	_, s := newSigner(t)
	leaf := mustSign(t, s, Artifact, []byte{0xa1, 0x01, 0x01})
	want := bytes.Clone(leaf)
	raw, err := Attach(leaf, []byte("receipt"))
	if err != nil {
		t.Fatal(err)
	}
	e := mustDecode(t, raw)
	clear(raw)
	if r, err := e.Receipts(); err != nil || len(r) != 1 || string(r[0]) != "receipt" {
		t.Errorf("the receipts changed with their source: %q, %v", r, err)
	}
	clear(e.Leaf())
	clear(e.Payload())
	v, err := e.Verify(trust(t, s.Key(), Artifact), Artifact)
	if err != nil {
		t.Fatal(err)
	}
	clear(v.Payload())
	if !bytes.Equal(v.Leaf(), want) || !bytes.Equal(v.Payload(), []byte{0xa1, 0x01, 0x01}) {
		t.Error("the envelope changed with its source")
	}
}

func TestOpeningsStandBesideTheAct(t *testing.T) {
	_, s := newSigner(t)
	leaf := mustSign(t, s, Enrolment, []byte{0xa0})
	if o, err := mustDecode(t, leaf).Openings(); o != nil || err != nil {
		t.Errorf("none: got %x, %v", o, err)
	}
	want := [][]byte{[]byte("salt and value"), {}}
	raw, err := WithOpenings(leaf, want)
	if err != nil {
		t.Fatal(err)
	}
	e := mustDecode(t, raw)
	if got, err := e.Openings(); err != nil || !reflect.DeepEqual(got, want) || !bytes.Equal(e.Leaf(), leaf) {
		t.Errorf("got %q, %v", got, err)
	}
	p := artifactParts(t, s)
	p.unprotected = encode(t, map[int64]any{labelOpenings: "text"})
	_, err = mustDecode(t, p.build(t)).Openings()
	wantDenial(t, err, denial.PayloadForm)
}

// The numbers are those of the COSE registry, RFC 9942, RFC 9995 and RFC 9596; the last is Writ's own.
func TestTheLabelsAreTheRegisteredOnes(t *testing.T) {
	for name, c := range map[string][2]int64{
		"alg": {labelAlg, 1}, "crit": {labelCrit, 2}, "content type": {labelContent, 3}, "kid": {labelKeyID, 4}, "CWT claims": {labelClaims, 15},
		"typ": {labelType, 16}, "payload-hash-alg": {labelHashAlg, 258}, "preimage content type": {labelPreimage, 259},
		"receipts": {labelReceipts, 394}, "vds": {labelVDS, 395}, "vdp": {labelProofs, 396}, "openings": {labelOpenings, -90010},
	} {
		if c[0] != c[1] {
			t.Errorf("%s is %d, want %d", name, c[0], c[1])
		}
	}
}

// Labels that are not integers are refused in the protected header, and ignored in the other: they are never the same label.
func TestTextLabelsInBothHeaders(t *testing.T) {
	_, s := newSigner(t)
	p := artifactParts(t, s)
	labels := map[any]any{"x": 1}
	for k, v := range p.labels {
		labels[k] = v
	}
	p.protected, p.unprotected = encode(t, labels), encode(t, map[string]any{"y": 1})
	_, err := mustDecode(t, p.build(t)).Verify(trust(t, s.Key(), Artifact), Artifact)
	wantDenial(t, err, denial.CritUnknown)
}

func TestAPayloadOfAnotherTypeIsNotDecoded(t *testing.T) {
	for _, payload := range [][]byte{{0x61, 'x'}, {0xa0}, {0xf4}, {0x01}} {
		_, err := Decode(slices.Concat([]byte{0xd2, 0x84, 0x40, 0xa0}, payload, []byte{0x40}), 100)
		wantDenial(t, err, denial.PayloadForm)
	}
}

func TestAKidThatIsNoThumbprintIsNone(t *testing.T) {
	_, s := newSigner(t)
	for name, kid := range map[string]any{"text": "0123456789abcdef0123456789abcdef", "short": make([]byte, 31), "long": make([]byte, 33), "null": nil} {
		p := artifactParts(t, s)
		p.labels[labelKeyID] = kid
		if id, ok := mustDecode(t, p.build(t)).KeyID(); ok || id != (Thumbprint{}) {
			t.Errorf("%s: got %s, %v", name, id, ok)
		}
	}
}

func TestAStatementWithoutATypeIsOfNoKind(t *testing.T) {
	_, s := newSigner(t)
	p := artifactParts(t, s)
	delete(p.labels, labelType)
	e := mustDecode(t, p.build(t))
	for _, kind := range []Kind{0, kinds, Checkpoint} {
		_, err := e.Verify(trust(t, s.Key(), kind), kind)
		wantDenial(t, err, denial.WrongType)
	}
	if k := e.Kind(); k != 0 {
		t.Errorf("it is a %s", k)
	}
}

func TestEveryKindHasAName(t *testing.T) {
	seen := map[string]bool{"": true, "unknown kind": true}
	for _, k := range append(Kinds(), Checkpoint) {
		if seen[k.String()] {
			t.Errorf("kind %d is called %q, as another", k, k)
		}
		seen[k.String()] = true
	}
	if Artifact.String() != "artifact" || Checkpoint.String() != "checkpoint" {
		t.Errorf("got %s, %s", Artifact, Checkpoint)
	}
}
