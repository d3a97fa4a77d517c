package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"strings"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/softtpm"
	"github.com/governed-execution/writ/test/swtpm"
	"github.com/governed-execution/writ/test/vectors"
)

// machine is a software TPM (swtpm) that really makes the extensions of each boot, and then quotes.
type machine struct {
	s   *setup
	tpm *swtpm.TPM
}

func newMachine(s *setup, banks ...string) *machine {
	return &machine{s, swtpm.New(s, swtpm.Options{Banks: banks})}
}

// after is what happens between a boot and the quote of it, and what is then collected beside the boot log.
type after struct {
	extends []swtpm.Extend
	osLog   []byte
	imaList []byte
	want    func(*attest.Want)
}

// boot resets the TPM, makes the extensions of the boot and collects evidence with its log.
func (m *machine) boot(b *bootlog.Boot) (attest.EvidenceParts, attest.Want) {
	return m.bootBank(b, "sha256", quoted)
}

func (m *machine) bootBank(b *bootlog.Boot, bank string, pcrs []int) (attest.EvidenceParts, attest.Want) {
	return m.bootThen(b, bank, pcrs, after{})
}

func (m *machine) bootThen(b *bootlog.Boot, bank string, pcrs []int, then after) (attest.EvidenceParts, attest.Want) {
	if err := m.tpm.Reset(m.s.ctx); err != nil {
		panic(fault(err.Error()))
	}
	var extends []swtpm.Extend
	for _, e := range b.Extends {
		extends = append(extends, swtpm.Extend{PCR: e.PCR, Digests: e.Digests})
	}
	if err := m.tpm.ExtendAll(m.s.ctx, append(extends, then.extends...)); err != nil {
		panic(fault(err.Error()))
	}
	tpm := must(attester.Open(m.s.ctx, m.tpm.Socket))
	defer tpm.Close()
	w := wants(nil)
	w.Selection = attest.Selection{Bank: bank, PCRs: pcrs}
	if then.want != nil {
		then.want(&w)
	}
	c := must(tpm.Collect(m.s.ctx, attester.CollectOptions{Challenge: w.Challenge, RequestDigest: w.Request, Exporter: w.Exporter,
		Selection: w.Selection, Bind: w.Bind, Audit: w.Audit, EventLog: b.Log, IMALogPath: os.DevNull}))
	p := takeApart(c.Evidence)
	p.OSLog, p.IMALog = then.osLog, then.imaList
	w.AK = p.AK
	return p, w
}

// takeApart reads evidence, without the checks of its verifier.
func takeApart(raw []byte) attest.EvidenceParts {
	q := openQuote(raw)
	var p attest.EvidenceParts
	p.Quote, p.Signature, p.AK, p.CNF = unwrap(q.value(0)), unwrap(q.value(1)), unwrap(q.value(3)), unwrap(q.value(5))
	certify := items(q.value(4))
	p.Certify = attest.Certification{Attest: unwrap(certify[0]), Signature: unwrap(certify[1])}
	copy(p.Challenge[:], unwrap(q.value(7)))
	copy(p.Request[:], unwrap(q.value(8)))
	bank := items(items(q.value(2))[0])
	p.Bank, p.PCRs = "sha256", map[int64][]byte{}
	if !bytes.Equal(bank[0], number(-16)) {
		p.Bank = "sha384"
	}
	for _, v := range open(bank[1]) {
		p.PCRs[int64(v.key[len(v.key)-1])] = unwrap(v.value)
	}
	if raw := q.value(10); raw != nil {
		session := items(raw)
		p.Session = &attest.AuditSession{Attest: unwrap(session[0]), Signature: unwrap(session[1])}
		for _, response := range items(session[2]) {
			p.Session.Responses = append(p.Session.Responses, unwrap(response))
		}
	}
	p.BootLog = bootLogOf(raw)
	return p
}

// logVectors break the boot log. The quote is a true one of swtpm: either of the true boot, while another log is shown, or
// of a boot that did what the shown log says.
func logVectors(s *setup) []vectors.Vector {
	m := newMachine(s)
	l := &list{prefix: "log", signer: "swtpm", layer: "log"}
	l.accepts(m)
	l.shown(m)
	l.booted(m)
	l.forms(m)
	l.banks(newMachine(s, "sha256", "sha384"))
	l.located(s)
	return l.all
}

// good adds a log that is accepted, with its facts.
func (l *list) good(what string, p attest.EvidenceParts, w attest.Want, f vectors.Facts) {
	l.add(what, accepted, func(v *vectors.Vector) {
		v.Evidence = evidence(p, w)
		v.Evidence.Facts = &f
	})
}

func (l *list) bad(what string, code denial.Reason, p attest.EvidenceParts, w attest.Want) {
	l.add(what, code, func(v *vectors.Vector) { v.Evidence = evidence(p, w) })
}

var wide = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 14}

// accepts adds logs that must be accepted: what no digest covers may say anything, and proves nothing.
func (l *list) accepts(m *machine) {
	image := []byte("the kernel image of the generated machine")
	line := "root=/dev/vda2 ro console=ttyS0 lockdown=integrity"
	on := vectors.Facts{SecureBootPresent: true, SecureBootEnabled: true, Authorities: 1, BootApps: []string{vectors.Digest(image)}, CommandLine: []string{line}}
	b := bootlog.New(bootlog.Options{})
	p, w := m.boot(b)
	l.good("a unified kernel image with Secure Boot on", p, w, on)
	off := on
	off.SecureBootEnabled, off.Authorities, off.BootApps = false, 0, []string{vectors.Digest(image), vectors.Digest(image)}
	pOff, wOff := m.boot(bootlog.New(bootlog.Options{NoSecureBoot: true}))
	l.good("L18: Secure Boot off, for a policy to refuse", pOff, wOff, off)
	grub := bootlog.New(bootlog.Options{GRUB: true})
	pGrub, wGrub := m.bootBank(grub, "sha256", wide)
	images := []string{vectors.Digest([]byte("shim of the generated machine")), vectors.Digest([]byte("GRUB of the generated machine")), vectors.Digest(image)}
	l.good("shim and GRUB", pGrub, wGrub, vectors.Facts{SecureBootPresent: true, SecureBootEnabled: true, Authorities: 2, BootApps: images,
		CommandLine: []string{"/boot/vmlinuz " + line}})
	show := func(what string, f vectors.Facts, edit func([]bootlog.Event) []bootlog.Event) {
		q := p
		q.BootLog = bootlog.Encode(b.Banks, edit(slices.Clone(b.Events))).Log
		l.good(what, q, w, f)
	}
	show("L04: the device path of an image rewritten", on, change(4, bootlog.BootApplication, 0, func(e *bootlog.Event) { e.Data[60] ^= 1 }))
	silent := on
	silent.CommandLine = []string{}
	show("L04: the kernel command line rewritten under the old digest", silent, change(12, bootlog.IPL, 0, func(e *bootlog.Event) { e.Data[0] ^= 1 }))
	variable := bootlog.New(bootlog.Options{}).Events[find(b.Events, 7, bootlog.VariableConfig, 0)].Data
	pNo, wNo := pOff, wOff
	plain := bootlog.New(bootlog.Options{NoSecureBoot: true})
	pNo.BootLog = bootlog.Encode(plain.Banks, append(slices.Clone(plain.Events), bootlog.Event{PCR: 7, Type: bootlog.NoAction, Data: variable})).Log
	l.good("L08: an event without effect that says SecureBoot is 1", pNo, wNo, off)
	absent := bootlog.Encode(b.Banks, remove(b.Events, 7, bootlog.VariableConfig, 0))
	pAbsent, wAbsent := m.boot(absent)
	l.good("L19: no SecureBoot variable, which is no Secure Boot", pAbsent, wAbsent,
		vectors.Facts{BootApps: on.BootApps, CommandLine: on.CommandLine})
	pMore, wMore := m.boot(with(b, bootlog.Event{PCR: 4, Type: bootlog.Action, Data: []byte("Returning from EFI Application from Boot Option")}))
	l.good("an action in PCR 4", pMore, wMore, on)
	ones := bootlog.Encode(b.Banks, change(6, bootlog.Separator, 0, func(e *bootlog.Event) { e.Data = bytes.Repeat([]byte{0xff}, 4) })(slices.Clone(b.Events)))
	pOnes, wOnes := m.boot(ones)
	l.good("a separator of ones", pOnes, wOnes, on)
	pDriver, wDriver := m.boot(with(b, bootlog.Event{PCR: 2, Type: 0x80000004, Data: make([]byte, 32), Measured: []byte("a driver")}))
	driver := on
	driver.BootApps = append(slices.Clone(on.BootApps), vectors.Digest([]byte("a driver")))
	l.good("a driver in PCR 2", pDriver, wDriver, driver)
}

// find returns the position of the n-th event of a PCR and type.
func find(events []bootlog.Event, pcr uint32, kind bootlog.Type, n int) int {
	for i, e := range events {
		if e.PCR == pcr && e.Type == kind {
			if n--; n < 0 {
				return i
			}
		}
	}
	panic(fault("no such event"))
}

// change edits one event and keeps its digest, unless the edit says what is measured.
func change(pcr uint32, kind bootlog.Type, n int, edit func(*bootlog.Event)) func([]bootlog.Event) []bootlog.Event {
	return func(events []bootlog.Event) []bootlog.Event {
		e := &events[find(events, pcr, kind, n)]
		if e.Measured == nil {
			e.Measured = e.Data
		}
		old := e.Data
		e.Data = slices.Clone(e.Data)
		edit(e)
		if kind == bootlog.Separator && len(e.Data) > 0 && !bytes.Equal(e.Data, old) && e.Data[0] == 0xff {
			e.Measured = nil
		}
		return events
	}
}

func remove(events []bootlog.Event, pcr uint32, kind bootlog.Type, n int) []bootlog.Event {
	at := find(events, pcr, kind, n)
	return slices.Delete(slices.Clone(events), at, at+1)
}

func with(b *bootlog.Boot, more ...bootlog.Event) *bootlog.Boot {
	return bootlog.Encode(b.Banks, append(slices.Clone(b.Events), more...))
}

// shown adds another log beside the true quote.
func (l *list) shown(m *machine) {
	b := bootlog.New(bootlog.Options{})
	p, w := m.boot(b)
	show := func(what string, code denial.Reason, events []bootlog.Event) {
		q := p
		q.BootLog = bootlog.Encode(b.Banks, events).Log
		l.bad(what, code, q, w)
	}
	without := func(pcr uint32) []bootlog.Event {
		return slices.DeleteFunc(slices.Clone(b.Events), func(e bootlog.Event) bool { return e.PCR == pcr })
	}
	show("L01: all events of PCR 4 deleted", denial.LogUncovered, without(4))
	show("L01: all events of PCR 12 deleted", denial.LogUncovered, without(12))
	show("L02: a log of one event", denial.LogUncovered, b.Events[:1])
	show("L02: a log of no events", denial.LogUncovered, nil)
	show("one event deleted", denial.LogReplayMismatch, remove(b.Events, 4, bootlog.BootApplication, 0))
	swapped := slices.Clone(b.Events)
	i, j := find(swapped, 0, bootlog.FirmwareBlob, 0), find(swapped, 0, bootlog.FirmwareBlob, 1)
	swapped[i], swapped[j] = swapped[j], swapped[i]
	show("two events exchanged", denial.LogReplayMismatch, swapped)
	show("the digest of an image rewritten", denial.LogReplayMismatch, change(4, bootlog.BootApplication, 0, func(e *bootlog.Event) {
		e.Measured = []byte("another image")
	})(slices.Clone(b.Events)))
	show("F13: the log of another boot", denial.LogReplayMismatch, bootlog.New(bootlog.Options{CommandLine: "quiet"}).Events)
	show("L03: an image called a firmware volume", denial.EventUnexpected, retype(b, 4, bootlog.BootApplication, 0, bootlog.FirmwareBlob))
	show("L03: an image called an action", denial.EventDigestMismatch, retype(b, 4, bootlog.BootApplication, 0, bootlog.Action))
	show("L03: an action called an image", denial.EventUnexpected, retype(b, 4, bootlog.Action, 0, bootlog.BootApplication))
	show("L03: the SecureBoot variable called an authority", denial.EventUnexpected, retype(b, 7, bootlog.VariableConfig, 0, bootlog.VariableAuthority))
	show("L03: db called an authority", denial.EventUnexpected, retype(b, 7, bootlog.VariableConfig, 3, bootlog.VariableAuthority))
	show("L03: dbx called a policy of a device", denial.EventUnexpected, retype(b, 7, bootlog.VariableConfig, 4, 0x800000E3))
	show("L03: an image called an event without effect", denial.LogReplayMismatch, retype(b, 4, bootlog.BootApplication, 0, bootlog.NoAction))
	show("L04: the SecureBoot variable rewritten under the old digest", denial.EventDigestMismatch,
		change(7, bootlog.VariableConfig, 0, func(e *bootlog.Event) { e.Data[len(e.Data)-1] ^= 1 })(slices.Clone(b.Events)))
	show("L04: a separator rewritten under the old digest", denial.EventDigestMismatch,
		change(0, bootlog.Separator, 0, func(e *bootlog.Event) { e.Data = []byte{0, 0, 0, 1} })(slices.Clone(b.Events)))
	show("L04: the text of an action rewritten under the old digest", denial.EventDigestMismatch,
		change(5, bootlog.Action, 0, func(e *bootlog.Event) { e.Data[0] ^= 1 })(slices.Clone(b.Events)))
	early := slices.Clone(b.Events)
	authority := early[find(early, 7, bootlog.VariableAuthority, 0)]
	early = remove(early, 7, bootlog.VariableAuthority, 0)
	early = slices.Insert(early, find(early, 7, bootlog.VariableConfig, 0), authority)
	show("an authority before the variables", denial.LogReplayMismatch, early)
	l.raw(m, p, w, b)
}

// retype gives an event another type, and keeps data and digest.
func retype(b *bootlog.Boot, pcr uint32, from bootlog.Type, n int, to bootlog.Type) []bootlog.Event {
	events := slices.Clone(b.Events)
	e := &events[find(events, pcr, from, n)]
	e.Digests = b.Extends[0].Digests
	e.Digests = digestsOf(b, pcr, from, n)
	e.Type = to
	return events
}

// digestsOf returns the digests of an event as the boot extended them.
func digestsOf(b *bootlog.Boot, pcr uint32, kind bootlog.Type, n int) map[string][]byte {
	at, extended := find(b.Events, pcr, kind, n), 0
	for _, e := range b.Events[:at] {
		if e.Type != bootlog.NoAction {
			extended++
		}
	}
	return b.Extends[extended].Digests
}

// booted adds logs whose machine really did what they say: they replay, and are refused for what they say.
func (l *list) booted(m *machine) {
	b := bootlog.New(bootlog.Options{})
	did := func(what string, code denial.Reason, b *bootlog.Boot) {
		p, w := m.boot(b)
		l.bad(what, code, p, w)
	}
	edited := func(edit func([]bootlog.Event) []bootlog.Event) *bootlog.Boot {
		return bootlog.Encode(b.Banks, edit(slices.Clone(b.Events)))
	}
	variable := func(n int) bootlog.Event { return b.Events[find(b.Events, 7, bootlog.VariableConfig, n)] }
	other := variable(0)
	other.Data = append([]byte{0}, other.Data[1:]...)
	did("L05: a variable after the separator of PCR 7", denial.EventUnexpected, with(b, other))
	did("L05: an action after the separator of PCR 7", denial.EventUnexpected, with(b, bootlog.Event{PCR: 7, Type: bootlog.Action, Data: []byte("UEFI Debug Mode")}))
	for _, pcr := range []uint32{0, 4, 7} {
		name := "PCR " + string(rune('0'+pcr))
		did("L06: no separator in "+name, denial.EventUnexpected, bootlog.Encode(b.Banks, remove(b.Events, pcr, bootlog.Separator, 0)))
		did("L07: two separators in "+name, denial.EventUnexpected, with(b, bootlog.Event{PCR: pcr, Type: bootlog.Separator, Data: make([]byte, 4)}))
	}
	did("L07: the SecureBoot variable twice", denial.EventUnexpected, edited(func(events []bootlog.Event) []bootlog.Event {
		return slices.Insert(events, find(events, 7, bootlog.VariableConfig, 1), variable(0))
	}))
	did("a separator of another value", denial.EventUnexpected, edited(func(events []bootlog.Event) []bootlog.Event {
		events[find(events, 6, bootlog.Separator, 0)].Data = []byte{1, 0, 0, 0}
		return events
	}))
	did("L08: a StartupLocality event after PCR 0 was extended", denial.EventUnexpected, with(b, bootlog.Event{PCR: 0, Type: bootlog.NoAction, Data: []byte("StartupLocality\x00\x00")}))
	did("L08: two StartupLocality events", denial.EventUnexpected, edited(func(events []bootlog.Event) []bootlog.Event {
		locality := bootlog.Event{PCR: 0, Type: bootlog.NoAction, Data: []byte("StartupLocality\x00\x00")}
		return slices.Insert(events, 0, locality, locality)
	}))
	did("an event of a type that belongs in no firmware PCR", denial.EventUnexpected, with(b, bootlog.Event{PCR: 1, Type: bootlog.IPL, Data: []byte("text")}))
	did("L20: Secure Boot on, and no authority", denial.SecureBootKeys, bootlog.Encode(b.Banks, remove(b.Events, 7, bootlog.VariableAuthority, 0)))
	did("L21: Secure Boot on, and PK is a test key", denial.SecureBootKeys, bootlog.New(bootlog.Options{PlatformKey: "DO NOT TRUST - Test PK"}))
	action := func(text string) bootlog.Event {
		return bootlog.Event{PCR: 5, Type: bootlog.Action, Data: []byte(text)}
	}
	did("an action that is not plain text", denial.EventUnexpected, with(b, action("a\x1fb")))
	did("an action with a byte above plain text", denial.EventUnexpected, with(b, action("a\x7fb")))
	did("an action without text", denial.EventUnexpected, with(b, action("")))
	did("an action that is too long", denial.EventUnexpected, with(b, action(strings.Repeat("a", 4097))))
	entry := b.Events[find(b.Events, 7, bootlog.VariableAuthority, 0)]
	before := func(e bootlog.Event) *bootlog.Boot {
		return edited(func(events []bootlog.Event) []bootlog.Event {
			return slices.Insert(events, find(events, 7, bootlog.Separator, 0), e)
		})
	}
	forged := entry
	forged.Measured, forged.Data = entry.Data, append(slices.Clone(entry.Data), 0)
	did("an authority before the separator whose digest covers other data", denial.EventDigestMismatch, before(forged))
	cut := entry
	cut.Data = entry.Data[:20]
	did("an authority before the separator that is cut short", denial.LogMalformed, before(cut))
	l.variables(did, edited)
}

// variables break the UEFI variables of PCR 7, in logs that replay.
func (l *list) variables(did func(string, denial.Reason, *bootlog.Boot), edited func(func([]bootlog.Event) []bootlog.Event) *bootlog.Boot) {
	malformed := func(what string, n int, edit func([]byte) []byte) {
		did(what, denial.LogMalformed, edited(func(events []bootlog.Event) []bootlog.Event {
			e := &events[find(events, 7, bootlog.VariableConfig, n)]
			e.Data = edit(slices.Clone(e.Data))
			return events
		}))
	}
	const db = 32 + 2*len("db") // where the signature list of db begins
	put := func(at int, value uint32) func([]byte) []byte {
		return func(d []byte) []byte { binary.LittleEndian.PutUint32(d[at:], value); return d }
	}
	malformed("a variable cut short", 1, func(d []byte) []byte { return d[:len(d)-1] })
	malformed("a byte behind a variable", 1, func(d []byte) []byte { return append(d, 0) })
	malformed("a variable with a NUL in its name", 1, func(d []byte) []byte { d[32], d[33] = 0, 0; return d })
	malformed("a variable whose name is not UTF-16", 1, func(d []byte) []byte { d[33] = 0xd8; return d })
	malformed("a variable whose name ends within a character", 1, func(d []byte) []byte { d[35] = 0xd8; return d })
	malformed("L12: a variable whose name is longer than the log", 1, func(d []byte) []byte { binary.LittleEndian.PutUint64(d[16:], 1<<63+2); return d })
	malformed("L12: a variable that is longer than the log", 1, func(d []byte) []byte { binary.LittleEndian.PutUint64(d[24:], 1<<63); return d })
	malformed("L18: a SecureBoot variable of two bytes", 0, func(d []byte) []byte { d[24] = 2; return append(d, 1) })
	malformed("L12: a signature of 4 GiB", 3, put(db+24, 0xFFFFFFFF))
	malformed("L12: a signature of no bytes", 3, put(db+24, 0))
	malformed("L12: a signature of 15 bytes", 3, put(db+24, 15))
	malformed("L12: a signature list of 4 GiB", 3, put(db+16, 0xFFFFFFFF))
	malformed("L12: a signature list of no bytes", 3, put(db+16, 0))
	malformed("L11: a vendor header of 4 GiB", 3, put(db+20, 0xFFFFFFFF))
	malformed("L11: a vendor header of one byte that is not there", 3, put(db+20, 1))
}

// raw adds logs whose bytes are wrong, beside the true quote.
func (l *list) raw(m *machine, p attest.EvidenceParts, w attest.Want, b *bootlog.Boot) {
	log := func(what string, code denial.Reason, log []byte) {
		q := p
		q.BootLog = log
		l.bad(what, code, q, w)
	}
	set := func(at int, value ...byte) []byte { out := slices.Clone(b.Log); copy(out[at:], value); return out }
	const spec, first = 32, 32 + 16 + 8 + 4 + 4 + 1 // where the Spec ID structure and the first event begin
	log("L28: the last event cut short", denial.LogMalformed, b.Log[:len(b.Log)-1])
	log("L28: the header cut short", denial.LogMalformed, b.Log[:40])
	log("L28: the digest of an event cut short", denial.LogMalformed, b.Log[:first+20])
	log("L28: bytes behind the last event", denial.LogMalformed, append(slices.Clone(b.Log), 0, 0, 0, 0))
	log("the header belongs to PCR 1", denial.LogMalformed, set(0, 1))
	log("the header has a digest", denial.LogMalformed, set(8, 1))
	log("a Spec ID structure of another major version", denial.LogMalformed, set(spec+21, 1))
	log("a Spec ID structure of another minor version", denial.LogMalformed, set(spec+20, 1))
	log("a Spec ID structure with a UINTN of no bytes", denial.LogMalformed, set(spec+23, 0))
	log("a Spec ID structure with a UINTN of three", denial.LogMalformed, set(spec+23, 3))
	log("L12: a Spec ID structure with 4 Gi algorithms", denial.LogMalformed, set(spec+24, 0xff, 0xff, 0xff, 0xff))
	log("a Spec ID structure without algorithms", denial.LogMalformed, bootlog.Encode(nil, nil).Log)
	log("a Spec ID structure with SHA-256 of 20 bytes", denial.LogMalformed, set(spec+30, 20))
	log("a Spec ID structure with vendor information that is not there", denial.LogMalformed, set(spec+32, 4))
	twoBanks := bootlog.Encode([]string{"sha1", "sha256"}, nil).Log
	copy(twoBanks[spec+32:], []byte{4, 0, 20, 0})
	log("a Spec ID structure that names an algorithm twice", denial.LogMalformed, twoBanks)
	odd := bootlog.Encode([]string{"sha1", "sha256"}, nil).Log
	copy(odd[spec+28:], []byte{0x99, 0, 65, 0})
	log("a Spec ID structure with an unknown algorithm of 65 bytes", denial.LogMalformed, odd)
	odd = slices.Clone(odd)
	copy(odd[spec+28:], []byte{0x99, 0, 0, 0})
	log("a Spec ID structure with an unknown algorithm of no bytes", denial.LogMalformed, odd)
	log("L16: a log of SHA-1 alone", denial.BankNotAllowed, bootlog.New(bootlog.Options{Banks: []string{"sha1"}}).Log)
	var legacy []byte
	for range 3 {
		legacy = append(append(append(legacy, 0, 0, 0, 0, 4, 0, 0, 0), make([]byte, 20)...), 4, 0, 0, 0, 0, 0, 0, 0)
	}
	log("L16: a log of the older form", denial.BankNotAllowed, legacy)
	log("no log, but zeros", denial.LogMalformed, make([]byte, 31))
	log("a log of the older form with PCR 99", denial.LogMalformed, append([]byte{99, 0, 0, 0}, make([]byte, 28)...))
	log("L10: an event of PCR 99", denial.LogMalformed, with(b, bootlog.Event{PCR: 99, Type: bootlog.IPL}).Log)
	log("L10: an event without effect of PCR 99", denial.LogMalformed, with(b, bootlog.Event{PCR: 99, Type: bootlog.NoAction}).Log)
	log("L10: an event that extends no PCR", denial.LogMalformed, with(b, bootlog.Event{PCR: 0xffffffff, Type: bootlog.IPL}).Log)
	log("L28: an event with no digest", denial.LogMalformed, set(first+8, 0))
	log("L28: an event with more digests than banks", denial.LogMalformed, set(first+8, 2))
	log("L28: an event with a digest of an undeclared algorithm", denial.LogMalformed, set(first+12, 4))
	log("L12: an event with 4 GiB of data", denial.LogMalformed, set(first+12+2+32, 0xff, 0xff, 0xff, 0xff))
	log("L09: a startup locality of 9", denial.LogMalformed, bootlog.New(bootlog.Options{Locality: 9}).Log)
	locality := func(data string) []byte {
		return bootlog.Encode(b.Banks, slices.Insert(slices.Clone(b.Events), 0, bootlog.Event{PCR: 0, Type: bootlog.NoAction, Data: []byte(data)})).Log
	}
	log("L09: a StartupLocality event that is too long", denial.LogMalformed, locality("StartupLocality\x00\x00\x00"))
	log("L09: a startup locality that is not the true one", denial.LogReplayMismatch, locality("StartupLocality\x00\x03"))
	log("L13: a log of more than 1 MiB", denial.RequestLimit, with(b, bootlog.Event{PCR: 4, Type: bootlog.NoAction, Data: make([]byte, 1<<20)}).Log)
	small := bootlog.Event{PCR: 4, Type: bootlog.NoAction}
	log("L13: 4097 events", denial.RequestLimit, with(b, slices.Repeat([]bootlog.Event{small}, 4097-len(b.Events))...).Log)
}

// forms adds H-CRTM events in the wrong place.
func (l *list) forms(m *machine) {
	b := bootlog.New(bootlog.Options{})
	hcrtm := bootlog.Event{PCR: 0, Type: 0x80000010, Data: []byte("HCRTM")}
	for what, at := range map[string]int{"an H-CRTM event that does not come first": 1} {
		p, w := m.boot(bootlog.Encode(b.Banks, slices.Insert(slices.Clone(b.Events), at, hcrtm)))
		l.bad(what, denial.EventUnexpected, p, w)
	}
	hcrtm.PCR = 1
	p, w := m.boot(bootlog.Encode(b.Banks, slices.Insert(slices.Clone(b.Events), 0, hcrtm)))
	l.bad("an H-CRTM event of PCR 1", denial.EventUnexpected, p, w)
}

// banks adds what concerns a TPM with two banks.
func (l *list) banks(m *machine) {
	both := bootlog.New(bootlog.Options{Banks: []string{"sha256", "sha384"}})
	p, w := m.bootBank(both, "sha384", quoted)
	e := evidence(p, w)
	l.add("a quote of the SHA-384 bank", accepted, func(v *vectors.Vector) { v.Evidence = e })
	q := p
	q.BootLog = bootlog.New(bootlog.Options{}).Log
	l.bad("L15: the SHA-384 bank is quoted, but the log does not declare it", denial.BankUncapped, q, w)
	header := len(bootlog.Encode([]string{"sha256"}, nil).Log)
	extra := bootlog.Encode([]string{"sha256"}, []bootlog.Event{{PCR: 12, Type: bootlog.EventTag, Data: []byte("only SHA-256")}}).Log[header:]
	q.BootLog = append(slices.Clone(both.Log), extra...)
	l.bad("L14: an event without a digest in the quoted bank", denial.LogUncovered, q, w)
	doubled := slices.Clone(both.Log)
	first := len(bootlog.Encode(both.Banks, nil).Log)
	copy(doubled[first+12+2+32-2+2:], []byte{0x0b, 0})
	q.BootLog = doubled
	l.bad("L28: two digests of one algorithm", denial.LogMalformed, q, w)
}

// located adds logs of machines that swtpm cannot be: with another startup locality.
func (l *list) located(s *setup) {
	l.signer = "software"
	h := newHost(s, softtpm.Options{})
	for name, locality := range map[string]byte{"3": 3, "4": 4} {
		h.boot = bootlog.New(bootlog.Options{Locality: locality})
		l.bad("L09: a startup locality of "+name, accepted, h.parts(), h.want)
	}
	located := bootlog.New(bootlog.Options{Locality: 4})
	hcrtm := bootlog.Event{PCR: 0, Type: 0x80000010, Data: []byte("HCRTM")}
	h.boot = bootlog.Encode(located.Banks, slices.Insert(slices.Clone(located.Events), 1, hcrtm))
	p := h.parts()
	p.BootLog = bootlog.Encode(located.Banks, slices.Delete(slices.Clone(h.boot.Events), 0, 1)).Log
	l.bad("an H-CRTM event, which starts PCR 0 at 4", accepted, p, h.want)
}
