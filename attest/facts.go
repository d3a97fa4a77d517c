package attest

import (
	"bytes"
	"encoding/hex"
	"maps"
	"slices"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Facts are what verified evidence shows. Only Verify makes them; the zero Facts shows nothing.
type Facts struct {
	claims   Claims
	evidence statement.Digest
	ak       []byte
	cnf      signer
	boot     []byte
}

// newFacts checks what Verify lists under its third stage and puts the facts together.
func newFacts(ev *Evidence, want Want, q *quote, bound *binding) (*Facts, error) {
	clock := q.attest.ClockInfo
	if !clock.Safe {
		return nil, denial.New(denial.EvidenceStale, "the TPM's clock may have gone back: quote again when it has settled")
	}
	boot, err := ev.replay(want, q, bound.tpm.banks)
	if err != nil {
		return nil, err
	}
	ima, err := q.checkIMA(ev, want.Selection.Bank)
	if err != nil {
		return nil, err
	}
	pcr := make(map[int64]string, len(q.pcrs))
	for i, v := range q.pcrs {
		pcr[i] = hex.EncodeToString(v)
	}
	bind := make([]int64, len(want.Bind))
	for i, p := range want.Bind {
		bind[i] = int64(p)
	}
	c, cnf := boot.claims(want.Selection.Bank), bound.cnf
	c.AK, c.PCR, c.PCRDigest, c.Firmware, c.IMA = hex.EncodeToString(q.ak.name), pcr, hex.EncodeToString(q.digest), q.attest.FirmwareVersion, ima
	c.Clock = Clock{Milliseconds: clock.Clock, Resets: uint64(clock.ResetCount), Restarts: uint64(clock.RestartCount), Safe: true}
	c.Banks = bound.tpm.kept
	c.CNF = CNF{Name: hex.EncodeToString(cnf.name), AuthPolicy: hex.EncodeToString(cnf.authPolicy), PCRs: bind}
	return &Facts{claims: c, evidence: ev.digest, ak: q.ak.name, cnf: *cnf, boot: bound.tpm.boot}, nil
}

// replay holds the logs of the evidence against the quoted values, and the audited ones of other banks.
func (e *Evidence) replay(want Want, q *quote, others map[string]map[int64][]byte) (*bootFacts, error) {
	values := map[string]map[int64][]byte{want.Selection.Bank: withoutIMA(q.pcrs)}
	maps.Copy(values, others)
	return want.Known.replay(q.ak.name, bootLogs{firmware: e.log, os: e.os}, want.Selection.Bank, values)
}

// claims returns the facts of the logs alone.
func (b *bootFacts) claims(bank string) Claims {
	return Claims{Bank: bank, SecureBoot: b.SecureBoot, BootApps: b.BootApps, CommandLine: b.CommandLine, Log: b.Log,
		Platform: b.Platform, Disks: b.Disks, Shim: b.Shim, Commands: b.Commands, Sections: b.Sections, Measured: b.Measured,
		Unexplained: b.Unexplained, OS: b.OS}
}

// Claims returns a copy of the facts as plain data.
func (f *Facts) Claims() Claims {
	c := f.claims
	c.PCR = maps.Clone(c.PCR)
	c.SecureBoot.Authorities = slices.Clone(c.SecureBoot.Authorities)
	c.BootApps = slices.Clone(c.BootApps)
	c.CommandLine = slices.Clone(c.CommandLine)
	c.Disks = slices.Clone(c.Disks)
	for i := range c.Disks {
		c.Disks[i].Partitions = slices.Clone(c.Disks[i].Partitions)
	}
	c.Shim.Generations = maps.Clone(c.Shim.Generations)
	c.Commands = slices.Clone(c.Commands)
	c.Sections = maps.Clone(c.Sections)
	c.Measured = maps.Clone(c.Measured)
	for pcr, digests := range c.Measured {
		c.Measured[pcr] = slices.Clone(digests)
	}
	c.Unexplained = maps.Clone(c.Unexplained)
	c.OS = slices.Clone(c.OS)
	c.Banks = slices.Clone(c.Banks)
	c.CNF.PCRs = slices.Clone(c.CNF.PCRs)
	c.IMA.Files, c.IMA.Buffers = slices.Clone(c.IMA.Files), slices.Clone(c.IMA.Buffers)
	return c
}

// Clock returns what the TPM's clock showed.
func (f *Facts) Clock() Clock { return f.claims.Clock }

// CNF returns the certified confirmation key, its TPM Name and its authPolicy.
func (f *Facts) CNF() (key statement.Key, name, authPolicy []byte) {
	return f.cnf.key, bytes.Clone(f.cnf.name), bytes.Clone(f.cnf.authPolicy)
}

// BootKey returns the TPM Name of the key that tells this boot of this TPM from any other, nil without an audit session.
func (f *Facts) BootKey() []byte { return bytes.Clone(f.boot) }

// AKName returns the TPM Name of the AK that signed the quote.
func (f *Facts) AKName() []byte { return bytes.Clone(f.ak) }

// Evidence returns SHA-256 of the evidence that the facts were drawn from.
func (f *Facts) Evidence() statement.Digest { return f.evidence }
