package attest

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // beside a stronger bank
	"hash"
	"maps"
	"slices"

	"github.com/governed-execution/writ/denial"
)

// bootLogs are what a host says that it measured: nothing in it is verified.
type bootLogs struct {
	firmware []byte // crypto-agile log of firmware, boot loader and EFI stub
	os       []byte // log of systemd, empty if the host has none
}

// replay checks the logs against the quoted PCR values of one bank and returns the facts that they prove. Its checks are
// those of replayBanks. Where proofs is not nil, the events that prove the facts are appended to it.
func (in bootLogs) replay(bank string, pcrs map[int64][]byte, proofs *[]Proof) (*bootFacts, error) {
	return in.replayBanks(bank, map[string]map[int64][]byte{bank: pcrs}, proofs)
}

// replayBanks checks the logs against the quoted PCR values of every quoted bank and returns the facts that they prove,
// with digests of the given bank. The caller has verified the quotes. It checks, in this order:
//  1. both logs have the right form and are not too large (parseLog: 605, 607, 611, 908; parseOSLog: 605, 908);
//  2. there are quoted values in the given bank (604), which may be trusted (611), and each quoted bank, in the order of
//     their names, is one that the log of the firmware declares (612: firmware left that bank open) and that can be
//     computed here (611);
//
// then for each quoted bank in that order:
//  3. each quoted PCR has events, all with a digest in this bank, or still its reset value (604);
//  4. in PCRs 0 to 7 each event of the firmware is of a type that belongs there (607), has data that its digest covers
//     where that data means something (606) and is well-formed (605), and each PCR has exactly one separator, after which
//     PCR 7 takes only authorities (607); the system extends each of these PCRs at most once, with its own separator
//     (607);
//  5. each quoted PCR equals the value that the events of the firmware and then those of the system give (603);
//
// and at last:
//  6. if Secure Boot is on, some key verified something, and neither PK nor KEK nor db holds a known test key (609).
//
// Whether Secure Boot must be on, and with which keys, is for policy to say.
func (in bootLogs) replayBanks(bank string, quoted map[string]map[int64][]byte, proofs *[]Proof) (*bootFacts, error) {
	l, err := parseLog(in.firmware)
	if err != nil {
		return nil, err
	}
	system, err := parseOSLog(in.os)
	if err != nil {
		return nil, err
	}
	if len(quoted[bank]) == 0 {
		return nil, denial.New(denial.LogUncovered, "no PCR is quoted in the bank of the facts")
	}
	names := slices.Sorted(maps.Keys(quoted))
	checks := make(map[string]*bankReplay, len(names))
	for _, name := range names {
		if checks[name], err = newBankReplay(l, name, quoted[name], name == bank); err != nil {
			return nil, err
		}
		checks[name].system = system
	}
	for _, name := range names {
		if err := checks[name].verify(); err != nil {
			return nil, err
		}
	}
	return checks[bank].drawFacts(proofs)
}

// bankReplay is the replay of a log against the quoted values of one bank.
type bankReplay struct {
	log    *bootLog
	system []osEvent // what followed
	name   string    // of the bank
	bank   int       // its column in the log
	hash   hash.Hash
	sum    []byte // scratch space for one digest
	quoted map[int64][]byte
	values [pcrCount][]byte // by the log, of PCRs that it extends
	rules  firmwareRules
}

// newBankReplay prepares the replay of one bank, of the bank that the facts are to be in or of another.
func newBankReplay(l *bootLog, name string, quoted map[int64][]byte, facts bool) (*bankReplay, error) {
	if facts && name != "sha256" && name != "sha384" {
		return nil, denial.New(denial.BankNotAllowed, "a quoted bank is neither sha256 nor sha384")
	}
	column := l.bank(name)
	if column < 0 {
		return nil, denial.New(denial.BankUncapped, "the TPM keeps bank %s, but firmware did not log it", name)
	}
	h := l.banks[column].hash
	if name == "sha1" { // beside a stronger bank it may stand, and then it must fit
		h = crypto.SHA1
	}
	if h == 0 {
		return nil, denial.New(denial.BankNotAllowed, "the TPM keeps bank %s, which cannot be computed here", name)
	}
	d := h.New()
	return &bankReplay{log: l, name: name, bank: column, hash: d, sum: make([]byte, 0, d.Size()), quoted: quoted}, nil
}

// verify makes the checks 3 to 5 of replayBanks.
func (b *bankReplay) verify() error {
	if err := b.checkCoverage(); err != nil {
		return err
	}
	for i := range b.log.events {
		if e := &b.log.events[i]; b.measures(e) {
			if err := b.checkEvent(i, e); err != nil {
				return err
			}
			b.extend(e.pcr, b.log.digest(i, b.bank))
		}
	}
	if err := b.checkSeparators(); err != nil {
		return err
	}
	if err := b.extendOS(); err != nil {
		return err
	}
	for _, pcr := range slices.Sorted(maps.Keys(b.quoted)) {
		if b.logged(pcr) && !bytes.Equal(b.values[pcr], b.quoted[pcr]) {
			return denial.New(denial.LogReplayMismatch, "PCR %d is not what the event log gives", pcr)
		}
	}
	return nil
}

// measures reports whether an event extended a quoted PCR.
func (b *bankReplay) measures(e *logEvent) bool {
	_, quoted := b.quoted[int64(e.pcr)]
	return quoted && e.extends()
}

// logged reports whether the log extends a PCR, once verify has walked over it.
func (b *bankReplay) logged(pcr int64) bool {
	return pcr >= 0 && pcr < pcrCount && b.values[pcr] != nil
}

// checkCoverage makes the check 3 of replayBanks.
func (b *bankReplay) checkCoverage() error {
	var events [pcrCount]bool
	for i := range b.log.events {
		e := &b.log.events[i]
		if !b.measures(e) {
			continue
		}
		if b.log.digest(i, b.bank) == nil {
			return denial.New(denial.LogUncovered, "event %d has no digest in a quoted bank", i+1)
		}
		events[e.pcr] = true
	}
	for i := range b.system {
		events[b.system[i].pcr] = true
	}
	for _, pcr := range slices.Sorted(maps.Keys(b.quoted)) {
		if pcr < 0 || pcr >= pcrCount {
			return denial.New(denial.LogUncovered, "PCR %d does not exist", pcr)
		}
		if !events[pcr] && !bytes.Equal(b.quoted[pcr], b.reset(uint32(pcr))) {
			return denial.New(denial.LogUncovered, "PCR %d has a value, but no event in the log", pcr)
		}
	}
	return nil
}

// reset returns the value of a PCR before its first event (PC Client Platform TPM Profile, section "PCR Attributes").
func (b *bankReplay) reset(pcr uint32) []byte {
	v := make([]byte, b.hash.Size())
	switch {
	case pcr == 0:
		v[len(v)-1] = b.log.start
	case pcr >= 17 && pcr <= 22: // set by a dynamic launch only
		for i := range v {
			v[i] = 0xFF
		}
	}
	return v
}

// start returns what the first event of a PCR extends. A dynamic launch puts PCRs 17 to 22 to zero before it measures, and
// nothing else can measure there.
func (b *bankReplay) start(pcr uint32) []byte {
	if pcr >= 17 && pcr <= 22 {
		return make([]byte, b.hash.Size())
	}
	return b.reset(pcr)
}

// extend changes a PCR as TPM2_PCR_Extend does.
func (b *bankReplay) extend(pcr uint32, digest []byte) {
	if b.values[pcr] == nil {
		b.values[pcr] = b.start(pcr)
	}
	b.hash.Reset()
	b.hash.Write(b.values[pcr])
	b.hash.Write(digest)
	b.values[pcr] = b.hash.Sum(b.values[pcr][:0])
}

// covers reports whether digest is the digest of the data in this bank.
func (b *bankReplay) covers(digest, data []byte) bool {
	return bytes.Equal(b.hashed(data), digest)
}

// hashed returns the digest of the data in this bank. It holds until the next call.
func (b *bankReplay) hashed(data []byte) []byte {
	b.hash.Reset()
	b.hash.Write(data)
	b.sum = b.hash.Sum(b.sum[:0])
	return b.sum
}
