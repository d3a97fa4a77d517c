package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
)

// modulus makes an RSA key whose modulus has so many bits. Nobody has a private key for it.
func modulus(bits uint, odd int64, e int) *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(odd)), E: e}
}

func curve(c elliptic.Curve) *ecdsa.PublicKey { return &ecdsa.PublicKey{Curve: c} }

func TestKeysAtTheirEdges(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		key        crypto.PublicKey
		strong, ca bool
	}{
		"RSA 2047": {modulus(2047, 1, 65537), false, false}, "RSA 2048": {modulus(2048, 1, 65537), true, true},
		"RSA 4096": {modulus(4096, 1, 65537), true, true}, "RSA 4097": {modulus(4097, 1, 65537), false, true},
		"RSA 8192": {modulus(8192, 1, 65537), false, true}, "RSA 8193": {modulus(8193, 1, 65537), false, false},
		"exponent 3": {modulus(2048, 1, 3), false, true}, "even": {modulus(2048, 0, 65537), false, true},
		"P-224": {curve(elliptic.P224()), false, false}, "P-256": {curve(elliptic.P256()), true, true},
		"P-384": {curve(elliptic.P384()), true, true}, "P-521": {curve(elliptic.P521()), false, true},
		"Ed25519": {ed25519.PublicKey(make([]byte, 32)), false, false}, "none": {nil, false, false},
	} {
		if got := strongKey(row.key); got != row.strong {
			t.Errorf("%s: strong %t, want %t", name, got, row.strong)
		}
		if got := weakCA(&x509.Certificate{PublicKey: row.key}); got == row.ca {
			t.Errorf("%s: weak for a CA %t, want %t", name, got, !row.ca)
		}
	}
}

func TestObjectionsToCA(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	good := x509.Certificate{PublicKey: curve(elliptic.P256()), NotBefore: noon, NotAfter: noon.Add(time.Hour), SignatureAlgorithm: x509.ECDSAWithSHA256}
	for name, row := range map[string]struct {
		edit func(*x509.Certificate)
		root bool
		now  time.Time
		want string
	}{
		"good":            {func(*x509.Certificate) {}, false, noon, ""},
		"last second":     {func(*x509.Certificate) {}, false, noon.Add(time.Hour), ""},
		"early":           {func(*x509.Certificate) {}, false, noon.Add(-time.Second), "not valid yet"},
		"late":            {func(*x509.Certificate) {}, false, noon.Add(time.Hour + time.Second), "expired"},
		"weak":            {func(c *x509.Certificate) { c.PublicKey = curve(elliptic.P224()) }, true, noon, "its key is too weak, too long, or of an unknown kind"},
		"SHA-1":           {func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA }, false, noon, "signed with a broken hash"},
		"SHA-1 of a root": {func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA }, true, noon, ""},
		"MD5":             {func(c *x509.Certificate) { c.SignatureAlgorithm = x509.MD5WithRSA }, false, noon, "signed with a broken hash"},
	} {
		ca := good
		row.edit(&ca)
		if got := strings.Join(Objections(&ca, row.root, row.now), "; "); got != row.want {
			t.Errorf("%s: got %q, want %q", name, got, row.want)
		}
	}
}

// Each row is a signature with SHA-1 that counts, with one thing broken. sha1Excepted then decides by the certificate.
func TestSignatureWithSHA1AtItsEdges(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	digest := sha1.Sum([]byte("tbs"))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA1, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	constraints := []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 30}}}
	type pair struct{ cert, root *x509.Certificate }
	for name, row := range map[string]struct {
		edit func(pair)
		now  time.Duration
		want bool
	}{
		"good":                     {func(pair) {}, 0, true},
		"last second":              {func(pair) {}, time.Hour, true},
		"root early":               {func(pair) {}, -time.Second, false},
		"root late":                {func(pair) {}, time.Hour + time.Second, false},
		"use not named":            {func(p pair) { p.root.KeyUsage = 0 }, 0, true},
		"SHA-256":                  {func(p pair) { p.cert.SignatureAlgorithm = x509.SHA256WithRSA }, 0, false},
		"another issuer":           {func(p pair) { p.cert.RawIssuer = []byte("other") }, 0, false},
		"root constrains names":    {func(p pair) { p.root.Extensions = constraints }, 0, false},
		"cert constrains names":    {func(p pair) { p.cert.Extensions = constraints }, 0, false},
		"root of depth 1":          {func(p pair) { p.root.MaxPathLen = 1 }, 0, true},
		"root of the same depth":   {func(p pair) { p.root.MaxPathLen, p.cert.MaxPathLen = 1, 1 }, 0, false},
		"root of depth 0":          {func(p pair) { p.root.MaxPathLen = 0 }, 0, false},
		"cert of any depth":        {func(p pair) { p.root.MaxPathLen, p.cert.MaxPathLen = 1, -1 }, 0, false},
		"both of any depth":        {func(p pair) { p.cert.MaxPathLen = -1 }, 0, true},
		"root is no CA":            {func(p pair) { p.root.IsCA = false }, 0, false},
		"root signs lists only":    {func(p pair) { p.root.KeyUsage = x509.KeyUsageCRLSign }, 0, false},
		"root has an unknown rule": {func(p pair) { p.root.UnhandledCriticalExtensions = []asn1.ObjectIdentifier{{1, 2}} }, 0, false},
		"root of another key":      {func(p pair) { p.root.PublicKey = modulus(2048, 1, 65537) }, 0, false},
		"root of another kind":     {func(p pair) { p.root.PublicKey = curve(elliptic.P256()) }, 0, false},
		"another content":          {func(p pair) { p.cert.RawTBSCertificate = []byte("TBS") }, 0, false},
	} {
		p := pair{&x509.Certificate{SignatureAlgorithm: x509.SHA1WithRSA, RawIssuer: []byte("root"), RawTBSCertificate: []byte("tbs"), Signature: signature},
			&x509.Certificate{RawSubject: []byte("root"), IsCA: true, KeyUsage: x509.KeyUsageCertSign, MaxPathLen: -1, PublicKey: &key.PublicKey,
				NotBefore: noon, NotAfter: noon.Add(time.Hour)}}
		row.edit(p)
		if got := signedWithSHA1(p.cert, p.root, noon.Add(row.now)); got != row.want {
			t.Errorf("%s: got %t, want %t", name, got, row.want)
		}
	}
}

func TestPCRsAtTheirEdges(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		pcrs []int
		want bool
	}{{nil, false}, {[]int{0}, true}, {[]int{23}, true}, {[]int{24}, false}, {[]int{-1}, false}, {[]int{0, 1}, true},
		{[]int{1, 1}, false}, {[]int{1, 0}, false}, {[]int{0, 1, 1}, false}, {[]int{0, 2, 1}, false}} {
		if got := ascending(row.pcrs); got != row.want {
			t.Errorf("%v: got %t", row.pcrs, got)
		}
	}
	bind := Selection{Bank: "sha256", PCRs: []int{4, 7}}
	values := map[int64][]byte{4: make([]byte, 32), 7: make([]byte, 32)}
	if got, err := CNFPolicy(bind, values); err != nil || len(got) != 32 {
		t.Errorf("got %x, %v", got, err)
	}
	if got, err := CNFPolicy(bind, map[int64][]byte{4: values[4]}); got != nil || !denial.Is(err, denial.RequiredPCRAbsent) {
		t.Errorf("a value is missing: got %x, %v", got, err)
	}
	if got, err := CNFPolicy(Selection{Bank: "sha1", PCRs: []int{4}}, values); got != nil || !denial.Is(err, denial.Internal) {
		t.Errorf("SHA-1: got %x, %v", got, err)
	}
	for _, row := range []struct {
		alg, pcr int64
		size     int
		good     bool
	}{{coseSHA1, 0, 20, true}, {coseSHA256, 23, 32, true}, {coseSHA384, 1, 48, true}, {coseSHA512, 1, 64, true}, {coseSHA256, 24, 32, false},
		{coseSHA256, -1, 32, false}, {coseSHA256, 0, 31, false}, {coseSHA256, 0, 33, false}, {-15, 0, 32, false}, {-15, 0, 0, false}} {
		err := bankValues{Alg: row.alg, Values: map[int64][]byte{row.pcr: make([]byte, row.size)}}.check()
		if row.good && err != nil || !row.good && !denial.Is(err, denial.QuoteMalformed) {
			t.Errorf("%+v: got %v", row, err)
		}
	}
	if err := (bankValues{Alg: -15}).check(); !denial.Is(err, denial.QuoteMalformed) {
		t.Errorf("an unknown bank without values: got %v", err)
	}
	l := &EventLog{log: &bootLog{events: []logEvent{{pcr: 0, kind: evIPL}, {pcr: 3, kind: evNoAction}, {pcr: 23, kind: evIPL}, {pcr: pcrCount, kind: evIPL}}}}
	for pcr, want := range map[int64]bool{0: true, 23: true, 3: false, 1: false, -1: false, pcrCount: false, 1 << 32: false} {
		if l.Covers(pcr) != want {
			t.Errorf("PCR %d: covered %t", pcr, !want)
		}
	}
}

func TestStartupLocalityOfALog(t *testing.T) {
	t.Parallel()
	data := []byte(startupLocality + "\x03")
	for name, row := range map[string]struct {
		events []logEvent
		want   byte
		ok     bool
	}{
		"none": {nil, 0, false}, "first": {[]logEvent{{0, evNoAction, data}}, 3, true},
		"second": {[]logEvent{{0, evNoAction, []byte("x")}, {0, evNoAction, data}}, 3, true},
		"PCR 1":  {[]logEvent{{1, evNoAction, data}}, 0, false}, "a measurement": {[]logEvent{{0, evIPL, data}}, 0, false},
		"other text": {[]logEvent{{0, evNoAction, []byte("StartupLocality\x01\x03")}}, 0, false},
	} {
		l := &EventLog{log: &bootLog{events: row.events}}
		if got, ok := l.StartupLocality(); got != row.want || ok != row.ok {
			t.Errorf("%s: got %d, %t", name, got, ok)
		}
	}
}

func TestLengthBeforeAStructure(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 6, maxStructure, maxStructure + 1} {
		raw := append(binary.BigEndian.AppendUint16(nil, uint16(n)), bytes.Repeat([]byte{9}, n)...)
		want := n
		if n > maxStructure {
			want = n + 2
		}
		if got := withoutSize(raw); len(got) != want {
			t.Errorf("%d bytes: got %d, want %d", n, len(got), want)
		}
		if got := withoutSize(append(raw, 1)); len(got) != n+3 {
			t.Errorf("%d bytes and another length: got %d", n, len(got))
		}
	}
	if got := withoutSize([]byte{0}); len(got) != 1 {
		t.Errorf("one byte: got %x", got)
	}
}

func TestTextOfLogsAtItsEdges(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 159)
	for in, want := range map[string]string{
		"": `""`, "a\x00\x00": `"a"`, "a\x00b": "610062", "\xff": "ff", "é\n": `"\u00e9\n"`, long + "y": `"` + long + `y"`,
		long + "yz": `"` + long + `y" and 1 more bytes`, long + "éz": `"` + long + `" and 3 more bytes`,
		"\xff" + long + "y": "ff" + hex.EncodeToString([]byte(long)) + " and 1 more bytes", strings.Repeat("x", 200) + "\x00a": hex.EncodeToString([]byte(long+"x")) + " and 42 more bytes",
	} {
		if got := quoteText([]byte(in)); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
	for in, want := range map[string]string{"": "", "\x00": "\x00", "\x00\x00": "", "a\x00\x00\x00": "a\x00", "a\x00b\x00": "a\x00b\x00", "\x00a": "\x00a", "a\x00\x00": "a\x00\x00", "ab\x00\x00\x00\x00": "ab"} {
		if got := trimNUL16([]byte(in)); string(got) != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]bool{"": false, " ": true, "~": true, "\x1f": false, "\x7f": false, "aé": false} {
		if isPlain(in) != want {
			t.Errorf("%q: plain %t", in, !want)
		}
	}
	for in, want := range map[string]string{"id:494E5443": "INTC", "id:20202020": "", "id:20412021": " A !", "id:417E4142": "A~AB", "id:411F4141": "", "id:417F4141": "", "id:53544D20": "STM", "none": ""} {
		if got := (Device{Manufacturer: in}).VendorName(); got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
	ipl := func(text string) *logEvent { return &logEvent{8, evIPL, []byte(text)} }
	for _, row := range []struct {
		e              *logEvent
		withNUL        bool
		text, measured string
	}{{ipl("k: a"), false, "a", "a"}, {ipl("k: a\x00"), false, "a", "a"}, {ipl("k: a\x00"), true, "a", "a\x00"}, {ipl("k: \x00a"), true, "", ""},
		{ipl("k: a\x00b"), true, "", ""}, {ipl("l: a"), true, "", ""}, {ipl("k: \xff"), true, "", ""}, {ipl("k: \x01"), false, "\x01", "\x01"},
		{&logEvent{8, evNoAction, []byte("k: a")}, true, "", ""}} {
		text, measured := labelled(row.e, "k: ", row.withNUL)
		if text != row.text || string(measured) != row.measured {
			t.Errorf("%q: got %q, %q", row.e.data, text, measured)
		}
	}
	for in, want := range map[string]string{"": "", "\x00\x00": "", "a\x00\x00\x00": "a", "a\x00\x01\x00": "", "a\x00\x00\x01": "", "a\x00\x00": ""} {
		if text, measured := wideLine([]byte(in)); text != want || want == "" && measured != nil || want != "" && string(measured) != in {
			t.Errorf("%q: got %q, %q", in, text, measured)
		}
	}
	section := []byte(".\x00l\x00i\x00n\x00u\x00x\x00\x00\x00")
	for _, row := range []struct {
		e    logEvent
		want string
	}{{logEvent{11, evIPL, section}, ".linux"}, {logEvent{12, evIPL, section}, ""}, {logEvent{11, evNoAction, section}, ""}, {logEvent{11, evIPL, section[2:]}, ""}} {
		if got, measured := stubSection(&row.e); got != row.want || (row.want == "") != (measured == nil) || measured != nil && string(measured) != got+"\x00" {
			t.Errorf("PCR %d: got %q, %q, want %q", row.e.pcr, got, measured, row.want)
		}
	}
}

func TestIMAReferenceAtItsEdges(t *testing.T) {
	t.Parallel()
	var keys [][]byte
	for range maxIMAKeys + 1 {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, der)
	}
	paths := func(n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprint("/", i))
		}
		return all
	}
	sum := strings.Repeat("ab", 32)
	for name, row := range map[string]struct {
		ref  IMAReference
		good bool
	}{
		"nothing": {IMAReference{}, true}, "16 keys": {IMAReference{Keys: keys[:16]}, true}, "17 keys": {IMAReference{Keys: keys}, false},
		"a key twice": {IMAReference{Keys: [][]byte{keys[0], keys[0]}}, false}, "no key": {IMAReference{Keys: [][]byte{{1}}}, false},
		"64 paths": {IMAReference{Watch: paths(64)}, true}, "65 paths": {IMAReference{Watch: paths(65)}, false},
		"SHA-256": {IMAReference{Known: []string{"sha256:" + sum}}, true}, "of fs-verity": {IMAReference{Known: []string{"verity:sha256:" + sum}}, true},
		"SHA-384": {IMAReference{Known: []string{"sha384:" + sum + sum[:32]}}, true}, "SHA-512": {IMAReference{Known: []string{"sha512:" + sum + sum}}, true},
		"31 bytes": {IMAReference{Known: []string{"sha256:" + sum[2:]}}, false}, "33 bytes": {IMAReference{Known: []string{"sha256:" + sum + "00"}}, false},
		"odd": {IMAReference{Known: []string{"sha256:" + sum + "0"}}, false}, "capitals": {IMAReference{Known: []string{"sha256:" + strings.ToUpper(sum)}}, false},
		"SHA-1": {IMAReference{Known: []string{"sha1:" + sum[:40]}}, false}, "no algorithm": {IMAReference{Known: []string{sum}}, false},
		"a NUL": {IMAReference{Watch: []string{"/a\x00"}}, false}, "everything": {IMAReference{Watch: []string{"/*"}}, true},
		"a star": {IMAReference{Watch: []string{"/a*"}}, false}, "two stars": {IMAReference{Watch: []string{"/*/*"}}, false},
	} {
		if err := row.ref.Check(); (err == nil) != row.good {
			t.Errorf("%s: got %v", name, err)
		}
	}
	absent, err := IMAReference{}.Digest()
	empty, again := IMAReference{Known: []string{}, Keys: [][]byte{}, Watch: []string{}}.Digest()
	other, third := IMAReference{Watch: []string{"/"}}.Digest()
	if err != nil || again != nil || third != nil || absent != empty || absent == other || len(absent) != 64 {
		t.Errorf("digests %q, %q, %q: %v, %v, %v", absent, empty, other, err, again, third)
	}
	if keyOf(true, make([]byte, 32)) == keyOf(false, make([]byte, 32)) || keyOf(false, make([]byte, 32)) == keyOf(false, make([]byte, 48)) {
		t.Error("two digests have one key")
	}
	r := &imaReference{exact: map[string]bool{"/a": true}, below: []string{"/b/"}}
	for path, want := range map[string]bool{"/a": true, "/a/": false, "/b/": true, "/b/c/d": true, "/b": false, "/c": false} {
		if r.watches([]byte(path)) != want {
			t.Errorf("%s: watched %t", path, !want)
		}
	}
	data := []byte("data")
	for _, alg := range []string{"sha256", "sha384", "sha512"} {
		h := strongIMAHash(alg).New()
		h.Write(data)
		if sum := h.Sum(nil); !hashes(alg, data, sum) || hashes(alg, data[1:], sum) || hashes("sha1", data, sum) {
			t.Errorf("%s: wrong about a digest", alg)
		}
	}
	if sum := sha1.Sum(data); hashes("sha1", data, sum[:]) {
		t.Error("SHA-1 counts as the digest of a buffer")
	}
}

// A list costs at most maxIMAChecks verifications: files beyond them count as not signed.
func TestIMASignaturesAreBounded(t *testing.T) {
	t.Parallel()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum := make([]byte, 32)
	sig, err := ecdsa.SignASN1(rand.Reader, k, sum)
	if err != nil {
		t.Fatal(err)
	}
	s := append(binary.BigEndian.AppendUint16([]byte{imaSignature, 2, 4, 1, 2, 3, 4}, uint16(len(sig))), sig...)
	e := func() *imaEntry {
		return &imaEntry{template: "ima-sig", known: true, alg: "sha256", sum: sum, sig: slices.Clone(s)}
	}
	at := func(checks int) *imaReference {
		return &imaReference{keys: map[[4]byte]crypto.PublicKey{{1, 2, 3, 4}: &k.PublicKey}, checks: checks}
	}
	if !at(maxIMAChecks - 1).signed(e()) {
		t.Error("the last signature does not count")
	}
	if at(maxIMAChecks).signed(e()) {
		t.Error("a signature beyond the bound counts")
	}
	stranger, r := e(), at(maxIMAChecks-1)
	stranger.sig[6] = 0
	if r.signed(stranger) || !r.signed(e()) {
		t.Error("a signature by a key that is not known takes the place of another")
	}
	for name, edit := range map[string]func(*imaEntry){
		"by SHA-1": func(e *imaEntry) { e.alg = "sha1" }, "template ima": func(e *imaEntry) { e.template = "ima" },
		"header only": func(e *imaEntry) { e.sig = e.sig[:signatureHeader] }, "no header": func(e *imaEntry) { e.sig = e.sig[:signatureHeader-1] },
		"verity": func(e *imaEntry) { e.verity = true }, "kind of verity": func(e *imaEntry) { e.sig[0] = veritySignature },
		"version 3": func(e *imaEntry) { e.sig[1] = 3 }, "version 1": func(e *imaEntry) { e.sig[1] = 1 }, "another key": func(e *imaEntry) { e.sig[6] = 0 },
		"SHA-384 in the header": func(e *imaEntry) { e.sig[2] = 5 }, "a byte behind": func(e *imaEntry) { e.sig = append(e.sig, 0) },
		"length of 16 bits": func(e *imaEntry) { e.sig[7] = 1 },
	} {
		entry := e()
		if edit(entry); at(0).signed(entry) {
			t.Errorf("%s: counts as signed", name)
		}
	}
}
