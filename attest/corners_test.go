package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/imalog"
)

// The tests of this file stand at the edges of rules, where mutation testing found that no other test stood.

func TestAPanicIsARefusal(t *testing.T) {
	t.Parallel()
	if v, err := guarded(func() (*int, error) { panic("x") }); v != nil || !denial.Is(err, denial.Internal) {
		t.Errorf("a check that panics: got %v, %v", v, err)
	}
	if v, err := parse(make([]byte, 20), func([]byte) (*tpm2.TPMTPublic, bool) { panic("x") }); v != nil || !denial.Is(err, denial.QuoteMalformed) {
		t.Errorf("a decoder that panics: got %v, %v", v, err)
	}
	n := 1
	if v, err := guarded(func() (*int, error) { return &n, fmt.Errorf("x") }); v != nil || err == nil {
		t.Errorf("a value beside an error: got %v, %v", v, err)
	}
}

func TestStructuresThatNobodyReadsByHand(t *testing.T) {
	t.Parallel()
	area := []byte{0, 8, 0, 0x0b, 0, 4, 0, 0x72, 0, 0, 0, 0x10} // a keyed hash that ends where its scheme should stand
	if p, ok := readPublic(area); ok {
		t.Errorf("got %+v", p)
	}
	for n, want := range map[int]denial.Reason{0: denial.QuoteMalformed, 5: denial.QuoteMalformed, 6: denial.QuoteMalformed} {
		raw := []byte{0xff, 'T', 'C', 'G', 0x80, 0x18}[:n]
		if _, err := parseAttest(raw, tpm2.TPMSTAttestQuote); !denial.Is(err, want) {
			t.Errorf("%d bytes: got %v, want %s", n, err, want)
		}
	}
}

func TestStructuresAtTheirLimit(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]denial.Reason{maxStructure: denial.QuoteMalformed, maxStructure + 1: denial.StructureLimit} {
		raw := binary.BigEndian.AppendUint16(nil, uint16(n))
		if _, _, err := parsePublic(append(raw, make([]byte, n)...)); !denial.Is(err, want) {
			t.Errorf("%d bytes: got %v, want %s", n, err, want)
		}
		if _, _, err := (QuoteFiles{AK: make([]byte, n)}).key(); !denial.Is(err, want) {
			t.Errorf("a key of %d bytes: got %v, want %s", n, err, want)
		}
	}
}

// The AK certifies a key by its name, so a name by another hash must not come so far.
func TestF24_NameAlgorithmOfASigner(t *testing.T) {
	t.Parallel()
	g := elliptic.P256().Params()
	pub := tpm2.TPMTPublic{Type: tpm2.TPMAlgECC,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256,
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}, Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgNull},
			KDF: tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull}}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: g.Gx.Bytes()}, Y: tpm2.TPM2BECCParameter{Buffer: g.Gy.Bytes()}})}
	for alg, good := range map[tpm2.TPMIAlgHash]bool{tpm2.TPMAlgSHA256: true, tpm2.TPMAlgSHA384: false, tpm2.TPMAlgSHA1: false} {
		pub.NameAlg = alg
		_, err := checkSigner(tpm2.Marshal(tpm2.New2B(pub)), 0)
		if good && err != nil || !good && !denial.Is(err, denial.KeyBinding) {
			t.Errorf("name algorithm %#04x: got %v", alg, err)
		}
	}
}

func TestAKeyThatIsNoneVerifiesNothing(t *testing.T) {
	t.Parallel()
	for _, pub := range []crypto.PublicKey{nil, ed25519.PublicKey(make([]byte, 32))} {
		if (&attestationKey{pub: pub}).verifyDigest(make([]byte, 32), nil, nil) {
			t.Errorf("a signature by %T verifies", pub)
		}
	}
}

func TestK09_AWeakCAOfTheVerifiersOwn(t *testing.T) {
	t.Parallel()
	for c, good := range map[elliptic.Curve]bool{elliptic.P224(): false, elliptic.P256(): true} {
		err := (&Rules{}).checkWay([]*x509.Certificate{{}, {PublicKey: curve(c)}}, time.Now())
		if good && err != nil || !good && !denial.Is(err, denial.EKUntrusted) {
			t.Errorf("%s: got %v", c.Params().Name, err)
		}
	}
}

func TestTheLongestCertificateOfAHost(t *testing.T) {
	t.Parallel()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(padding int) []byte {
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1),
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 23, 133, 99}, Value: make([]byte, padding)}}}, &x509.Certificate{}, public, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	const most = maxCertificate / 2
	padding := most + maxCertificate - len(issue(most)) // the lengths within have as many bytes for both
	for more, good := range []bool{true, false} {
		der := issue(padding + more)
		if _, err := readCertificate(der); len(der) != maxCertificate+more || good != (err == nil) {
			t.Errorf("%d bytes: got %v", len(der), err)
		}
	}
}

func TestDescriptionsOfTags(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]bool{"\x01\x00\x00\x00\x01\x00\x00\x00x": true, "\x01\x00\x00\x00\x00\x00\x00\x00": false} {
		if text, _ := describe(&logEvent{kind: evEventTag, data: []byte(data)}); strings.HasPrefix(text, "tag ") != want {
			t.Errorf("%q: got %q", data, text)
		}
	}
}

func TestSelectionsOfOtherPCRs(t *testing.T) {
	t.Parallel()
	want := Selection{Bank: "sha256", PCRs: []int{0, 8, 17}}
	for name, row := range map[string]struct {
		bits []byte
		code denial.Reason // 0: it matches
	}{
		"the same":            {[]byte{1, 1, 2}, 0},
		"PCR 9 in place of 8": {[]byte{1, 2, 2}, denial.RequiredPCRAbsent},
		"PCR 16 for 17":       {[]byte{1, 1, 1}, denial.RequiredPCRAbsent},
		"PCR 1 in place of 0": {[]byte{2, 1, 2}, denial.RequiredPCRAbsent},
		"one more":            {[]byte{1, 1, 6}, denial.PCRSelectionMismatch},
		"none":                {[]byte{0, 0, 0}, denial.PCRSelectionMismatch},
	} {
		err := want.matches(tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: row.bits}}})
		if row.code == 0 && err != nil || row.code != 0 && !denial.Is(err, row.code) {
			t.Errorf("%s: got %v, want %s", name, err, row.code)
		}
	}
}

// legacyRecord is a TCG_PCR_EVENT.
func legacyRecord(pcr, kind uint32, data []byte) []byte {
	b := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, pcr), kind)
	b = append(b, bytes.Repeat([]byte{0x5a}, 20)...)
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(data))), data...)
}

func TestLogsOfTheOlderForm(t *testing.T) {
	t.Parallel()
	first, second := legacyRecord(0, 8, []byte("version")), legacyRecord(23, 4, make([]byte, 4))
	for name, row := range map[string]struct {
		log  []byte
		want denial.Reason
	}{
		"two records":    {slices.Concat(first, second), denial.BankNotAllowed},
		"without a PCR":  {slices.Concat(first, legacyRecord(noPCR, 3, []byte("x"))), denial.BankNotAllowed},
		"PCR 24":         {slices.Concat(first, legacyRecord(24, 4, nil)), denial.LogMalformed},
		"cut short":      {slices.Concat(first, second[:len(second)-1]), denial.LogMalformed},
		"a byte behind":  {append(slices.Concat(first, second), 0), denial.LogMalformed},
		"nothing":        {nil, denial.LogMalformed},
		"another header": {legacyRecord(0, evNoActionNumber, []byte("Spec ID Event02\x00")), denial.BankNotAllowed},
	} {
		_, err := parseLog(row.log)
		if !denial.Is(err, row.want) {
			t.Errorf("%s: got %v, want %s", name, err, row.want)
		}
	}
	b := bootlog.New(bootlog.Options{}).Log
	at := bytes.Index(b, []byte(specID03)) + len(specID03) + 4 + 3 // platform class, version and errata: the size of UINTN
	for size, good := range map[byte]bool{0: false, 1: true, 2: true, 3: false} {
		b[at] = size
		if _, err := parseLog(b); (err == nil) != good {
			t.Errorf("UINTN of %d words: got %v", size, err)
		}
	}
	if got := eventType(0x12345678).String(); got != "0x12345678" {
		t.Errorf("a type without a name is %q", got)
	}
}

const evNoActionNumber = 3

// What only looks like a fact is none, whatever label it has.
func TestFactsThatAreNone(t *testing.T) {
	t.Parallel()
	good := bootlog.New(bootlog.Options{})
	text := func(s string) (b []byte) {
		for _, c := range s {
			b = binary.LittleEndian.AppendUint16(b, uint16(c))
		}
		return append(b, 0, 0)
	}
	with := func(at int, e bootlog.Event) *bootFacts { return factsOf(t, edit(good, insert(at, e))) }
	for name, e := range map[string]bootlog.Event{
		"of another type":      {PCR: 0, Type: bootlog.Type(1), Data: text("9.9")}, // EV_POST_CODE
		"that is no text":      {PCR: 0, Type: bootlog.CRTMVersion, Data: []byte{1}},
		"that is not plain":    {PCR: 0, Type: bootlog.CRTMVersion, Data: text("\x07")},
		"that no digest is of": {PCR: 0, Type: bootlog.CRTMVersion, Data: text("9.9"), Measured: []byte("x")},
	} {
		if f := with(0, e); f.Platform.Version != "2.8.1" {
			t.Errorf("a version %s: got %q", name, f.Platform.Version)
		}
	}
	if f := with(1, bootlog.Event{PCR: 0, Type: bootlog.CRTMVersion, Data: text("9.9")}); f.Platform.Version != "2.8.1" {
		t.Errorf("the second version counts: %q", f.Platform.Version)
	}
	end := len(good.Events)
	level := []byte("sbat,1,2023012900\nshim,2\n")
	foreign := append(bytes.Clone(efiImageSecurity[:]), shimVariable("SbatLevel", level)[16:]...)
	if f := with(end, bootlog.Event{PCR: 7, Type: bootlog.VariableAuthority, Data: foreign}); f.Shim.SBAT != 0 {
		t.Errorf("a level by another vendor counts: %+v", f.Shim)
	}
	if f := with(end, bootlog.Event{PCR: 7, Type: bootlog.VariableAuthority, Data: shimVariable("SbatLevel", level)}); f.Shim.SBAT != 2023012900 {
		t.Errorf("got %+v", f.Shim)
	}
	short := []byte("EFI PART, but no whole table")
	if f := with(find(t, good.Events, 5, bootlog.GPT, 0), bootlog.Event{PCR: 5, Type: bootlog.GPT, Data: short}); len(f.Disks) != 1 || f.Unexplained[5] != 1 {
		t.Errorf("a table cut short: got %+v, %d unexplained", f.Disks, f.Unexplained[5])
	}
	cryptsetup := edit(good, insert(end, bootlog.Event{PCR: 15, Type: bootlog.IPL, Data: []byte("x")}))
	f, err := replay(cryptsetup.Log, "sha256", cryptsetup.Select("sha256", append(slices.Clone(bootPCRs), 15)...))
	if err != nil || f.Unexplained[15] != 1 {
		t.Errorf("an event of PCR 15: got %v, %v", f, err)
	}
	if line, _ := commandLine(&logEvent{8, evIPL, append(text("quiet")[:10], 1)}); line != "" {
		t.Errorf("a line without its end: %q", line)
	}
	if line, _ := commandLine(&logEvent{8, evIPL, append(text("quiet")[:10], 0)}); line != "quiet" {
		t.Errorf("a line whose end was logged by half: %q", line)
	}
	pk := &SecureBoot{}
	if field := pk.set(&efiVariable{guid: efiGlobalVariable, name: "PK"}, "d"); field != "pk" || !pk.Setup || pk.PK != "d" {
		t.Errorf("no platform key: got %q, %+v", field, pk)
	}
	if pk.set(&efiVariable{guid: efiGlobalVariable, name: "PK", data: []byte{1}}, "d"); pk.Setup {
		t.Error("a platform key of one byte is none")
	}
	if _, generations := parseSBAT([]byte("sbat,1,2023012900\nshim,0\nalone\n\x07,2\ngrub,3\n")); len(generations) != 2 || generations["grub"] != 3 {
		t.Errorf("components without a generation, or a name: got %v", generations)
	}
}

func TestNamesOfPartitions(t *testing.T) {
	t.Parallel()
	header := append([]byte("EFI PART"), make([]byte, gptHeader-8)...)
	copy(header[56:], bytes.Repeat([]byte{9}, 16))
	entry := func(name []byte) []byte {
		b := make([]byte, gptEntry)
		b[0], b[16] = 1, 2
		for i := 32; i < 56; i++ {
			b[i] = 0xee // blocks and attributes
		}
		copy(b[56:], name)
		return b
	}
	table := slices.Concat(header, binary.LittleEndian.AppendUint64(nil, 2), entry([]byte("E\x00S\x00P\x00")), entry([]byte("\x00\xd8")))
	d, ok := parseGPT(table)
	if !ok || len(d.Partitions) != 2 || d.Partitions[0].Name != "ESP" || d.Partitions[1].Name != "" || d.GUID != "09090909-0909-0909-0909-090909090909" {
		t.Errorf("got %+v, %v", d, ok)
	}
	if d, ok := parseGPT(slices.Concat(header, make([]byte, 8))); !ok || len(d.Partitions) != 0 || d.Partitions == nil {
		t.Errorf("no partitions: got %+v, %v", d, ok)
	}
	for _, bad := range [][]byte{table[:len(table)-1], append(slices.Clone(table), 0), header, nil, table[1:]} {
		if d, ok := parseGPT(bad); ok {
			t.Errorf("%d bytes: got %+v", len(bad), d)
		}
	}
}

func TestRecordsOfTheSystemAtTheirEdges(t *testing.T) {
	t.Parallel()
	// What systemd extends outside of the quote needs no digest in the quoted bank, and PCR 8 is not one of firmware.
	r := separated()
	r.measure(8, "a loader", "a loader")
	r.measure(14, "a text that no digest is of", "another")
	delete(r.pcrs, 15)
	log := r.log + strings.Replace(measured(15, "x", "x"), `"hashAlg":"sha256","digest":"`+fmt.Sprintf("%x", sum("x")), `"hashAlg":"sha1","digest":"`+strings.Repeat("0", 40), 1)
	f, err := r.replay(log)
	if err != nil {
		t.Fatal(err)
	}
	if _, counted := f.Unexplained[14]; counted || len(f.OS) != 15 || f.OS[14].Text != "" {
		t.Errorf("got %v unexplained, %+v", f.Unexplained, f.OS)
	}
	good := measured(16, "x", "x")
	if _, err := parseOSLog([]byte("x" + good[1:])); !denial.Is(err, denial.LogMalformed) {
		t.Errorf("no separator: got %v", err)
	}
	if events, err := parseOSLog([]byte(good)); err != nil || len(events) != 1 {
		t.Errorf("got %v, %v", events, err)
	}
}

func TestBanksThatCannotBeComputed(t *testing.T) {
	t.Parallel()
	l := &bootLog{banks: knownBanks[:]}
	for bank, want := range map[string]denial.Reason{"sha1": 0, "sha256": 0, "sha512": 0, "sm3_256": denial.BankNotAllowed, "0x0027": denial.BankUncapped} {
		b, err := newBankReplay(l, bank, nil, false)
		if want == 0 && (err != nil || b == nil) || want != 0 && (!denial.Is(err, want) || b != nil) {
			t.Errorf("%s: got %v, %v, want %s", bank, b, err, want)
		}
	}
}

// The memory tells apart what differs in the bank of the facts alone, and keeps what takes an eighth of it.
func TestCornersOfTheMemory(t *testing.T) {
	t.Parallel()
	b := bootlog.New(bootlog.Options{Banks: []string{"sha256", "sha384"}})
	values := map[string]map[int64][]byte{"sha256": b.Select("sha256", bootPCRs...), "sha384": b.Select("sha384", bootPCRs...)}
	c := NewMemory(1 << 20)
	for _, bank := range []string{"sha256", "sha384"} {
		f, err := c.replay([]byte("AK"), bootLogs{firmware: b.Log}, bank, values)
		if err != nil || len(f.BootApps[0].Digest) != map[string]int{"sha256": 64, "sha384": 96}[bank] {
			t.Errorf("%s: got %+v, %v", bank, f, err)
		}
	}
	if hits, misses := c.Counts(); hits != 0 || misses != 2 {
		t.Errorf("%d hits, %d misses", hits, misses)
	}
	_, err := c.replay([]byte("AK"), bootLogs{firmware: b.Log}, "sha256", map[string]map[int64][]byte{"sha512": values["sha256"], "sha384": values["sha384"]})
	if err == nil {
		t.Error("values of another bank are found")
	}
	more := map[int64][]byte{24: make([]byte, 32)}
	for pcr, v := range values["sha256"] {
		more[pcr] = v
	}
	if _, err := c.replay([]byte("AK"), bootLogs{firmware: b.Log}, "sha256", map[string]map[int64][]byte{"sha256": more, "sha384": values["sha384"]}); err == nil {
		t.Error("values with a PCR that does not exist are found")
	}
	small := NewMemory(800)
	small.add(&memoryEntry{key: memoryKey{1}, size: 100, facts: &bootFacts{}})
	small.add(&memoryEntry{key: memoryKey{2}, size: 101, facts: &bootFacts{}})
	if small.find(memoryKey{1}) == nil || small.find(memoryKey{2}) != nil {
		t.Error("an entry of an eighth is not kept, or a larger one is")
	}
}

func TestListsOfIMAAtTheirEdges(t *testing.T) {
	t.Parallel()
	one := imalog.Empty()
	one.Legacy("", [20]byte{1})
	r := newIMAReader(bytes.Repeat(one.Bytes, maxIMAEntries+1), 20)
	for range maxIMAEntries {
		if e, err := r.next(); err != nil || e == nil {
			t.Fatalf("entry %d: %v", r.entries, err)
		}
	}
	if _, err := r.next(); !denial.Is(err, denial.RequestLimit) {
		t.Errorf("one entry more: got %v", err)
	}
	if !templateName([]byte("a")) || templateName(nil) {
		t.Error("a template has a name of at least one character")
	}
	if _, err := newIMAFacts(nil, "sha1", nil, &imaReference{}); !denial.Is(err, denial.BankNotAllowed) {
		t.Errorf("IMA in the SHA-1 bank: got %v", err)
	}
	odd := &imaEntry{pcr: imaPCR, digest: make([]byte, 20), template: "x"}
	if err := (&imaFacts{}).add(odd, "sha256", crypto.SHA256, nil); !denial.Is(err, denial.LogReplayMismatch) {
		t.Errorf("a violation of an unknown template comes first: got %v", err)
	}
	nothing := sha256.Sum256(nil) // the digest of no PCRs
	for name, want := range map[string]denial.Reason{"boot_aggregate": 0, "boot_aggregate2": denial.LogReplayMismatch, "": denial.LogReplayMismatch} {
		e := &imaEntry{pcr: imaPCR, digest: []byte{1}, template: "ima-ng", known: true, alg: "sha256", sum: nothing[:], name: []byte(name)}
		if err := (&imaFacts{}).add(e, "sha256", crypto.SHA256, nil); want == 0 && err != nil || want != 0 && !denial.Is(err, want) {
			t.Errorf("the first entry is %q: got %v", name, err)
		}
	}
	changed := &imaEntry{pcr: imaPCR, digest: make([]byte, 20), template: "ima-ng", known: true, alg: "sha256", sum: nothing[:], name: []byte("boot_aggregate")}
	if err := (&imaFacts{}).add(changed, "sha256", crypto.SHA256, nil); !denial.Is(err, denial.LogReplayMismatch) {
		t.Errorf("a violation with the digest of boot_aggregate, which nothing covers, comes first: got %v", err)
	}
	f := &imaFacts{seen: map[string]bool{}}
	for i, row := range []struct {
		key          string
		text, listed int
		fresh        bool
		err          bool
	}{{"a", 1, maxIMAFacts - 1, true, false}, {"a", 1, 0, false, false}, {"b", 0, maxIMAFacts, false, true}, {"c", maxIMAText - 1, 0, true, false}, {"d", 1, 0, false, true}} {
		if fresh, err := f.fresh(row.key, row.text, row.listed); fresh != row.fresh || (err != nil) != row.err {
			t.Errorf("row %d: got %v, %v", i, fresh, err)
		}
	}
	l := imalog.Empty()
	l.Add(0, "an-unknown-one", []byte("sha256:\x00"), []byte("name\x00"))
	got, err := ParseIMAList(l.Bytes)
	if err != nil || got.Format != "binary" || len(got.Entries) != 1 || got.Entries[0].Digest != "" || got.Entries[0].Name != "" || got.Entries[0].PCR != 0 {
		t.Errorf("an unknown template in PCR 0: got %+v, %v", got, err)
	}
}

// A line of text can be read in two ways where a name ends with hexadecimal digits: its template hash says which is right.
func TestLinesOfIMAThatReadInTwoWays(t *testing.T) {
	t.Parallel()
	digest := imalog.Digest("sha256", make([]byte, 32))
	for name, row := range map[string]struct {
		path      string
		signature []byte
		tail      string
	}{
		"a signature":                     {"/x", []byte{0xab}, "/x ab"},
		"a name that ends like one":       {"/x ab", nil, "/x ab"},
		"both":                            {"/x cd", []byte{0xab}, "/x cd ab"},
		"no signature":                    {"/x", nil, "/x "},
		"no signature, and no space":      {"/x", nil, "/x"},
		"a name that ends in other words": {"/x yz", nil, "/x yz"},
	} {
		for _, template := range []string{"ima-sig", "ima-buf"} {
			l := imalog.Empty()
			l.Add(10, template, digest, imalog.Name(row.path), row.signature)
			line := fmt.Sprintf("10 %x %s sha256:%064d %s\n", l.Bytes[4:24], template, 0, row.tail)
			got, err := ParseIMAList([]byte(line))
			if err != nil || got.Format != "ascii" || got.Entries[0].Name != row.path || template == "ima-sig" && got.Entries[0].Signature != fmt.Sprintf("%x", row.signature) {
				t.Errorf("%s, %s: got %+v, %v", name, template, got, err)
			}
		}
	}
}

func TestListsOfTwoHashesAreNone(t *testing.T) {
	t.Parallel()
	line := func(size int) string {
		return fmt.Sprintf("10 %s ima-ng sha256:%064d /x\n", strings.Repeat("11", size), 0)
	}
	if _, size, err := binaryIMA([]byte(line(20) + line(20))); err != nil || size != 20 {
		t.Errorf("got %d, %v", size, err)
	}
	if _, _, err := binaryIMA([]byte(line(20) + line(32))); !denial.Is(err, denial.LogMalformed) {
		t.Errorf("hashes of 20 and of 32 bytes: got %v", err)
	}
}

func TestReferencesOfIMAThatAreNone(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]IMAReference{"a digest": {Known: []string{"\xff"}}, "a path": {Watch: []string{"/\xff"}}} {
		if err := r.Check(); err == nil {
			t.Errorf("%s that is no text can be used", name)
		}
		if d, err := r.Digest(); err == nil || d != "" {
			t.Errorf("%s that is no text has digest %q", name, d)
		}
	}
	exact, err := IMAReference{Watch: []string{"/a/b", "/c/*"}}.compile()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{"/a/b": true, "/a/bc": false, "/a/b/c": false, "/c/": true, "/c/d": true, "/c": false, "/cd": false} {
		if exact.watches([]byte(path)) != want {
			t.Errorf("%s is watched: %v", path, !want)
		}
	}
}

// I07: a signature over a digest that proves nothing is none, whatever number it gives for the hash.
func TestI07_SignaturesOverWeakDigests(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	entry := func(alg string, number byte, digest []byte) *imaEntry {
		signature, err := ecdsa.SignASN1(rand.Reader, key, digest)
		if err != nil {
			t.Fatal(err)
		}
		head := []byte{imaSignature, 2, number, 1, 2, 3, 4, byte(len(signature) >> 8), byte(len(signature))}
		return &imaEntry{template: "ima-sig", alg: alg, sum: digest, sig: append(head, signature...)}
	}
	r := &imaReference{keys: map[[4]byte]crypto.PublicKey{{1, 2, 3, 4}: &key.PublicKey}}
	strong := sha256.Sum256([]byte("x"))
	if !r.signed(entry("sha256", 4, strong[:])) {
		t.Error("a good signature is none")
	}
	for name, e := range map[string]*imaEntry{"md5": entry("md5", 0, make([]byte, 16)), "sha1": entry("sha1", 0, make([]byte, 20)), "sha1, called sha256": entry("sha1", 4, make([]byte, 20)),
		"no name": entry("", 0, strong[:])} {
		if r.signed(e) {
			t.Errorf("%s: signed", name)
		}
	}
}

// A name that no person reads beside the one that names the TPM does not hide it.
func TestAlternativeNamesOfOtherKinds(t *testing.T) {
	t.Parallel()
	good := san(t, pkix.AttributeTypeAndValue{Type: oidManufacturer, Value: "id:494E5443"}, pkix.AttributeTypeAndValue{Type: oidModel, Value: "m"},
		pkix.AttributeTypeAndValue{Type: oidVersion, Value: "id:1"})
	var names []asn1.RawValue
	if _, err := asn1.Unmarshal(good.Value, &names); err != nil {
		t.Fatal(err)
	}
	for name, more := range map[string]asn1.RawValue{
		"a DNS name":                   {Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("tpm.example")},
		"an address":                   {Class: asn1.ClassContextSpecific, Tag: 7, Bytes: []byte{127, 0, 0, 1}},
		"tag 4 of another class":       {Class: asn1.ClassApplication, Tag: 4, IsCompound: true, Bytes: []byte{0x30, 0}},
		"a name with a byte behind it": {Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: []byte{0x30, 0, 0}},
		"an empty name of directories": {Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: []byte{0x30, 0}},
	} {
		value, err := asn1.Marshal(append(slices.Clone(names), more))
		if err != nil {
			t.Fatal(err)
		}
		want := 3
		if name == "a name with a byte behind it" {
			want = 0
		}
		if got := directoryName(value); len(got) != want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestTheLongestStoredCertificate(t *testing.T) {
	t.Parallel()
	der := append([]byte{0x30, 0x82, (maxCertificate - 4) >> 8, (maxCertificate - 4) & 0xff}, make([]byte, maxCertificate-4)...)
	if got, behind, err := UnwrapCertificate(der); err != nil || len(got) != maxCertificate || behind != 0 {
		t.Errorf("got %d bytes, %d behind, %v", len(got), behind, err)
	}
	if _, _, err := UnwrapCertificate([]byte{0xb0, 2, 5, 0}); !denial.Is(err, denial.EKUntrusted) {
		t.Errorf("a sequence of another class: got %v", err)
	}
	der = append([]byte{0x30, 0x82, (maxCertificate - 3) >> 8, (maxCertificate - 3) & 0xff}, make([]byte, maxCertificate-3)...)
	if _, _, err := UnwrapCertificate(der); !denial.Is(err, denial.EKUntrusted) {
		t.Errorf("a byte more: got %v", err)
	}
}

func TestQuotesThatAreNoneHaveNoClock(t *testing.T) {
	t.Parallel()
	if c, err := (&Evidence{tpm: tpm2Evidence{Quote: []byte{1}}}).Clock(); c != (Clock{}) || !denial.Is(err, denial.QuoteMalformed) {
		t.Errorf("got %+v, %v", c, err)
	}
}

// PCRs 17 to 22 begin with ones, and with zeros once a dynamic launch extends them.
func TestPCRsOfADynamicLaunch(t *testing.T) {
	t.Parallel()
	b := &bankReplay{log: &bootLog{}, hash: sha256.New()}
	for pcr := range uint32(pcrCount) {
		ones := pcr >= 17 && pcr <= 22
		if got := b.reset(pcr); !allBytes(got, map[bool]byte{true: 0xff, false: 0}[ones]) {
			t.Errorf("PCR %d begins with %x", pcr, got)
		}
		if got := b.start(pcr); !allBytes(got, 0) {
			t.Errorf("PCR %d is extended from %x", pcr, got)
		}
	}
}

// K15: a modulus that only looks like a weak one in all primes but one is none.
func TestK15_OnePrimeTellsAModulusApart(t *testing.T) {
	t.Parallel()
	product := big.NewInt(1)
	for _, p := range []byte(rocaPrimes) {
		product.Mul(product, big.NewInt(int64(p)))
	}
	weak := new(big.Int).ModInverse(big.NewInt(65537), product) // a power of 65537 in each of them: one before 1
	if !rocaWeak(weak) {
		t.Fatal("a power of 65537 is not found")
	}
	rest := new(big.Int).Div(product, big.NewInt(11))
	n := new(big.Int).Set(weak)
	for new(big.Int).Mod(n, big.NewInt(11)).Int64() != 2 { // modulo 11, the powers are 1 and 10
		n.Add(n, rest)
	}
	if rocaWeak(n) {
		t.Error("a modulus that is no power of 65537 modulo 11 is weak")
	}
}

func TestNoSignaturesAreWholeLists(t *testing.T) {
	t.Parallel()
	if err := eachSignature(nil, func(efiGUID, []byte) { t.Error("an entry of no list") }); err != nil {
		t.Error(err)
	}
}

// The numbers are those of the PC Client Platform Firmware Profile, section "Event Types".
func TestTypesOfEventsAreTheRegisteredOnes(t *testing.T) {
	t.Parallel()
	for kind, want := range map[eventType]uint32{
		evPostCode: 1, evNoAction: 3, evSeparator: 4, evEventTag: 6, evCRTMContents: 7, evCRTMVersion: 8, evMicrocode: 9, evPlatformConfig: 10,
		evTableOfDevices: 11, evCompactHash: 12, evIPL: 13, evIPLPartitionData: 14, evNonhostCode: 15, evNonhostConfig: 16, evNonhostInfo: 17,
		evOmitBootDevices: 18, evPostCode2: 19, evVariableConfig: 0x80000001, evVariableBoot: 0x80000002, evBootApplication: 0x80000003,
		evBootDriver: 0x80000004, evRuntimeDriver: 0x80000005, evGPT: 0x80000006, evAction: 0x80000007, evFirmwareBlob: 0x80000008,
		evHandoffTables: 0x80000009, evFirmwareBlob2: 0x8000000a, evHandoffTables2: 0x8000000b, evVariableBoot2: 0x8000000c, evGPT2: 0x8000000d,
		evHCRTM: 0x80000010, evAuthority: 0x800000e0, evSPDMFirmware: 0x800000e1, evSPDMConfig: 0x800000e2, evSPDMPolicy: 0x800000e3,
		evSPDMAuthority: 0x800000e4,
	} {
		if uint32(kind) != want {
			t.Errorf("%s is %#x, want %#x", kind, uint32(kind), want)
		}
	}
}

// A variable of PCR 7 is what its digest covers; in other PCRs firmware may measure the value alone.
func TestVariablesOutsideOfPCR7(t *testing.T) {
	t.Parallel()
	b := bootlog.New(bootlog.Options{})
	value := bootlog.Event{PCR: 1, Type: bootlog.VariableConfig, Data: shimVariable("Setup", []byte{1}), Measured: []byte{1}}
	if err := replaying(edit(b, insert(0, value))); err != nil {
		t.Errorf("in PCR 1: %v", err)
	}
	value.PCR = 7
	expect(t, replaying(edit(b, insert(0, value))), denial.EventDigestMismatch)
	broken := bootlog.Event{PCR: 7, Type: bootlog.Type(evSPDMPolicy), Data: []byte{1}}
	expect(t, replaying(edit(b, insert(0, broken))), denial.LogMalformed)
}

func TestEntriesOfIMAThatAreCutShort(t *testing.T) {
	t.Parallel()
	l := imalog.Empty()
	l.Add(10, "an-unknown-one", []byte("sha256:\x00"), []byte("name\x00"))
	for n := 1; n < len(l.Bytes); n++ {
		r := newIMAReader(l.Bytes[:n], 20)
		if e, err := r.next(); !denial.Is(err, denial.LogMalformed) {
			t.Errorf("%d of %d bytes: got %+v, %v", n, len(l.Bytes), e, err)
		}
	}
}
