package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"

	"github.com/governed-execution/writ/denial"
)

func TestPartsOfEvidenceAtTheirEdges(t *testing.T) {
	t.Parallel()
	part := []byte{1}
	parts := EvidenceParts{Quote: part, Signature: part, Bank: "sha256", PCRs: map[int64][]byte{0: make([]byte, 32)}, AK: part, CNF: part,
		Certify: Certification{Attest: part, Signature: part}, BootLog: part}
	for name, row := range map[string]struct {
		edit func(*EvidenceParts)
		want denial.Reason
	}{
		"good":                          {func(*EvidenceParts) {}, 0},
		"a log of the system":           {func(p *EvidenceParts) { p.OSLog = part }, 0},
		"the longest log of the system": {func(p *EvidenceParts) { p.OSLog = make([]byte, MaxOSLog) }, 0},
		"a longer one":                  {func(p *EvidenceParts) { p.OSLog = make([]byte, MaxOSLog+1) }, denial.RequestLimit},
		"an empty one":                  {func(p *EvidenceParts) { p.OSLog = []byte{} }, denial.NoEvidence},
		"the longest boot log":          {func(p *EvidenceParts) { p.BootLog = make([]byte, MaxBootLog) }, 0},
		"a longer boot log":             {func(p *EvidenceParts) { p.BootLog = make([]byte, MaxBootLog+1) }, denial.RequestLimit},
		"the longest list":              {func(p *EvidenceParts) { p.IMALog = make([]byte, MaxIMALog) }, 0},
		"a longer list":                 {func(p *EvidenceParts) { p.IMALog = make([]byte, MaxIMALog+1) }, denial.RequestLimit},
		"the longest part":              {func(p *EvidenceParts) { p.CNF = make([]byte, maxPart) }, 0},
		"a longer part":                 {func(p *EvidenceParts) { p.CNF = make([]byte, maxPart+1) }, denial.StructureLimit},
		"no quote":                      {func(p *EvidenceParts) { p.Quote = nil }, denial.QuoteMalformed},
		"an empty quote":                {func(p *EvidenceParts) { p.Quote = []byte{} }, denial.QuoteMalformed},
		"an empty cnf key":              {func(p *EvidenceParts) { p.CNF = []byte{} }, denial.QuoteMalformed},
	} {
		p := parts
		row.edit(&p)
		raw, err := p.Encode()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ev, err := DecodeEvidence(raw)
		switch {
		case row.want != 0 && (ev != nil || !denial.Is(err, row.want)):
			t.Errorf("%s: got %v, want %d", name, err, row.want)
		case row.want == 0 && (err != nil || !bytes.Equal(ev.Parts().OSLog, p.OSLog) || !bytes.Equal(ev.Parts().IMALog, p.IMALog)):
			t.Errorf("%s: got %v", name, err)
		}
	}
	if ev, err := DecodeEvidence(nil); ev != nil || !denial.Is(err, denial.NoEvidence) {
		t.Errorf("nothing: got %v", err)
	}
	for alg, want := range map[int64]string{coseSHA1: "sha1", coseSHA256: "sha256", coseSHA384: "sha384", coseSHA512: "sha512"} {
		ev := &Evidence{tpm: tpm2Evidence{Banks: []bankValues{{Alg: alg}}, Challenge: make([]byte, 32)}}
		if got := ev.Parts().Bank; got != want {
			t.Errorf("%d: got %q, want %q", alg, got, want)
		}
	}
	if _, err := (&EnrolRequest{EK: part}).EKDigest(); err == nil {
		t.Error("an EK that is none has a digest")
	}
	if n, err := (&Evidence{tpm: tpm2Evidence{Challenge: part}}).Challenge(); n != (Nonce{}) || !denial.Is(err, denial.NoChallenge) {
		t.Errorf("a short challenge: got %v", err)
	}
	good := bytes.Repeat([]byte{7}, 32)
	if n, err := (&Evidence{tpm: tpm2Evidence{Challenge: good}}).Challenge(); err != nil || !bytes.Equal(n[:], good) {
		t.Errorf("a challenge: got %x, %v", n, err)
	}
}

func TestNamesOfIMAAtTheirEdges(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"a": "a", "é": "é", "\n": `\x0a`, "é\n": `é\x0a`, "\xff": `\xff`, "\ufffd": "\ufffd", "\ufffd\n": "\ufffd" + `\x0a`, `\`: `\x5c`, "é\xff": `é\xff`, "": ""} {
		if got := imaText([]byte(in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	with, err := IMAReference{Keys: [][]byte{der}}.Digest()
	without, again := IMAReference{}.Digest()
	if err != nil || again != nil || with == without {
		t.Errorf("keys do not count: %v, %v", err, again)
	}
}

// san makes the alternative name of an EK certificate, with these attributes in a directory name.
func san(t *testing.T, attributes ...pkix.AttributeTypeAndValue) pkix.Extension {
	t.Helper()
	var sequence pkix.RDNSequence
	for _, a := range attributes {
		sequence = append(sequence, pkix.RelativeDistinguishedNameSET{a})
	}
	inner, err := asn1.Marshal(sequence)
	if err != nil {
		t.Fatal(err)
	}
	outer, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: inner}})
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: oidSAN, Value: outer}
}

func TestDeviceOfACertificateAtItsEdges(t *testing.T) {
	t.Parallel()
	maker, model, version := pkix.AttributeTypeAndValue{Type: oidManufacturer, Value: "id:494E5443"}, pkix.AttributeTypeAndValue{Type: oidModel, Value: "m"},
		pkix.AttributeTypeAndValue{Type: oidVersion, Value: "id:1"}
	other := san(t, maker, model, version)
	other.Id = oidSubjectAttributes
	for name, row := range map[string]struct {
		extensions []pkix.Extension
		want       bool
	}{
		"good":                   {[]pkix.Extension{san(t, maker, model, version)}, true},
		"in two names":           {[]pkix.Extension{san(t, maker, model), san(t, version)}, true},
		"an attribute more":      {[]pkix.Extension{san(t, maker, model, version, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{1, 2}, Value: "x"})}, true},
		"another extension":      {[]pkix.Extension{other}, false},
		"another extension more": {[]pkix.Extension{other, san(t, maker, model, version)}, true},
		"no manufacturer":        {[]pkix.Extension{san(t, model, version)}, false},
		"no model":               {[]pkix.Extension{san(t, maker, version)}, false},
		"no version":             {[]pkix.Extension{san(t, maker, model)}, false},
		"an empty model first":   {[]pkix.Extension{san(t, maker, pkix.AttributeTypeAndValue{Type: oidModel, Value: ""}, model, version)}, false},
		"a model twice":          {[]pkix.Extension{san(t, maker, model, model, version)}, false},
	} {
		leaf := &x509.Certificate{SerialNumber: big.NewInt(5), Extensions: row.extensions}
		if d, ok := deviceOf(leaf); ok != row.want || ok && (d.Model != "m" || d.Serial != "5") {
			t.Errorf("%s: got %+v, %t", name, d, ok)
		}
	}
	attribute, err := asn1.Marshal([]struct {
		Type   asn1.ObjectIdentifier
		Values []string `asn1:"set"`
	}{{oidModel, []string{"2.0"}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		value []byte
		want  bool
	}{"one": {attribute, true}, "none": {[]byte{0x30, 0}, false}, "a byte behind": {append(slices.Clone(attribute), 0), false}, "no sequence": {[]byte{4, 0}, false}} {
		leaf := &x509.Certificate{Extensions: []pkix.Extension{san(t), {Id: oidSubjectAttributes, Value: row.value}}}
		if readableAttributes(leaf) != row.want {
			t.Errorf("%s: readable %t", name, !row.want)
		}
	}
}

func TestRecordsOfTheSystemAreExplained(t *testing.T) {
	t.Parallel()
	sum := func(h crypto.Hash) []byte { d := h.New(); d.Write([]byte("ready")); return d.Sum(nil) }
	for name, row := range map[string]struct {
		e           osEvent
		description string
		covered     bool
	}{
		"good":            {osEvent{pcr: 11, text: "ready", digests: map[string][]byte{"sha256": sum(crypto.SHA256), "sha384": sum(crypto.SHA384)}}, `"ready"`, true},
		"another digest":  {osEvent{text: "ready", digests: map[string][]byte{"sha256": sum(crypto.SHA256), "sha384": sum(crypto.SHA256)}}, `"ready"`, false},
		"SHA-1 alone":     {osEvent{text: "ready", digests: map[string][]byte{"sha1": make([]byte, 20)}}, `"ready"`, false},
		"SHA-1 beside it": {osEvent{text: "ready", digests: map[string][]byte{"sha1": make([]byte, 20), "sha256": sum(crypto.SHA256)}}, `"ready"`, true},
		"no digest":       {osEvent{text: "ready"}, `"ready"`, false},
		"no text":         {osEvent{digests: map[string][]byte{"sha256": crypto.SHA256.New().Sum(nil)}}, "something without a text", false},
	} {
		got := row.e.explain(4)
		if got.Number != 5 || got.PCR != int(row.e.pcr) || got.Description != row.description || got.Covered != row.covered || len(got.Digests) != len(row.e.digests) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}
