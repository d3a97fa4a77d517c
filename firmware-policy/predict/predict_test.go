package predict

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/test/peimage"
)

// signer returns a certificate, and a WIN_CERTIFICATE whose SignedData has it. Prediction checks no signature: firmware does.
func signer(t *testing.T) (cert, table []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	if cert, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key); err != nil {
		t.Fatal(err)
	}
	wrap := func(class, tag int, content ...[]byte) []byte {
		raw, err := asn1.Marshal(asn1.RawValue{Class: class, Tag: tag, IsCompound: true, Bytes: bytes.Join(content, nil)})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	sequence := func(content ...[]byte) []byte { return wrap(asn1.ClassUniversal, asn1.TagSequence, content...) }
	set := wrap(asn1.ClassUniversal, asn1.TagSet)
	oid, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2})
	if err != nil {
		t.Fatal(err)
	}
	signed := sequence([]byte{2, 1, 1}, set, sequence(oid), wrap(asn1.ClassContextSpecific, 0, cert), set)
	der := sequence(oid, wrap(asn1.ClassContextSpecific, 0, signed))
	table = binary.LittleEndian.AppendUint32(nil, uint32(8+len(der)))
	table = append(append(table, 0, 2, 2, 0), der...)
	return cert, append(table, make([]byte, (8-len(table)%8)%8)...)
}

func unified(signature []byte) []byte { return peimage.Image(signature, peimage.Parts()...) }

// changed returns the sections of a unified image, one of them with other content.
func changed(name, content string) []peimage.Part {
	parts := peimage.Parts()
	for i := range parts {
		if parts[i].Name == name {
			parts[i].Content = content
		}
	}
	return parts
}

// keysFor returns variables whose db holds a certificate of a stranger and then the given one.
func keysFor(t *testing.T, cert []byte) Keys {
	t.Helper()
	stranger, _ := signer(t)
	list := SignatureList(CertX509, GUID{1}, cert)
	return Keys{Enabled: true, PK: list, KEK: list, DB: append(SignatureList(CertX509, GUID{2}, stranger), list...)}
}

func predicted(t *testing.T, raw []byte, k Keys) *Prediction {
	t.Helper()
	p, err := UKI(raw, k, "sha256")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// extends computes a PCR as a TPM would, from what is measured in plain.
func extends(texts ...string) string {
	var value [32]byte
	for _, text := range texts {
		d := sha256.Sum256([]byte(text))
		value = sha256.Sum256(append(value[:], d[:]...))
	}
	return hex.EncodeToString(value[:])
}

func TestPCRsOfAUnifiedImage(t *testing.T) {
	cert, table := signer(t)
	p := predicted(t, unified(table), keysFor(t, cert))
	kernel := string(peimage.Image(nil, peimage.Part{Name: ".text", Content: "kernel"}))
	if want := extends(".linux\x00", kernel, ".osrel\x00", "ID=test\n", ".cmdline\x00", "quiet", ".initrd\x00", "the initrd"); p.PCR[11] != want {
		t.Errorf("PCR 11 = %s, want %s", p.PCR[11], want)
	}
	if want := extends("q\x00u\x00i\x00e\x00t\x00\x00\x00", "the initrd"); p.PCR[9] != want {
		t.Errorf("PCR 9 = %s, want %s", p.PCR[9], want)
	}
	if len(p.BootApps) != 1 || p.Authority == "" || !p.Proven {
		t.Errorf("got %+v, want one program, the key in db, and a version that was proven", p)
	}
}

func TestSecureBootOffMeasuresTheKernelToo(t *testing.T) {
	p := predicted(t, unified(nil), Keys{})
	if len(p.BootApps) != 2 || p.Authority != "" {
		t.Errorf("got %v and %q, want two programs and no key", p.BootApps, p.Authority)
	}
}

func TestSignatureIsNotPartOfTheDigest(t *testing.T) {
	_, table := signer(t)
	a, err := ParseImage(unified(nil))
	if err != nil {
		t.Fatal(err)
	}
	b, err := ParseImage(unified(table))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Authenticode(crypto.SHA256), b.Authenticode(crypto.SHA256)) {
		t.Error("signing an image changes its digest")
	}
}

func TestEveryPartIsInItsPCR(t *testing.T) {
	cert, table := signer(t)
	keys := keysFor(t, cert)
	good := predicted(t, unified(table), keys)
	for _, c := range []struct {
		name  string
		parts []peimage.Part
		keys  func(*Keys)
		moves string
	}{
		{"command line", changed(".cmdline", "debug"), nil, "4 9 11"},
		{"os-release", changed(".osrel", "ID=older"), nil, "4 11"},
		{"dbx", nil, func(k *Keys) { k.DBX = SignatureList(CertSHA256, GUID{}, make([]byte, 32)) }, "7"},
		{"PK", nil, func(k *Keys) { k.PK = SignatureList(CertX509, GUID{9}, cert) }, "7"},
	} {
		raw, k := unified(table), keys
		if c.parts != nil {
			raw = peimage.Image(table, c.parts...)
		}
		if c.keys != nil {
			c.keys(&k)
		}
		p := predicted(t, raw, k)
		var moved []string
		for _, n := range []int64{4, 7, 9, 11} {
			if p.PCR[n] != good.PCR[n] {
				moved = append(moved, map[int64]string{4: "4", 7: "7", 9: "9", 11: "11"}[n])
			}
		}
		if got := strings.Join(moved, " "); got != c.moves {
			t.Errorf("%s: PCRs %s moved, want %s", c.name, got, c.moves)
		}
	}
}

func TestWhatCannotBootIsNotPredicted(t *testing.T) {
	cert, table := signer(t)
	_, other := signer(t)
	long := unified(table)
	for name, c := range map[string]struct {
		raw  []byte
		keys Keys
		bank string
	}{
		"no image":                     {[]byte("MZ"), Keys{}, "sha256"},
		"no unified image":             {peimage.Image(nil, peimage.Part{Name: ".text", Content: "x"}), Keys{}, "sha256"},
		"no version of systemd-stub":   {peimage.Image(nil, peimage.Part{Name: ".linux", Content: string(peimage.Image(nil, peimage.Part{Name: ".text", Content: "kernel"}))}), Keys{}, "sha256"},
		"not signed":                   {unified(nil), keysFor(t, cert), "sha256"},
		"signed with a key not in db":  {unified(other), keysFor(t, cert), "sha256"},
		"signature cut short":          {long[:len(long)-8], keysFor(t, cert), "sha256"},
		"bytes behind the signature":   {append(bytes.Clone(long), 0), keysFor(t, cert), "sha256"},
		"db is no signature list":      {unified(table), Keys{Enabled: true, DB: []byte("x")}, "sha256"},
		"SHA-1":                        {unified(nil), Keys{}, "sha1"},
		"a signature that is no PKCS7": {unified([]byte{16, 0, 0, 0, 0, 2, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8}), Keys{}, "sha256"},
	} {
		if p, err := UKI(c.raw, c.keys, c.bank); err == nil {
			t.Errorf("%s: predicted %v", name, p.PCR)
		}
	}
}

func TestSignatureListsAreReadToTheLastByte(t *testing.T) {
	good := append(SignatureList(CertSHA256, GUID{1}, make([]byte, 32), make([]byte, 32)), SignatureList(CertX509, GUID{2}, []byte("der"))...)
	got, err := ParseSignatureLists(good)
	if err != nil || len(got) != 3 || string(got[2].content()) != "der" {
		t.Fatalf("got %v, %v", got, err)
	}
	for n := 1; n < len(good); n++ {
		if n == 28+2*48 {
			continue // the end of the first list
		}
		if _, err := ParseSignatureLists(good[:n]); err == nil {
			t.Errorf("%d of %d bytes pass", n, len(good))
		}
	}
}

func FuzzUKI(f *testing.F) {
	f.Add(unified(nil))
	f.Add(unified([]byte{16, 0, 0, 0, 0, 2, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if p, err := UKI(raw, Keys{}, "sha256"); err == nil && len(p.PCR) != 4 {
			t.Errorf("predicted %d PCRs", len(p.PCR))
		}
	})
}

func FuzzParseSignatureLists(f *testing.F) {
	f.Add(SignatureList(CertX509, GUID{1}, []byte("der")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := ParseSignatureLists(raw)
		total := 0
		for _, s := range list {
			total += len(s.Data)
		}
		if err == nil && total > len(raw) {
			t.Error("more bytes came out than went in")
		}
	})
}
