package corpus

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/imalog"
	"github.com/governed-execution/writ/test/softtpm"
)

// world is a host with valid evidence, and what else it, or another, could have put into its place.
type world struct {
	want   attest.Want
	parts  attest.EvidenceParts
	raw    []byte // of parts
	facts  attest.Claims
	donors []attest.EvidenceParts // valid, but for another challenge, connection, host or boot
	keys   []string               // names of cnf keys in donors that this host's AK certified, with the policy of this boot
}

// newWorlds makes a host for each kind of AK.
func newWorlds(tb testing.TB) (worlds []world) {
	tb.Helper()
	for _, alg := range []softtpm.Algorithm{softtpm.P384, softtpm.P256, softtpm.RSA2048, softtpm.RSA2048PSS} {
		worlds = append(worlds, newWorld(tb, softtpm.Options{AK: alg}))
	}
	return worlds
}

// pick returns the first world, whose P-384 takes ten times as long as the others, for one case in sixteen.
func (m mutator) pick(worlds []world) *world {
	if m.IntN(16) == 0 {
		return &worlds[0]
	}
	return &worlds[1+m.IntN(len(worlds)-1)]
}

// newWorld makes a host whose AK is of the given kind. Hosts boot in different ways, and send different things: that of P-256
// an audit session, that of RSASSA an IMA list, that of RSAPSS a log of systemd.
func newWorld(tb testing.TB, o softtpm.Options) world {
	tb.Helper()
	vendor := softtpm.NewVendor(tb)
	tpm, stranger := vendor.New(tb, o), vendor.New(tb, o)
	banks := []string{"sha256"}
	if o.AK == softtpm.P256 {
		banks = append(banks, "sha384")
	}
	boot := bootlog.New(bootlog.Options{Banks: banks, GRUB: o.AK == softtpm.RSA2048, Locality: 3})
	off := bootlog.New(bootlog.Options{Banks: banks, NoSecureBoot: true, CommandLine: "init=/bin/sh"})
	w := world{want: attest.Want{
		AK: tpm.AK, Challenge: attest.NewNonce(), Request: statement.DigestOf([]byte("request")), Exporter: [32]byte{7},
		Selection: attest.Selection{Bank: "sha256", PCRs: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12}}, Bind: []int{4, 7, 11},
	}}
	switch o.AK {
	case softtpm.P256:
		w.want.Audit = true
	case softtpm.RSA2048:
		w.want.Selection.PCRs = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
		w.want.IMA = attest.IMAReference{Known: []string{"sha256:" + hex.EncodeToString(imalog.Sum("sha256", "agent"))}, Watch: []string{"/opt/*"}}
	}
	make := func(t *softtpm.TPM, b *bootlog.Boot, edit func(*attest.Want)) attest.EvidenceParts {
		want, pcrs := w.want, b.PCRs("sha256")
		edit(&want)
		var system, list []byte
		switch o.AK {
		case softtpm.P256:
			t.Banks, t.Boot = map[string]map[int64][]byte{"sha384": b.PCRs("sha384")}, b.Log[:64]
		case softtpm.RSA2048:
			ima := imalog.New("sha256", pcrs)
			ima.File("/opt/agent", "agent")
			ima.File("/usr/bin/other", "other")
			list, pcrs[10] = ima.Bytes, ima.PCR10("sha256")
		case softtpm.RSA2048PSS:
			system = measureOS(pcrs, "enter-initrd", "leave-initrd", "ready")
		}
		p := t.Evidence(tb, want, pcrs, b.Log).EvidenceParts
		p.OSLog, p.IMALog = system, list
		return p
	}
	w.parts = make(tpm, boot, func(*attest.Want) {})
	w.donors = []attest.EvidenceParts{
		make(tpm, boot, func(a *attest.Want) { a.Challenge = attest.NewNonce() }),
		make(tpm, boot, func(a *attest.Want) { a.Exporter[0]++ }),
		make(tpm, off, func(a *attest.Want) { a.Request = statement.DigestOf([]byte("another request")) }),
		make(stranger, boot, func(*attest.Want) {}),
		make(stranger, off, func(*attest.Want) {}),
	}
	for _, d := range w.donors[:2] {
		name, err := attest.Name(d.CNF)
		if err != nil {
			tb.Fatal(err)
		}
		w.keys = append(w.keys, hex.EncodeToString(name))
	}
	var err error
	if w.raw, err = w.parts.Encode(); err != nil {
		tb.Fatal(err)
	}
	facts, err := w.verify(w.raw)
	if err != nil {
		tb.Fatal(err)
	}
	w.facts = facts.Claims()
	return w
}

// measureOS extends PCR 11 with the texts, as systemd does, and returns its log.
func measureOS(pcrs map[int64][]byte, texts ...string) (log []byte) {
	for _, text := range texts {
		digest := sha256.Sum256([]byte(text))
		value := sha256.Sum256(append(slices.Clone(pcrs[11]), digest[:]...))
		pcrs[11] = value[:]
		log = fmt.Appendf(log, "\x1e{\"pcr\":11,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":\"%x\"}],\"content_type\":\"systemd\","+
			"\"content\":{\"string\":%q,\"bootId\":\"0f\",\"timestamp\":1,\"eventType\":\"phase\"}}\n", digest, text)
	}
	return log
}

func (w *world) verify(raw []byte) (*attest.Facts, error) {
	ev, err := attest.DecodeEvidence(raw)
	if err != nil {
		return nil, err
	}
	return attest.Verify(ev, w.want)
}

// mutate returns evidence that is another than the valid one: changed bytes, changed parts in an encoding that is valid,
// a changed boot log, or parts of other valid evidence. A part that cannot be encoded gives nil.
func (w *world) mutate(m mutator) []byte {
	p := w.parts
	p.PCRs, p.Session = maps.Clone(p.PCRs), copyOf(p.Session)
	donor := w.donors[m.IntN(len(w.donors))]
	switch m.IntN(8) {
	case 0, 1:
		return m.bytes(w.raw)
	case 2:
		raw := m.bytes(w.raw)
		for range 1 + m.IntN(3) {
			raw = m.bytes(raw)
		}
		return raw
	case 3, 4:
		part := fieldsOf(&p)[m.IntN(len(fieldsOf(&p)))]
		*part = m.bytes(*part)
	case 5:
		p.BootLog = m.log(p.BootLog)
	case 6:
		w.exchange(m, &p, donor)
	case 7:
		w.lie(m, &p, donor)
	}
	raw, err := p.Encode()
	if err != nil {
		return nil
	}
	return raw
}

// fieldsOf returns the parts that are bytes.
func fieldsOf(p *attest.EvidenceParts) []*[]byte {
	fields := []*[]byte{&p.Quote, &p.Signature, &p.AK, &p.Certify.Attest, &p.Certify.Signature, &p.CNF, &p.BootLog}
	for _, log := range []*[]byte{&p.OSLog, &p.IMALog} {
		if *log != nil {
			fields = append(fields, log)
		}
	}
	if p.Session != nil {
		fields = append(fields, &p.Session.Attest, &p.Session.Signature)
		for i := range p.Session.Responses {
			fields = append(fields, &p.Session.Responses[i])
		}
	}
	return fields
}

func copyOf(s *attest.AuditSession) *attest.AuditSession {
	if s == nil {
		return nil
	}
	return &attest.AuditSession{Attest: s.Attest, Signature: s.Signature, Responses: slices.Clone(s.Responses)}
}

// exchange takes one or more parts from other valid evidence.
func (w *world) exchange(m mutator, p *attest.EvidenceParts, donor attest.EvidenceParts) {
	own, other := fieldsOf(p), fieldsOf(&donor)
	for i := range own {
		if m.IntN(3) == 0 {
			*own[i] = *other[i]
		}
	}
	if m.IntN(3) == 0 {
		p.Challenge, p.Request = donor.Challenge, donor.Request
	}
	if m.IntN(3) == 0 {
		p.PCRs = donor.PCRs
	}
}

// lie changes what no signature covers by itself: PCR values, bank, challenge and request.
func (w *world) lie(m mutator, p *attest.EvidenceParts, donor attest.EvidenceParts) {
	pcrs := slices.Sorted(maps.Keys(p.PCRs))
	pcr := pcrs[m.IntN(len(pcrs))]
	switch m.IntN(8) {
	case 7: // a session that lacks an answer, or has one too many or another order
		if s := p.Session; s != nil {
			i, j := m.IntN(len(s.Responses)), m.IntN(len(s.Responses))
			switch m.IntN(3) {
			case 0:
				s.Responses = slices.Delete(s.Responses, i, i+1)
			case 1:
				s.Responses = slices.Insert(s.Responses, i, s.Responses[j])
			case 2:
				s.Responses[i], s.Responses[j] = s.Responses[j], s.Responses[i]
			}
		} else {
			p.Session = donor.Session
			p.OSLog, p.IMALog = p.IMALog, p.OSLog
		}
	case 0:
		p.PCRs[pcr] = m.bytes(p.PCRs[pcr])
	case 1:
		delete(p.PCRs, pcr)
	case 2:
		p.PCRs[int64(m.IntN(26))] = m.some(32)
	case 3: // the values that a changed log gives
		p.BootLog = m.log(p.BootLog)
		p.PCRs = given(p.BootLog, "sha256", p.PCRs)
	case 4:
		p.BootLog, p.PCRs = donor.BootLog, donor.PCRs
	case 5:
		p.Bank = []string{"sha1", "sha384", "sha512", "sm3_256"}[m.IntN(4)]
	case 6:
		copy(p.Challenge[:], m.bytes(p.Challenge[:]))
		copy(p.Request[:], m.bytes(p.Request[:]))
	}
}

// outcome counts what came of the mutations.
type outcome struct {
	refused                                map[denial.Reason]int
	accepted, fewer, key, unchanged, empty int
	wrong                                  []string
}

// try makes one case. Evidence that is accepted must show the facts of the valid evidence, all but those about the bytes of
// the log itself. No digest covers the label that says what an event is, so a text or a partition table may be missing if it
// is counted among the events that no fact tells of, and the version of the firmware and the SBAT level may be missing. It may
// be about another cnf key that the AK certified, with the same policy: which one is meant, the request says. Nothing else may be there.
func (o *outcome) try(worlds []world, number int) {
	m := newMutator(number)
	w := m.pick(worlds)
	raw := w.mutate(m)
	switch {
	case raw == nil:
		o.empty++
		return
	case bytes.Equal(raw, w.raw):
		o.unchanged++
		return
	}
	facts, err := w.verify(raw)
	if err != nil {
		o.refused[denial.Of(err).Reason]++
		return
	}
	got, want := facts.Claims(), w.facts
	got.Log, want.Log = attest.Log{}, attest.Log{}
	if restored(&got, want) {
		o.fewer++
	}
	if got.CNF.Name != want.CNF.Name && slices.Contains(w.keys, got.CNF.Name) {
		got.CNF.Name = want.CNF.Name
		o.key++
	}
	if o.accepted++; !reflect.DeepEqual(got, want) {
		o.wrong = append(o.wrong, fmt.Sprintf("case %d: got %+v, want %+v from %s", number, got, want, hex.EncodeToString(raw)))
	}
}

// restored puts back what facts may lack, where they count it, and reports whether they lacked anything.
func restored(got *attest.Claims, want attest.Claims) bool {
	uncounted := func(pcrs ...int64) (n int) {
		for _, pcr := range pcrs {
			n += int(got.Unexplained[pcr] - want.Unexplained[pcr])
		}
		return n
	}
	lacked := false
	if missing := silent(got, want); missing > 0 && missing == uncounted(11) {
		got.OS, got.Unexplained[11], lacked = want.OS, want.Unexplained[11], true
	}
	if missing := len(want.Disks) - len(got.Disks); missing >= 0 && uncounted(5) > 0 && missing <= uncounted(5) {
		got.Disks, got.Unexplained[5], lacked = want.Disks, want.Unexplained[5], true
	}
	texts := func(c *attest.Claims) int { return len(c.CommandLine) + len(c.Commands) }
	if missing := texts(&want) - texts(got); missing > 0 && missing == uncounted(8, 12) {
		got.CommandLine, got.Commands, lacked = want.CommandLine, want.Commands, true
		got.Unexplained[8], got.Unexplained[12] = want.Unexplained[8], want.Unexplained[12]
	}
	if got.Platform.Version == "" && want.Platform.Version != "" {
		got.Platform.Version, lacked = want.Platform.Version, true
	}
	if got.Shim.SBAT == 0 && want.Shim.SBAT > 0 && len(got.Shim.Generations) == 0 {
		got.Shim.SBAT, got.Shim.Generations, lacked = want.Shim.SBAT, want.Shim.Generations, true
	}
	return lacked
}

// silent returns how many events of the system tell nothing but their digest any more, -1 if anything else differs.
func silent(got *attest.Claims, want attest.Claims) (n int) {
	if len(got.OS) != len(want.OS) {
		return -1
	}
	for i, e := range got.OS {
		if e.Text == "" && want.OS[i].Text != "" {
			e.Text = want.OS[i].Text
			n++
		}
		if e != want.OS[i] {
			return -1
		}
	}
	return n
}

func (o *outcome) add(other outcome) {
	for reason, n := range other.refused {
		o.refused[reason] += n
	}
	o.accepted += other.accepted
	o.fewer += other.fewer
	o.key += other.key
	o.unchanged += other.unchanged
	o.empty += other.empty
	o.wrong = append(o.wrong, other.wrong...)
}

// No mutation of whole evidence is accepted with other facts. MUTATIONS says how many are tried.
func TestMutatedEvidence(t *testing.T) {
	worlds := newWorlds(t)
	n, workers := cases(t, 20_000), runtime.GOMAXPROCS(0)
	parts := make([]outcome, workers)
	var wg sync.WaitGroup
	for i := range parts {
		parts[i].refused = map[denial.Reason]int{}
		wg.Go(func() {
			for number := i; number < n; number += workers {
				parts[i].try(worlds, number)
			}
		})
	}
	wg.Wait()
	total := outcome{refused: map[denial.Reason]int{}}
	for _, part := range parts {
		total.add(part)
	}
	total.report(t, n)
}

func (o *outcome) report(t *testing.T, n int) {
	t.Helper()
	refused := 0
	for _, reason := range slices.Sorted(maps.Keys(o.refused)) {
		t.Logf("%8d refused with %d %s", o.refused[reason], reason.Code(), reason)
		refused += o.refused[reason]
	}
	t.Logf("%d mutations: %d refused; %d accepted: %d with other facts, %d without what they count as unexplained, %d with another cnf key that the AK "+
		"certified, all others with the same facts; %d changed nothing, %d could not be encoded", n, refused, o.accepted, len(o.wrong), o.fewer, o.key, o.unchanged, o.empty)
	for _, w := range o.wrong[:min(len(o.wrong), 5)] {
		t.Error(w)
	}
	if o.refused[denial.Internal] > 0 {
		t.Errorf("%d mutations made a check panic", o.refused[denial.Internal])
	}
	if refused < n*3/4 || len(o.refused) < 15 {
		t.Errorf("only %d of %d mutations were refused, for %d reasons: the mutations are too weak", refused, n, len(o.refused))
	}
}
