package attest_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/imalog"
)

// everyTemplate is a list with an entry of each template, a violation and a name that is hard to read in text.
func everyTemplate() *imalog.List {
	sum := imalog.Sum("sha256", "x")
	plain := imalog.Digest("sha256", sum)
	l := imalog.New("sha256", nil)
	l.Add(10, "ima-ng", plain, imalog.Name("/a b"))
	l.Add(10, "ima-ngv2", append([]byte("verity:"), plain...), imalog.Name("/verity"))
	l.Add(10, "ima-sig", plain, imalog.Name("/signed"), []byte{3, 2, 4})
	l.Add(10, "ima-sig", plain, imalog.Name("/unsigned"), nil)
	l.Add(10, "ima-sig", plain, imalog.Name("/cafe 0302"), nil) // as text it looks signed
	l.Add(10, "ima-sigv2", append([]byte("ima:"), plain...), imalog.Name("/v2"), []byte{6})
	l.Add(10, "ima-buf", imalog.Digest("sha256", imalog.Sum("sha256", "data")), imalog.Name("kexec-cmdline"), []byte("data"))
	l.Add(11, "ima-ng", plain, imalog.Name("/of/pcr11"))
	l.Legacy("/old file", [20]byte{7})
	l.Violation("/changed")
	return l
}

// textOf writes a list as Linux shows it in text. It knows the templates of everyTemplate.
func textOf(tb testing.TB, list []byte, size int) string {
	tb.Helper()
	var b strings.Builder
	u32 := func() (n uint32) { n, list = binary.LittleEndian.Uint32(list), list[4:]; return n }
	take := func(n uint32) (part []byte) { part, list = list[:n], list[n:]; return part }
	for len(list) > 0 {
		pcr, hash, name := u32(), take(uint32(size)), take(u32())
		fmt.Fprintf(&b, "%2d %x %s", pcr, hash, name)
		if string(name) == "ima" {
			fmt.Fprintf(&b, " %x %s\n", take(20), take(u32()))
			continue
		}
		end := len(list) - 4 - int(u32())
		alg, sum, _ := bytes.Cut(take(u32()), []byte(":\x00"))
		fmt.Fprintf(&b, " %s:%x %s", alg, sum, bytes.TrimSuffix(take(u32()), []byte{0}))
		if len(list) > end {
			fmt.Fprintf(&b, " %x", take(u32()))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func parseIMA(tb testing.TB, raw []byte) *attest.IMAList {
	tb.Helper()
	l, err := attest.ParseIMAList(raw)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func TestIMAListOfEveryTemplate(t *testing.T) {
	t.Parallel()
	made := everyTemplate()
	l := parseIMA(t, made.Bytes)
	type row struct {
		pcr                         int
		template, name, digest, sig string
		buffer                      int
		violation                   bool
	}
	x := fileDigest("x")
	want := []row{
		{10, "ima-ng", "boot_aggregate", "sha256:" + hex.EncodeToString(imalog.Aggregate("sha256", nil, 9)), "", 0, false},
		{10, "ima-ng", "/a b", x, "", 0, false}, {10, "ima-ngv2", "/verity", "verity:" + x, "", 0, false},
		{10, "ima-sig", "/signed", x, "030204", 0, false}, {10, "ima-sig", "/unsigned", x, "", 0, false},
		{10, "ima-sig", "/cafe 0302", x, "", 0, false}, {10, "ima-sigv2", "/v2", x, "06", 0, false},
		{10, "ima-buf", "kexec-cmdline", fileDigest("data"), "", 4, false}, {11, "ima-ng", "/of/pcr11", x, "", 0, false},
		{10, "ima", "/old file", "sha1:07" + strings.Repeat("0", 38), "", 0, false},
		{10, "ima-ng", "/changed", "sha256:" + strings.Repeat("0", 64), "", 0, true},
	}
	for i, e := range l.Entries {
		if got := (row{e.PCR, e.Template, e.Name, e.Digest, e.Signature, e.Buffer, e.Violation}); e.Number != i+1 || got != want[i] {
			t.Errorf("entry %d: got %+v, want %+v", e.Number, got, want[i])
		}
	}
	if len(l.Entries) != len(want) || l.Format != "binary" || l.Hash != "sha1" {
		t.Errorf("got %d entries, %s, %s", len(l.Entries), l.Format, l.Hash)
	}
	text := parseIMA(t, []byte(textOf(t, made.Bytes, 20)))
	if text.Format != "ascii" || text.Hash != "sha1" || !reflect.DeepEqual(text.Entries, l.Entries) {
		t.Errorf("as text: got %+v, want %+v", text.Entries, l.Entries)
	}
	for _, bank := range []string{"sha1", "sha256", "sha384", "sha512"} {
		for _, l := range []*attest.IMAList{l, text} {
			if got, err := l.Replay(bank); err != nil || got.Value != hex.EncodeToString(made.PCR10(bank)) {
				t.Errorf("%s %s: got %+v, %v, want %x", l.Format, bank, got, err, made.PCR10(bank))
			}
		}
	}
	for _, bank := range []string{"", "sm3_256", "sha3-256", "sha224"} {
		_, err := l.Replay(bank)
		refused(t, nil, err, denial.BankNotAllowed)
		_, err = l.Compare(bank, made.PCR10("sha256"))
		refused(t, nil, err, denial.BankNotAllowed)
	}
}

// widen gives each entry of a list a template hash by another algorithm, as newer kernels show beside the usual list.
func widen(list []byte, h crypto.Hash) (out []byte) {
	for len(list) > 0 {
		name := 28 + binary.LittleEndian.Uint32(list[24:])
		end := name + 4 + binary.LittleEndian.Uint32(list[name:])
		d := h.New()
		d.Write(list[name+4 : end])
		out = append(append(append(out, list[:4]...), d.Sum(nil)...), list[24:end]...)
		list = list[end:]
	}
	return out
}

func TestIMAListsOfOtherHashes(t *testing.T) {
	t.Parallel()
	made := imalog.New("sha256", nil)
	made.File("/bin/sh", "sh")
	made.File("/bin/ls", "ls")
	for h, name := range map[crypto.Hash]string{crypto.SHA256: "sha256", crypto.SHA384: "sha384", crypto.SHA512: "sha512"} {
		wide := widen(made.Bytes, h)
		for _, raw := range [][]byte{wide, []byte(textOf(t, wide, h.Size()))} {
			l := parseIMA(t, raw)
			if l.Hash != name || len(l.Entries) != 3 {
				t.Errorf("%s: got %s with %d entries", name, l.Hash, len(l.Entries))
			}
			got, err := l.Replay("sha256")
			if err != nil || got.Value != hex.EncodeToString(made.PCR10("sha256")) || got.Padded != "" {
				t.Errorf("%s: got %+v, %v", name, got, err)
			}
			if _, err := l.Compare("sha256", padded(made.Bytes)); !denial.Is(err, denial.LogReplayMismatch) {
				t.Errorf("%s: got %v for a value of SHA-1 hashes that this list does not have", name, err)
			}
		}
		wide[4] ^= 1
		_, err := attest.ParseIMAList(wide)
		refused(t, nil, err, denial.EventDigestMismatch)
	}
}

func TestIMAListCompare(t *testing.T) {
	t.Parallel()
	made := imalog.New("sha256", nil)
	early := made.PCR10("sha256")
	made.File("/a", "a")
	middle, old := made.PCR10("sha256"), padded(made.Bytes)
	made.File("/b", "b")
	l := parseIMA(t, made.Bytes)
	for _, row := range []struct {
		bank  string
		value []byte
		want  attest.IMAProof
		code  denial.Reason
	}{
		{"sha256", early, attest.IMAProof{Entries: 1}, 0}, {"sha256", middle, attest.IMAProof{Entries: 2}, 0},
		{"sha256", made.PCR10("sha256"), attest.IMAProof{Entries: 3}, 0}, {"sha1", made.PCR10("sha1"), attest.IMAProof{Entries: 3}, 0},
		{"sha256", old, attest.IMAProof{Entries: 2, Padded: true}, 0}, {"sha256", made.PCR10("sha384"), attest.IMAProof{}, denial.LogReplayMismatch},
		{"sha256", make([]byte, 32), attest.IMAProof{}, denial.LogReplayMismatch}, {"sha1", make([]byte, 20), attest.IMAProof{}, denial.LogReplayMismatch},
	} {
		got, err := l.Compare(row.bank, row.value)
		if row.code != 0 {
			refused(t, nil, err, row.code)
		} else if err != nil || got != row.want {
			t.Errorf("%s %x: got %+v, %v, want %+v", row.bank, row.value, got, err, row.want)
		}
		if row.code != 0 && got != (attest.IMAProof{}) {
			t.Errorf("a proof %+v came with a refusal", got)
		}
	}
	if r, err := l.Replay("sha256"); err != nil || r.Padded != hex.EncodeToString(padded(made.Bytes)) {
		t.Errorf("got %+v, %v, want %x padded", r, err, padded(made.Bytes))
	}
}

// Kernels before 5.8 extend ones for a violation, as long as the SHA-1 hash, and zeros behind them.
func TestIMAListPaddedViolation(t *testing.T) {
	t.Parallel()
	made := imalog.New("sha256", nil)
	before := padded(made.Bytes)
	made.Violation("/changed")
	sum := sha256.Sum256(append(append(before, bytes.Repeat([]byte{0xFF}, 20)...), make([]byte, 12)...))
	if got, err := parseIMA(t, made.Bytes).Replay("sha256"); err != nil || got.Padded != hex.EncodeToString(sum[:]) {
		t.Errorf("got %+v, %v, want %x", got, err, sum)
	}
}

func TestIMAListUnknown(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	signed := imalog.Sum("sha256", "signed")
	made := everyTemplate()
	made.File("/known", "known")
	made.Add(10, "ima-sig", imalog.Digest("sha256", signed), imalog.Name("/by/key"), imaSign(t, key, 3, 2, signed))
	made.Add(10, "d-ng", imalog.Digest("sha256", signed))
	made.Add(10, "ima-buf", imalog.Digest("sha256", signed), imalog.Name("/posing/as/buffer"), nil)
	made.Add(10, "ima-ng", imalog.Digest("sha3-256", imalog.Sum("sha256", "known")), imalog.Name("/another/hash"))
	l := parseIMA(t, made.Bytes)
	names := func(entries []attest.IMAEntry) (all []string) {
		for _, e := range entries {
			all = append(all, e.Name)
		}
		return all
	}
	ref := attest.IMAReference{Known: []string{fileDigest("known"), "verity:" + fileDigest("x")}, Keys: [][]byte{der}}
	want := []string{"/a b", "/signed", "/unsigned", "/cafe 0302", "/v2", "/old file", "", "/posing/as/buffer", "/another/hash"}
	for first, n := range map[int]int{0: 0, 1: 0, 2: 1, 3: 1, 4: 2, len(l.Entries): len(want), 1000: len(want)} {
		got, err := l.Unknown(first, ref)
		if err != nil || got == nil || !reflect.DeepEqual(names(got), append([]string(nil), want[:n]...)) {
			t.Errorf("first %d: got %q, %v, want %q", first, names(got), err, want[:n])
		}
	}
	if got, err := l.Unknown(1, attest.IMAReference{Known: []string{"md5:00"}}); err == nil || got != nil {
		t.Errorf("a reference that is none: got %v, %v", got, err)
	}
}

// Each row is a line that is read, and the same with one thing broken.
func TestIMATextIsRefused(t *testing.T) {
	t.Parallel()
	made := imalog.New("sha256", nil)
	good := textOf(t, made.Bytes, 20)
	hash, digest := hex.EncodeToString(made.Bytes[4:24]), strings.Fields(good)[3]
	legacy := imalog.Empty()
	legacy.Legacy(strings.Repeat("x", 255), [20]byte{1})
	parseIMA(t, []byte(textOf(t, legacy.Bytes, 20)))
	parseIMA(t, legacy.Bytes)
	for name, row := range map[string]struct {
		text string
		want denial.Reason
	}{
		"no line break":             {strings.TrimSuffix(good, "\n"), denial.LogMalformed},
		"an empty line":             {good + "\n", denial.LogMalformed},
		"two parts":                 {"10 " + hash + "\n", denial.LogMalformed},
		"no fields":                 {"10 " + hash + " ima-ng\n", denial.LogMalformed},
		"no name":                   {"10 " + hash + " ima-ng " + digest + "\n", denial.LogMalformed},
		"PCR 24":                    {"24" + good[2:], denial.LogMalformed},
		"PCR 25":                    {"25" + good[2:], denial.LogMalformed},
		"PCR in letters":            {"1x" + good[2:], denial.LogMalformed},
		"a hash in no hexadecimal":  {strings.Replace(good, hash, "g"+hash[1:], 1), denial.LogMalformed},
		"a hash with an odd digit":  {strings.Replace(good, hash, hash+"0", 1), denial.LogMalformed},
		"a hash of 21 bytes":        {strings.Replace(good, hash, hash+"00", 1), denial.LogMalformed},
		"a hash of 32 bytes":        {good + strings.Replace(good, hash, hash+strings.Repeat("00", 12), 1), denial.LogMalformed},
		"another hash":              {strings.Replace(good, hash, strings.Repeat("1", 40), 1), denial.EventDigestMismatch},
		"a template in capitals":    {strings.Replace(good, "ima-ng", "IMA-NG", 1), denial.LogMalformed},
		"an unknown template":       {strings.Replace(good, "ima-ng", "d-ng|n-ng", 1), denial.LogMalformed},
		"modsig":                    {strings.Replace(good, "ima-ng", "ima-modsig", 1), denial.LogMalformed},
		"a digest without its name": {strings.Replace(good, "sha256:", "", 1), denial.LogMalformed},
		"a digest cut short":        {strings.Replace(good, digest, digest[:len(digest)-2], 1), denial.LogMalformed},
		"a line too long":           {strings.TrimSuffix(good, "\n") + strings.Repeat("x", 256<<10) + "\n", denial.LogMalformed},
		"a long name, other hash":   {strings.TrimSuffix(good, "\n") + strings.Repeat("x", 256<<10-len(good)+1) + "\n", denial.EventDigestMismatch},
		"ima with a long name":      {"10 " + hash + " ima " + strings.Repeat("0", 40) + " " + strings.Repeat("x", 256) + "\n", denial.LogMalformed},
		"ima with a short digest":   {"10 " + hash + " ima " + strings.Repeat("0", 38) + " x\n", denial.LogMalformed},
		"ima with another hash":     {"10 " + hash + " ima " + strings.Repeat("0", 40) + " x\n", denial.EventDigestMismatch},
		"ima-sig, other signature":  {"10 " + hash + " ima-sig " + digest + " /x 00\n", denial.EventDigestMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := attest.ParseIMAList([]byte(row.text))
			refused(t, nil, err, row.want)
		})
	}
}

// Entries at the edges of their form, in binary.
func TestIMAEntriesAtTheirEdges(t *testing.T) {
	t.Parallel()
	digest := imalog.Digest("sha256", make([]byte, 32))
	add := func(template string, fields ...[]byte) []byte {
		l := imalog.Empty()
		l.Add(23, template, fields...)
		return l.Bytes
	}
	legacy := func(name string) []byte {
		l := imalog.Empty()
		l.Legacy(name, [20]byte{1})
		return l.Bytes
	}
	long := append(append(legacy("x")[:51:51], 0, 1, 0, 0), make([]byte, 256)...)
	for name, row := range map[string]struct {
		list []byte
		want denial.Reason
	}{
		"no entries":                  {nil, 0},
		"a template of 64 characters": {add(strings.Repeat("a", 64)), 0},
		"every kind of character":     {add("az09-|", nil), 0},
		"a template of 65 characters": {add(strings.Repeat("a", 65)), denial.LogMalformed},
		"no template":                 {add(""), denial.LogMalformed},
		"before a":                    {add("`"), denial.LogMalformed},
		"behind z":                    {add("{"), denial.LogMalformed},
		"before 0":                    {add("/"), denial.LogMalformed},
		"behind 9":                    {add(":"), denial.LogMalformed},
		"an empty name":               {add("ima-ng", digest, imalog.Name("")), 0},
		"a name without its end":      {add("ima-ng", digest, []byte("x")), denial.LogMalformed},
		"no name at all":              {add("ima-ng", digest, nil), denial.LogMalformed},
		"a byte behind the end":       {add("ima-ng", digest, []byte("x\x00y")), denial.LogMalformed},
		"a field behind":              {add("ima-ng", digest, imalog.Name("x"), nil), denial.LogMalformed},
		"an empty digest":             {add("ima-ng", []byte("sha255:\x00"), imalog.Name("x")), denial.LogMalformed},
		"a digest that is no field":   {add("ima-ng", []byte("sha256:"), imalog.Name("x")), denial.LogMalformed},
		"ima, an empty name":          {legacy(""), 0},
		"ima, one name":               {legacy("x"), 0},
		"ima, cut short":              {legacy("x")[:len(legacy("x"))-1], denial.LogMalformed},
		"ima, NUL in the name":        {legacy("\x00"), denial.LogMalformed},
		"ima, NUL behind":             {legacy("x\x00"), denial.LogMalformed},
		"ima, 256 characters":         {long, denial.LogMalformed},
		"two bytes":                   {[]byte{10, 0}, denial.LogMalformed},
		"three bytes":                 {[]byte{10, 0, 0}, denial.LogMalformed},
		"no data":                     {add("ima-ng")[:34], denial.LogMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := attest.ParseIMAList(row.list)
			if row.want != 0 {
				refused(t, nil, err, row.want)
			} else if err != nil || l.Entries == nil {
				t.Errorf("got %v", err)
			}
		})
	}
}
