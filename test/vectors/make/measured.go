package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/imalog"
	"github.com/governed-execution/writ/test/swtpm"
	"github.com/governed-execution/writ/test/vectors"
)

// measuredVectors break what the system measures after the boot: the log of systemd, and the list of IMA. The quote is a true
// one of swtpm, which extended what the system would have.
func measuredVectors(s *setup) []vectors.Vector {
	m := newMachine(s)
	l := &list{prefix: "os", signer: "swtpm", layer: "log"}
	l.systemd(m)
	l.prefix = "ima"
	l.ima(m)
	return l.all
}

// osRecord is one record as systemd writes it, with the digest of another text than it tells.
func osRecord(pcr int, text, digestOf string) string {
	return fmt.Sprintf("\x1e{\"pcr\":%d,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":\"%x\"}],\"content_type\":\"systemd\","+
		"\"content\":{\"string\":%q,\"bootId\":\"0f\",\"timestamp\":1,\"eventType\":\"phase\"}}\n", pcr, sha256.Sum256([]byte(digestOf)), text)
}

func extendsOf(pcr int, text string) swtpm.Extend {
	d := sha256.Sum256([]byte(text))
	return swtpm.Extend{PCR: pcr, Digests: map[string][]byte{"sha256": d[:]}}
}

var running = []int{0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 15}

func (l *list) systemd(m *machine) {
	b := bootlog.New(bootlog.Options{})
	then := func(what string, code denial.Reason, log string, extends ...swtpm.Extend) {
		p, w := m.bootThen(b, "sha256", running, after{extends: extends, osLog: []byte(log)})
		l.bad(what, code, p, w)
	}
	ready, separator := osRecord(11, "ready", "ready"), osRecord(7, "os-separator", "os-separator")
	did, separated := extendsOf(11, "ready"), extendsOf(7, "os-separator")
	then("what systemd measured, with its log", accepted, separator+ready, separated, did)
	then("a record of an NV index, which no PCR holds", accepted, ready+"\x1e{\"nv_index\":25166336,\"digests\":[]}\n", did)
	then("a text that its digest does not cover, which proves nothing", accepted, osRecord(11, "another text", "ready"), did)
	then("no log of what systemd measured", denial.LogReplayMismatch, "", did)
	then("a log of what nobody measured", denial.LogReplayMismatch, ready)
	then("a record left out", denial.LogReplayMismatch, separator, separated, did)
	then("records in another order", denial.LogReplayMismatch, osRecord(11, "a", "a")+osRecord(11, "b", "b"), extendsOf(11, "b"), extendsOf(11, "a"))
	then("a digest of another text", denial.LogReplayMismatch, osRecord(11, "ready", "other"), did)
	then("L05: the system extends PCR 7 with something else", denial.EventUnexpected, osRecord(7, "SecureBoot", "SecureBoot"), extendsOf(7, "SecureBoot"))
	then("L05: the system separates PCR 7 twice", denial.EventUnexpected, separator+separator, separated, separated)
	then("a PCR without a digest in the quoted bank", denial.LogUncovered, strings.ReplaceAll(ready, `{"hashAlg":"sha256","digest":"`+hex.EncodeToString(did.Digests["sha256"])+`"}`,
		`{"hashAlg":"sha1","digest":"`+strings.Repeat("00", 20)+`"}`), did)
	digests := `"digests":[{"hashAlg":"sha256","digest":"` + hex.EncodeToString(did.Digests["sha256"]) + `"}]`
	for _, row := range [][2]string{
		{"no separator before a record", ready[1:]}, {"a record cut short", ready[:len(ready)-1]}, {"a record cut short before another", ready[:len(ready)-1] + ready},
		{"two texts in a record", ready + ready[1:]}, {"a record that is no JSON", "\x1enonsense\n"}, {"an empty record", "\x1e" + ready},
		{"a record of no PCR", "\x1e{" + digests + "}\n"}, {"a record of a PCR and an NV index", "\x1e{\"pcr\":11,\"nv_index\":1," + digests + "}\n"},
		{"a record of PCR 24", "\x1e{\"pcr\":24," + digests + "}\n"}, {"a record of PCR -1", "\x1e{\"pcr\":-1," + digests + "}\n"},
		{"a record without digests", "\x1e{\"pcr\":11,\"digests\":[]}\n"},
		{"a digest twice", strings.Replace(ready, `"digests":[`, `"digests":[{"hashAlg":"sha256","digest":"`+strings.Repeat("00", 32)+`"},`, 1)},
		{"a digest that is too short", strings.Replace(ready, hex.EncodeToString(did.Digests["sha256"]), "00", 1)},
		{"a digest that is no hexadecimal", strings.Replace(ready, hex.EncodeToString(did.Digests["sha256"]), strings.Repeat("zz", 32), 1)},
		{"a digest of an unknown algorithm", strings.Replace(ready, "sha256", "md5", 1)},
	} {
		then(row[0]+" in the log of systemd", denial.LogMalformed, row[1], did)
	}
	then("L13: a log of systemd of more than 256 KiB", denial.RequestLimit, strings.Repeat(ready, attest.MaxOSLog/len(ready)+1), did)
	then("L13: a log of systemd of more than 4096 records", denial.RequestLimit, "\x1e{}\n"+strings.Repeat("\x1e", 4097)+"\n", did)
}

// measuring is a machine with IMA.
type measuring struct {
	list    *imalog.List
	extends []swtpm.Extend
}

// add adds an entry, and has the TPM extended as the kernel does.
func (n *measuring) add(f func(*imalog.List)) *measuring {
	f(n.list)
	n.extends = append(n.extends, swtpm.Extend{PCR: 10, Digests: map[string][]byte{"sha256": n.list.Last()["sha256"]}})
	return n
}

var withIMA = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}

func fileDigest(content string) string {
	return "sha256:" + hex.EncodeToString(imalog.Sum("sha256", content))
}

func (l *list) ima(m *machine) {
	b := bootlog.New(bootlog.Options{})
	pcrs := b.PCRs("sha256")
	for _, p := range []int64{8, 9} {
		if pcrs[p] == nil {
			pcrs[p] = make([]byte, 32)
		}
	}
	aggregate := imalog.Digest("sha256", imalog.Aggregate("sha256", pcrs, 9))
	file := func(path, content string) func(*imalog.List) { return func(l *imalog.List) { l.File(path, content) } }
	entry := func(template string, fields ...[]byte) func(*imalog.List) {
		return func(l *imalog.List) { l.Add(10, template, fields...) }
	}
	booted := func() *measuring {
		return (&measuring{list: imalog.Empty()}).add(entry("ima-ng", aggregate, imalog.Name("boot_aggregate")))
	}
	shown := func(what string, code denial.Reason, n *measuring, list []byte, edit func(*attest.Want)) {
		p, w := m.bootThen(b, "sha256", withIMA, after{extends: n.extends, imaList: list, want: func(w *attest.Want) {
			w.IMA = attest.IMAReference{Known: []string{fileDigest("agent")}, Watch: []string{"/opt/agent/*"}}
			if edit != nil {
				edit(w)
			}
		}})
		l.bad(what, code, p, w)
	}
	did := func(what string, code denial.Reason, n *measuring) { shown(what, code, n, n.list.Bytes, nil) }
	good := func() *measuring { return booted().add(file("/opt/agent/run", "agent")) }

	did("boot_aggregate and a file", accepted, good())
	did("I01: a violation, for a policy to refuse", accepted, good().add(func(l *imalog.List) { l.Violation("/opt/agent/run") }))
	did("an unknown file, for a policy to refuse", accepted, good().add(file("/tmp/evil", "evil")))
	longer := good()
	n := *longer.list
	longer.list = &n
	list := append(bytes.Clone(longer.list.Bytes), imalogTail()...)
	shown("I02: a list that goes on behind the quoted value", accepted, longer, list, nil)
	short := good()
	before := bytes.Clone(short.list.Bytes)
	short.add(file("/usr/bin/other", "other"))
	shown("I02: the last entry left out", denial.LogReplayMismatch, short, before, nil)
	left := booted().add(file("/usr/bin/other", "other"))
	shown("I02: an entry left out in the middle", denial.LogReplayMismatch, booted().add(file("/opt/agent/run", "agent")).add(file("/usr/bin/other", "other")), left.list.Bytes, nil)
	g := good()
	shown("no list", denial.LogUncovered, g, nil, nil)
	shown("a list where PCR 10 is not quoted", denial.LogUncovered, g, g.list.Bytes, func(w *attest.Want) {
		w.Selection.PCRs, w.IMA = withIMA[:10], attest.IMAReference{}
	})
	shown("the digest of a file rewritten", denial.EventDigestMismatch, g, bytes.Replace(g.list.Bytes, imalog.Sum("sha256", "agent"), imalog.Sum("sha256", "other"), 1), nil)
	flipped := bytes.Clone(g.list.Bytes)
	flipped[4] ^= 1
	shown("a template hash rewritten", denial.EventDigestMismatch, g, flipped, nil)
	zeros := bytes.Clone(g.list.Bytes)
	at := len(booted().list.Bytes)
	copy(zeros[at+4:at+24], make([]byte, 20))
	shown("I01: a measured file called a violation", denial.LogReplayMismatch, g, zeros, nil)
	did("I06: no boot_aggregate", denial.LogReplayMismatch, (&measuring{list: imalog.Empty()}).add(file("/init", "init")))
	did("I06: a violation first", denial.LogReplayMismatch, (&measuring{list: imalog.Empty()}).add(func(l *imalog.List) { l.Violation("boot_aggregate") }))
	did("I06: boot_aggregate of another boot", denial.LogReplayMismatch,
		(&measuring{list: imalog.Empty()}).add(entry("ima-ng", imalog.Digest("sha256", make([]byte, 32)), imalog.Name("boot_aggregate"))))
	did("I06: boot_aggregate of a buffer", denial.LogReplayMismatch, (&measuring{list: imalog.Empty()}).add(entry("ima-buf", aggregate, imalog.Name("boot_aggregate"), nil)))
	did("I07: boot_aggregate of the SHA-1 bank", denial.BankNotAllowed,
		(&measuring{list: imalog.Empty()}).add(entry("ima-ng", imalog.Digest("sha1", make([]byte, 20)), imalog.Name("boot_aggregate"))))
	did("I07: an entry of template ima", denial.BankNotAllowed, good().add(func(l *imalog.List) { l.Legacy("/bin/sh", [20]byte{1}) }))
	did("I07: a file by SHA-1", denial.BankNotAllowed, good().add(entry("ima-ng", imalog.Digest("sha1", make([]byte, 20)), imalog.Name("/bin/sh"))))
	did("I08: an entry of an unknown template", denial.IMAUnknownFile, good().add(entry("d-ng|n-ng", imalog.Digest("sha256", make([]byte, 32)), imalog.Name("/bin/sh"))))
	extended := good()
	extended.extends = append(extended.extends, extendsOf(10, "nobody logged this"))
	did("I08: PCR 10 extended without an entry", denial.LogReplayMismatch, extended)
	did("a buffer with another digest", denial.EventDigestMismatch, good().add(entry("ima-buf", imalog.Digest("sha256", make([]byte, 32)), imalog.Name(".ima"), []byte("certificate"))))
	did("a file with a signature called a buffer", denial.EventDigestMismatch, good().add(entry("ima-buf", imalog.Digest("sha256", imalog.Sum("sha256", "evil")), imalog.Name("evil"), []byte{3, 2, 4})))
	did("a buffer's template without its buffer", denial.LogMalformed, good().add(entry("ima-buf", imalog.Digest("sha256", make([]byte, 32)), imalog.Name(".ima"))))
	shown("a list cut short", denial.LogMalformed, g, g.list.Bytes[:len(g.list.Bytes)-1], nil)
	shown("a byte behind a list", denial.LogMalformed, g, append(bytes.Clone(g.list.Bytes), 10), nil)
	imaForms(did, good, entry)
	l.imaWants(shown, good)
}

// imaForms breaks the form of entries.
func imaForms(did func(string, denial.Reason, *measuring), good func() *measuring, entry func(string, ...[]byte) func(*imalog.List)) {
	for what, fields := range map[string][][]byte{
		"a digest of no algorithm":          {imalog.Digest("sha255", make([]byte, 32)), imalog.Name("/bin/sh")},
		"a digest of another length":        {imalog.Digest("sha256", make([]byte, 31)), imalog.Name("/bin/sh")},
		"I03: a NUL in a name":              {imalog.Digest("sha256", make([]byte, 32)), imalog.Name("/bin/sh\x00x")},
		"a name without its NUL":            {imalog.Digest("sha256", make([]byte, 32)), []byte("/bin/sh")},
		"a field too many":                  {imalog.Digest("sha256", make([]byte, 32)), imalog.Name("/bin/sh"), {1}},
		"a digest without its colon":        {append([]byte("sha256\x00"), make([]byte, 32)...), imalog.Name("/bin/sh")},
		"a digest without NUL behind colon": {append([]byte("sha256:"), make([]byte, 33)...)[:39], imalog.Name("/bin/sh")},
	} {
		did(what+" of IMA", denial.LogMalformed, good().add(entry("ima-ng", fields...)))
	}
	did("another kind of digest of IMA", denial.LogMalformed, good().add(entry("ima-ngv2", append([]byte("evm:"), imalog.Digest("sha256", make([]byte, 32))...), imalog.Name("/bin/sh"))))
	outside := good()
	outside.list.Add(24, "ima-ng", imalog.Digest("sha256", make([]byte, 32)), imalog.Name("/bin/sh"))
	did("an entry of PCR 24", denial.LogMalformed, outside)
	many := good()
	for i := range 1025 {
		many.add(func(l *imalog.List) { l.Buffer("dm_table_load", fmt.Sprint(i)) })
	}
	did("more buffers than facts hold", denial.RequestLimit, many)
}

// imalogTail is an entry that follows the quoted value.
func imalogTail() []byte {
	tail := imalog.Empty()
	tail.File("/tmp/later", "later")
	return tail.Bytes
}

// imaWants are verifiers that know files in no form that can be compared, or where nothing would show them.
func (l *list) imaWants(shown func(string, denial.Reason, *measuring, []byte, func(*attest.Want)), good func() *measuring) {
	g := good()
	key := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	weak := must(x509.MarshalPKIXPublicKey(key.Public()))
	for what, edit := range map[string]func(*attest.Want){
		"a digest in capitals":        func(w *attest.Want) { w.IMA.Known = []string{strings.ToUpper(fileDigest("agent"))} },
		"a digest of SHA-1":           func(w *attest.Want) { w.IMA.Known = []string{"sha1:" + strings.Repeat("00", 20)} },
		"a digest of another length":  func(w *attest.Want) { w.IMA.Known = []string{"sha256:00"} },
		"a key that cannot be read":   func(w *attest.Want) { w.IMA.Keys = [][]byte{{1}} },
		"a key that is too weak":      func(w *attest.Want) { w.IMA.Keys = [][]byte{weak} },
		"a path that is not absolute": func(w *attest.Want) { w.IMA.Watch = []string{"opt"} },
		"PCR 10 without PCR 8":        func(w *attest.Want) { w.Selection.PCRs = []int{0, 1, 2, 3, 4, 5, 6, 7, 9, 10} },
		"files, but not PCR 10":       func(w *attest.Want) { w.Selection.PCRs = withIMA[:10] },
	} {
		shown("a verifier that knows "+what, denial.Internal, g, g.list.Bytes, edit)
	}
}
