package corpus

import (
	"encoding/hex"
	"flag"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
)

var update = flag.Bool("update", false, "write docs/machines.md")

// trial is one verdict on one piece of evidence.
type trial struct {
	file
	name   string // path, and which part of the file
	facts  *attest.Claims
	quote  *attest.QuoteReport
	device *attest.Device
	list   *attest.IMAList
	proofs map[string]int // entries of the list that lead to the known PCR 10, by bank
	err    error
}

// reason returns the code of the verdict, 0 if the evidence is accepted.
func (t *trial) reason() denial.Reason {
	if t.err == nil {
		return 0
	}
	return denial.Of(t.err).Reason
}

// banks is PCR values: bank to PCR to value.
type banks map[string]map[int64]text

// text is bytes that JSON holds in hexadecimal.
type text []byte

func (b *text) UnmarshalText(digits []byte) (err error) {
	*b, err = hex.DecodeString(string(digits))
	return err
}

// values returns the PCR values in the type of package attest.
func (b banks) values() map[string]map[int64][]byte {
	out := make(map[string]map[int64][]byte, len(b))
	for bank, pcrs := range b {
		out[bank] = make(map[int64][]byte, len(pcrs))
		for pcr, v := range pcrs {
			out[bank][pcr] = v
		}
	}
	return out
}

// logCase is a boot log with PCR values that were read from the machine or, where nobody did, replayed by others.
type logCase struct {
	file
	raw  []byte
	pcrs map[string]map[int64][]byte
}

// logCases returns every boot log of the corpus, alone or in a bundle.
func logCases(tb testing.TB) []logCase {
	tb.Helper()
	var all []logCase
	for _, f := range slices.Concat(manifest(tb, "eventlog"), manifest(tb, "bundle")) {
		isLog := f.kind == "eventlog" || strings.HasPrefix(path.Base(f.path), "eventlog-")
		if companion(f.path) != "" || !isLog {
			continue
		}
		var known banks
		if f.kind == "bundle" {
			known = readJSON[struct{ PCRs banks }](tb, path.Dir(f.path)+"/bundle.json").PCRs
		} else {
			d := readJSON[struct {
				Machine  banks `json:"machine_pcrs"`
				Replayed banks `json:"replayed"`
			}](tb, f.path+".pcrs.json")
			if known = d.Machine; known == nil {
				known = d.Replayed
			}
		}
		all = append(all, logCase{f, read(tb, f.path), known.values()})
	}
	return all
}

// userspace are PCRs that the operating system extends after the boot log has ended. No boot log covers them.
func userspace(name string) []int64 {
	if strings.Contains(name, "/pcr11-ima/") {
		return []int64{10, 11}
	}
	return []int64{10}
}

// boot returns the values of the PCRs that a boot log covers.
func (c *logCase) boot(bank string) map[int64][]byte {
	pcrs := make(map[int64][]byte)
	for pcr, v := range c.pcrs[bank] {
		if !slices.Contains(userspace(c.path), pcr) {
			pcrs[pcr] = v
		}
	}
	return pcrs
}

// compare holds a log against values of a bank.
func compare(log []byte, bank string, pcrs map[int64][]byte) (*attest.Claims, error) {
	l, err := attest.ParseLog(log)
	if err != nil {
		return nil, err
	}
	facts, _, err := l.Compare(bank, pcrs)
	if err != nil {
		return nil, err
	}
	return &facts, nil
}

// logTrials holds every boot log against each bank that values are known of.
func logTrials(tb testing.TB) []trial {
	tb.Helper()
	var all []trial
	for _, c := range logCases(tb) {
		tried := len(all)
		for _, bank := range []string{"sha256", "sha384"} {
			if pcrs := c.boot(bank); len(pcrs) > 0 {
				facts, err := compare(c.raw, bank, pcrs)
				all = append(all, trial{file: c.file, name: c.path + " " + bank, facts: facts, err: err})
			}
		}
		if len(all) == tried { // SHA-1 alone: no bank to compare, but the log must be refused
			_, err := attest.ParseLog(c.raw)
			all = append(all, trial{file: c.file, name: c.path + " sha1", err: err})
		}
	}
	return all
}
