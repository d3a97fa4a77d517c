package attest_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/imalog"
	"github.com/governed-execution/writ/test/softtpm"
)

// imaWorld is a host whose policy wants PCR 10, with a list that has one known file.
type imaWorld struct {
	*world
	list *imalog.List
}

func newIMAWorld(tb testing.TB) *imaWorld {
	tb.Helper()
	w := &imaWorld{world: newWorld(tb, softtpm.Options{})}
	w.want.Selection.PCRs = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for _, p := range []int64{8, 9} {
		if w.pcrs[p] == nil {
			w.pcrs[p] = make([]byte, 32)
		}
	}
	w.want.IMA = attest.IMAReference{Known: []string{fileDigest("agent")}, Watch: []string{"/opt/agent/*", "/init"}}
	w.list = imalog.New("sha256", w.pcrs)
	w.list.File("/opt/agent/run", "agent")
	return w
}

func fileDigest(content string) string {
	return "sha256:" + hex.EncodeToString(imalog.Sum("sha256", content))
}

// verifyIMA verifies evidence with a list and a value of PCR 10.
func (w *imaWorld) verifyIMA(tb testing.TB, list, pcr10 []byte) (*attest.Facts, error) {
	tb.Helper()
	w.pcrs[10] = pcr10
	e := w.evidence(tb)
	e.IMALog = list
	return verify(encode(tb, e), w.want)
}

func (w *imaWorld) facts(tb testing.TB) attest.IMA {
	tb.Helper()
	f, err := w.verifyIMA(tb, w.list.Bytes, w.list.PCR10("sha256"))
	if err != nil {
		tb.Fatal(err)
	}
	return f.Claims().IMA
}

func TestIMAFacts(t *testing.T) {
	w := newIMAWorld(t)
	w.list.File("/opt/agent/lib.so", "agent")
	w.list.File("/opt/agent/run", "agent") // again, from another filesystem
	w.list.File("/usr/bin/other", "other")
	w.list.Buffer(".ima", "certificate")
	w.list.Buffer(".ima", "certificate")
	w.list.Add(11, "ima-ng", imalog.Digest("sha256", imalog.Sum("sha256", "x")), imalog.Name("/in/pcr11"))
	w.list.Add(10, "ima-ngv2", append([]byte("verity:"), imalog.Digest("sha256", imalog.Sum("sha256", "v"))...), imalog.Name("/init"))
	w.list.Add(10, "ima-modsig", imalog.Digest("sha256", imalog.Sum("sha256", "agent")), imalog.Name("/lib/x.ko"), nil, nil, []byte{1})
	got := w.facts(t)
	reference, err := w.want.IMA.Digest()
	if err != nil {
		t.Fatal(err)
	}
	want := attest.IMA{Present: true, Entries: 9, Unknown: 2, Reference: reference,
		Files: []attest.IMAFile{{Path: "/opt/agent/run", Digest: fileDigest("agent")}, {Path: "/opt/agent/lib.so", Digest: fileDigest("agent")},
			{Path: "/init", Digest: "verity:" + fileDigest("v")}},
		Buffers: []attest.Buffer{{Name: ".ima", Digest: fileDigest("certificate")}}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// Kernels before 5.8 hash PCRs 0 to 7; after kexec the list goes on with another boot_aggregate.
func TestBootAggregateOfOtherKernels(t *testing.T) {
	w := newIMAWorld(t)
	aggregate := imalog.Digest("sha256", imalog.Aggregate("sha256", w.pcrs, 7))
	w.list = imalog.Empty()
	w.list.Add(10, "ima-sig", aggregate, imalog.Name("boot_aggregate"), nil)
	w.list.Add(10, "ima-ng", aggregate, imalog.Name("boot_aggregate"))
	if got := w.facts(t); got.Entries != 2 || got.Unknown != 0 {
		t.Errorf("got %+v", got)
	}
	w.list.Add(10, "ima-ng", imalog.Digest("sha256", make([]byte, 32)), imalog.Name("boot_aggregate"))
	if got := w.facts(t); got.Unknown != 1 {
		t.Errorf("a file called boot_aggregate: got %+v", got)
	}
}

func TestSHA384BankOfIMA(t *testing.T) {
	w := newIMAWorld(t)
	w.useSHA384(t)
	w.list = imalog.New("sha384", w.pcrs)
	w.list.File("/opt/agent/run", "agent")
	f, err := w.verifyIMA(t, w.list.Bytes, w.list.PCR10("sha384"))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Claims().IMA; got.Entries != 2 || got.Unknown != 0 {
		t.Errorf("got %+v", got)
	}
	w.list = imalog.New("sha256", w.pcrs)
	facts, err := w.verifyIMA(t, w.list.Bytes, w.list.PCR10("sha384"))
	refusedAt(t, facts, err, denial.BankNotAllowed, denial.StageFacts)
}

// A host goes on measuring while it is quoted: what follows the quoted value counts for nothing.
func TestI02_ListLongerThanTheQuote(t *testing.T) {
	w := newIMAWorld(t)
	pcr10 := w.list.PCR10("sha256")
	w.list.File("/tmp/evil", "evil")
	w.list.Violation("/tmp/evil")
	f, err := w.verifyIMA(t, w.list.Bytes, pcr10)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Claims().IMA; got.Entries != 2 || got.Unknown != 0 || got.Violations != 0 {
		t.Errorf("got %+v", got)
	}
}

// Each row is a good list with one thing broken, and the value of PCR 10 that the broken list gives.
func TestIMAListIsRefused(t *testing.T) {
	for _, row := range []struct {
		name string
		make func(w *imaWorld) (list, pcr10 []byte)
		want denial.Reason
	}{
		{"no list", func(w *imaWorld) (list, pcr10 []byte) { return nil, w.list.PCR10("sha256") }, denial.LogUncovered},
		{"no list and no measurement", func(w *imaWorld) (list, pcr10 []byte) { return nil, make([]byte, 32) }, denial.LogUncovered},
		{"I02 list shorter than the quote", func(w *imaWorld) (list, pcr10 []byte) {
			short := bytes.Clone(w.list.Bytes)
			w.list.File("/usr/bin/other", "other")
			return short, w.list.PCR10("sha256")
		}, denial.LogReplayMismatch},
		{"I02 entry left out", func(w *imaWorld) (list, pcr10 []byte) {
			full := *w.list
			w.list = imalog.New("sha256", w.pcrs)
			w.list.File("/usr/bin/other", "other")
			return w.list.Bytes, full.PCR10("sha256")
		}, denial.LogReplayMismatch},
		{"digest of a file changed", func(w *imaWorld) (list, pcr10 []byte) {
			return bytes.Replace(w.list.Bytes, imalog.Sum("sha256", "agent"), imalog.Sum("sha256", "other"), 1), w.list.PCR10("sha256")
		}, denial.EventDigestMismatch},
		{"template hash changed", func(w *imaWorld) (list, pcr10 []byte) {
			l := bytes.Clone(w.list.Bytes)
			l[4] ^= 1
			return l, w.list.PCR10("sha256")
		}, denial.EventDigestMismatch},
		{"I01 a measured file called a violation", func(w *imaWorld) (list, pcr10 []byte) {
			l, n := bytes.Clone(w.list.Bytes), len(imalog.New("sha256", w.pcrs).Bytes)
			copy(l[n+4:n+24], make([]byte, 20))
			return l, w.list.PCR10("sha256")
		}, denial.LogReplayMismatch},
		{"I06 no boot_aggregate", func(w *imaWorld) (list, pcr10 []byte) { return first(func(l *imalog.List) { l.File("/init", "init") }) },
			denial.LogReplayMismatch},
		{"I06 a violation first", func(w *imaWorld) (list, pcr10 []byte) {
			return first(func(l *imalog.List) { l.Violation("boot_aggregate") })
		},
			denial.LogReplayMismatch},
		{"I06 boot_aggregate of another boot", func(w *imaWorld) (list, pcr10 []byte) {
			return first(func(l *imalog.List) {
				l.Add(10, "ima-ng", imalog.Digest("sha256", make([]byte, 32)), imalog.Name("boot_aggregate"))
			})
		}, denial.LogReplayMismatch},
		{"I06 boot_aggregate of a buffer", func(w *imaWorld) (list, pcr10 []byte) {
			return first(func(l *imalog.List) {
				l.Add(10, "ima-buf", imalog.Digest("sha256", imalog.Aggregate("sha256", w.pcrs, 9)), imalog.Name("boot_aggregate"), nil)
			})
		}, denial.LogReplayMismatch},
		{"I07 boot_aggregate of the SHA-1 bank", func(w *imaWorld) (list, pcr10 []byte) {
			return first(func(l *imalog.List) {
				l.Add(10, "ima-ng", imalog.Digest("sha1", make([]byte, 20)), imalog.Name("boot_aggregate"))
			})
		}, denial.BankNotAllowed},
		{"I07 template ima", func(w *imaWorld) (list, pcr10 []byte) { w.list.Legacy("/bin/sh", [20]byte{1}); return w.both() },
			denial.BankNotAllowed},
		{"I07 file by SHA-1", func(w *imaWorld) (list, pcr10 []byte) {
			w.list.Add(10, "ima-ng", imalog.Digest("sha1", make([]byte, 20)), imalog.Name("/bin/sh"))
			return w.both()
		}, denial.BankNotAllowed},
		{"I07 SHA-1 of the template, padded", func(w *imaWorld) (list, pcr10 []byte) { return w.list.Bytes, padded(w.list.Bytes) },
			denial.BankNotAllowed},
		{"I08 entry of an unknown template", func(w *imaWorld) (list, pcr10 []byte) {
			w.list.Add(10, "d-ng|n-ng", imalog.Digest("sha256", imalog.Sum("sha256", "agent")), imalog.Name("/bin/sh"))
			return w.both()
		}, denial.IMAUnknownFile},
		{"I08 extended without an entry", func(w *imaWorld) (list, pcr10 []byte) {
			sum := sha256.Sum256(append(w.list.PCR10("sha256"), make([]byte, 32)...))
			return w.list.Bytes, sum[:]
		}, denial.LogReplayMismatch},
		{"buffer with another digest", func(w *imaWorld) (list, pcr10 []byte) {
			w.list.Add(10, "ima-buf", imalog.Digest("sha256", make([]byte, 32)), imalog.Name(".ima"), []byte("certificate"))
			return w.both()
		}, denial.EventDigestMismatch},
		{"a file with a signature called a buffer", func(w *imaWorld) (list, pcr10 []byte) {
			w.list.Add(10, "ima-buf", imalog.Digest("sha256", imalog.Sum("sha256", "evil")), imalog.Name("evil"), []byte{3, 2, 4})
			return w.both()
		}, denial.EventDigestMismatch},
		{"a buffer's template without its buffer", func(w *imaWorld) (list, pcr10 []byte) {
			w.list.Add(10, "ima-buf", imalog.Digest("sha256", make([]byte, 32)), imalog.Name(".ima"))
			return w.both()
		}, denial.LogMalformed},
		{"cut short", func(w *imaWorld) (list, pcr10 []byte) {
			return w.list.Bytes[:len(w.list.Bytes)-1], w.list.PCR10("sha256")
		},
			denial.LogMalformed},
		{"a byte behind", func(w *imaWorld) (list, pcr10 []byte) { return append(w.list.Bytes, 10), w.list.PCR10("sha256") },
			denial.LogMalformed},
		{"no digest algorithm", func(w *imaWorld) (list, pcr10 []byte) {
			w.list.Add(10, "ima-ng", imalog.Digest("sha255", make([]byte, 32)), imalog.Name("/bin/sh"))
			return w.both()
		}, denial.LogMalformed},
		{"digest of another length", func(w *imaWorld) (list, pcr10 []byte) {
			w.list.Add(10, "ima-ng", imalog.Digest("sha256", make([]byte, 31)), imalog.Name("/bin/sh"))
			return w.both()
		}, denial.LogMalformed},
		{"NUL in a name", func(w *imaWorld) (list, pcr10 []byte) {
			w.list.Add(10, "ima-ng", imalog.Digest("sha256", make([]byte, 32)), imalog.Name("/bin/sh\x00x"))
			return w.both()
		}, denial.LogMalformed},
		{"another kind of digest", func(w *imaWorld) (list, pcr10 []byte) {
			w.list.Add(10, "ima-ngv2", append([]byte("evm:"), imalog.Digest("sha256", make([]byte, 32))...), imalog.Name("/bin/sh"))
			return w.both()
		}, denial.LogMalformed},
		{"no PCR", func(w *imaWorld) (list, pcr10 []byte) {
			w.list.Add(24, "ima-ng", imalog.Digest("sha256", make([]byte, 32)), imalog.Name("/bin/sh"))
			return w.both()
		}, denial.LogMalformed},
		{"more watched files than facts hold", func(w *imaWorld) (list, pcr10 []byte) {
			for i := range 1025 {
				w.list.File(fmt.Sprint("/opt/agent/", i), "agent")
			}
			return w.both()
		}, denial.RequestLimit},
		{"longer paths than facts hold", func(w *imaWorld) (list, pcr10 []byte) {
			for i := range 65 {
				w.list.File(fmt.Sprint("/opt/agent/", strings.Repeat("x", 4090), i), "agent")
			}
			return w.both()
		}, denial.RequestLimit},
		{"more buffers than facts hold", func(w *imaWorld) (list, pcr10 []byte) {
			for i := range 1025 {
				w.list.Buffer("dm_table_load", fmt.Sprint(i))
			}
			return w.both()
		}, denial.RequestLimit},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newIMAWorld(t)
			list, pcr10 := row.make(w)
			facts, err := w.verifyIMA(t, list, pcr10)
			refusedAt(t, facts, err, row.want, denial.StageFacts)
		})
	}
}

func (w *imaWorld) both() (list, pcr10 []byte) { return w.list.Bytes, w.list.PCR10("sha256") }

// first returns a list with this entry in place of boot_aggregate.
func first(add func(*imalog.List)) (list, pcr10 []byte) {
	l := imalog.Empty()
	add(l)
	return l.Bytes, l.PCR10("sha256")
}

// padded returns the SHA-256 PCR 10 of a kernel before 5.8, for a list of entries with one data length each.
func padded(list []byte) []byte {
	value := make([]byte, 32)
	for len(list) > 0 {
		name := binary.LittleEndian.Uint32(list[24:])
		data := binary.LittleEndian.Uint32(list[28+name:])
		sum := sha256.Sum256(append(append(bytes.Clone(value), list[4:24]...), make([]byte, 12)...))
		value, list = sum[:], list[32+name+data:]
	}
	return value
}

func TestI01_ViolationsAreCounted(t *testing.T) {
	w := newIMAWorld(t)
	early := imalog.New("sha256", w.pcrs)
	early.Violation("/init")
	whole := w.list
	if w.list = early; w.facts(t).Violations != 1 {
		t.Errorf("the entry behind boot_aggregate is no violation: %+v", w.facts(t))
	}
	w.list = whole
	w.list.Violation("/opt/agent/run")
	w.list.Violation("/var/log/messages")
	if got := w.facts(t); got.Violations != 2 || got.Unknown != 0 || len(got.Files) != 1 {
		t.Errorf("got %+v", got)
	}
}

// A name is one name, whatever is in it, and two names are never the same text.
func TestI03_NamesWithNewlines(t *testing.T) {
	w := newIMAWorld(t)
	w.want.IMA.Watch = []string{"/x/*"}
	names := []string{"/x/a\n10 00 ima-ng sha256:00 /opt/agent/run", "/x/a b", `/x/\x0a`, "/x/\n", "/x/\xff", "/x/\u202e"}
	for _, n := range names {
		w.list.File(n, "evil")
	}
	got := w.facts(t)
	if got.Unknown != int64(len(names)) {
		t.Errorf("got %d unknown files, want %d", got.Unknown, len(names))
	}
	want := []string{`/x/a\x0a10 00 ima-ng sha256:00 /opt/agent/run`, "/x/a b", `/x/\x5cx0a`, `/x/\x0a`, `/x/\xff`, `/x/\xe2\x80\xae`}
	for i, f := range got.Files {
		if f.Path != want[i] {
			t.Errorf("got %q, want %q", f.Path, want[i])
		}
	}
}

// An ima-sig entry under the name of ima-buf is not lost as a buffer.
func TestBufferWithAPathIsAFile(t *testing.T) {
	w := newIMAWorld(t)
	w.list.Buffer("/opt/agent/evil", "evil")
	if got := w.facts(t); got.Unknown != 1 || len(got.Files) != 2 || len(got.Buffers) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestFilesThatAreKnownInNoForm(t *testing.T) {
	w := newIMAWorld(t)
	w.want.IMA.Known = []string{"x"}
	facts, err := w.verifyIMA(t, w.list.Bytes, w.list.PCR10("sha256"))
	refusedAt(t, facts, err, denial.Internal, denial.StageQuote)
}

func TestIMAListThatNothingCovers(t *testing.T) {
	w := newIMAWorld(t)
	w.want.Selection.PCRs, w.want.IMA = w.want.Selection.PCRs[:8], attest.IMAReference{}
	facts, err := w.verifyIMA(t, w.list.Bytes, nil)
	refusedAt(t, facts, err, denial.LogUncovered, denial.StageFacts)
	for name, list := range map[string][]byte{"empty": {}, "too large": make([]byte, attest.MaxIMALog+1)} {
		want := map[string]denial.Reason{"empty": denial.NoEvidence, "too large": denial.RequestLimit}[name]
		facts, err := w.verifyIMA(t, list, nil)
		refused(t, facts, err, want)
	}
}

func TestWantOfIMA(t *testing.T) {
	for name, edit := range map[string]func(*attest.Want){
		"PCR 9 left out":                 func(w *attest.Want) { w.Selection.PCRs = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 10} },
		"files known, PCR 10 not wanted": func(w *attest.Want) { w.Selection.PCRs = w.Selection.PCRs[:10] },
		"a digest in capitals":           func(w *attest.Want) { w.IMA.Known = []string{strings.ToUpper(fileDigest("x"))} },
		"a SHA-1 digest":                 func(w *attest.Want) { w.IMA.Known = []string{"sha1:" + strings.Repeat("0", 40)} },
		"a relative path":                func(w *attest.Want) { w.IMA.Watch = []string{"opt/*"} },
		"a pattern":                      func(w *attest.Want) { w.IMA.Watch = []string{"/opt/*/x"} },
		"a key that is none":             func(w *attest.Want) { w.IMA.Keys = [][]byte{{0x30, 0}} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newIMAWorld(t)
			edit(&w.want)
			facts, err := w.verifyIMA(t, w.list.Bytes, w.list.PCR10("sha256"))
			refusedAt(t, facts, err, denial.Internal, denial.StageQuote)
		})
	}
}

// imaSign makes the content of security.ima: a signature of version 2, or 3 over struct ima_file_id.
func imaSign(tb testing.TB, key crypto.Signer, kind, version byte, digest []byte) []byte {
	tb.Helper()
	if version == 3 {
		sum := sha256.Sum256(append([]byte{kind, 4}, digest...))
		digest = sum[:]
	}
	sig, err := key.Sign(rand.Reader, digest, crypto.SHA256)
	if err != nil {
		tb.Fatal(err)
	}
	id := sha1.Sum(keyBits(tb, key))
	head := append([]byte{kind, version, 4}, id[16:]...)
	return append(binary.BigEndian.AppendUint16(head, uint16(len(sig))), sig...)
}

// keyBits returns the content of subjectPublicKey.
func keyBits(tb testing.TB, key crypto.Signer) []byte {
	tb.Helper()
	switch k := key.Public().(type) {
	case *rsa.PublicKey:
		return x509.MarshalPKCS1PublicKey(k)
	case *ecdsa.PublicKey:
		b, err := k.Bytes()
		if err != nil {
			tb.Fatal(err)
		}
		return b
	}
	tb.Fatal("an unknown key")
	return nil
}

func TestSignedFiles(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum, verity := imalog.Sum("sha256", "signed"), func(sum []byte) []byte { return append([]byte("verity:"), imalog.Digest("sha256", sum)...) }
	plain := imalog.Digest("sha256", sum)
	edit := func(at int, b byte) []byte {
		sig := imaSign(t, ec, 3, 2, sum)
		sig[at] ^= b
		return sig
	}
	renamed := imaSign(t, stranger, 3, 2, sum)
	copy(renamed[3:7], imaSign(t, ec, 3, 2, sum)[3:7])
	for _, row := range []struct {
		name     string
		template string
		digest   []byte
		sig      []byte
		want     bool
	}{
		{"P-256", "ima-sig", plain, imaSign(t, ec, 3, 2, sum), true},
		{"RSA", "ima-sig", plain, imaSign(t, rs, 3, 2, sum), true},
		{"version 3", "ima-sig", plain, imaSign(t, rs, 3, 3, sum), true},
		{"fs-verity", "ima-sigv2", verity(sum), imaSign(t, rs, 6, 3, sum), true},
		{"fs-verity, called version 2", "ima-sigv2", verity(sum), append([]byte{6, 2}, imaSign(t, rs, 6, 3, sum)[2:]...), false},
		{"none", "ima-sig", plain, nil, false},
		{"a stranger's", "ima-sig", plain, imaSign(t, stranger, 3, 2, sum), false},
		{"a stranger's under a known name", "ima-sig", plain, renamed, false},
		{"of another file", "ima-sig", imalog.Digest("sha256", imalog.Sum("sha256", "evil")), imaSign(t, ec, 3, 2, sum), false},
		{"of a file, for fs-verity", "ima-sigv2", verity(sum), imaSign(t, ec, 3, 2, sum), false},
		{"of fs-verity, for a file", "ima-sig", plain, imaSign(t, ec, 6, 3, sum), false},
		{"of metadata", "ima-sig", plain, edit(0, 3^5), false},
		{"another version", "ima-sig", plain, edit(1, 1), false},
		{"another hash", "ima-sig", plain, edit(2, 1), false},
		{"another length", "ima-sig", plain, edit(8, 1), false},
		{"one bit", "ima-sig", plain, edit(40, 1), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newIMAWorld(t)
			w.want.IMA = attest.IMAReference{Watch: []string{"/signed"}}
			for _, key := range []crypto.Signer{ec, rs} {
				der, err := x509.MarshalPKIXPublicKey(key.Public())
				if err != nil {
					t.Fatal(err)
				}
				w.want.IMA.Keys = append(w.want.IMA.Keys, der)
			}
			w.list = imalog.New("sha256", w.pcrs)
			w.list.Add(10, row.template, row.digest, imalog.Name("/signed"), row.sig)
			got := w.facts(t)
			if len(got.Files) != 1 || got.Files[0].Signed != row.want || (got.Unknown == 0) != row.want {
				t.Errorf("got %+v, want signed %t", got, row.want)
			}
			w.want.IMA.Known = []string{got.Files[0].Digest}
			if got = w.facts(t); len(got.Files) != 1 || got.Files[0].Signed != row.want || got.Unknown != 0 {
				t.Errorf("known by its digest: got %+v, want signed %t", got, row.want)
			}
			w.want.IMA.Known, w.want.IMA.Watch = nil, nil
			if got = w.facts(t); len(got.Files) != 0 || (got.Unknown == 0) != row.want {
				t.Errorf("not watched: got %+v, want signed %t", got, row.want)
			}
		})
	}
}

// useSHA384 makes the world one of the SHA-384 bank.
func (w *imaWorld) useSHA384(tb testing.TB) {
	tb.Helper()
	boot := bootlog.New(bootlog.Options{Banks: []string{"sha256", "sha384"}})
	w.log, w.pcrs, w.want.Selection.Bank = boot.Log, boot.PCRs("sha384"), "sha384"
}

// PCR 10 belongs to the operating system: a boot log that extends it is refused, though the list explains the value.
func TestBootLogThatExtendsPCR10(t *testing.T) {
	w := newIMAWorld(t)
	digest := imalog.Sum("sha256", "firmware")
	e := binary.LittleEndian.AppendUint32(nil, 10)  // PCR
	e = binary.LittleEndian.AppendUint32(e, 0x0D)   // EV_IPL
	e = binary.LittleEndian.AppendUint32(e, 1)      // digests
	e = binary.LittleEndian.AppendUint16(e, 0x000B) // SHA-256
	e = binary.LittleEndian.AppendUint32(append(e, digest...), 0)
	w.log = append(bytes.Clone(w.log), e...)
	facts, err := w.verifyIMA(t, w.list.Bytes, w.list.PCR10("sha256"))
	refusedAt(t, facts, err, denial.EventUnexpected, denial.StageFacts)
}
