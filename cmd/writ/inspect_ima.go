package main

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
)

// imaView is what "writ inspect ima --json" writes.
type imaView struct {
	Verified     bool                         `json:"verified"`      // never
	Format       string                       `json:"format"`        // "binary", "ascii" or "unknown"
	TemplateHash string                       `json:"template_hash"` // algorithm
	Entries      []attest.IMAEntry            `json:"entries"`
	Replayed     map[string]map[string]string `json:"replayed"` // bank to PCR 10 to value
	Padded       map[string]map[string]string `json:"padded"`   // the same for kernels before 5.8
	Facts        *imaSummary                  `json:"facts"`    // null unless consistent
	Compared     []string                     `json:"compared"` // the bank of --pcr10
	Unknown      []attest.IMAEntry            `json:"unknown,omitempty"`
	Verdict      string                       `json:"verdict"` // "consistent", "inconsistent" or "unreadable"
	Code         int                          `json:"code"`
	Reason       string                       `json:"reason"`
}

// imaSummary counts what the list says up to the value of PCR 10, or all of it where none is given.
type imaSummary struct {
	Entries       int            `json:"entries"`
	Later         int            `json:"later"`          // entries behind the value: nothing covers them
	Extends       string         `json:"extends"`        // "template", or "sha1-padded": a kernel before 5.8, which an issuer refuses (611)
	BootAggregate string         `json:"boot_aggregate"` // digest; not compared with PCRs 0 to 9
	Violations    int            `json:"violations"`     // no digest covers which files
	OtherPCRs     int            `json:"other_pcrs"`     // entries that PCR 10 does not cover
	Weak          int            `json:"weak"`           // by SHA-1 or template "ima", which an issuer refuses (611)
	Signed        int            `json:"signed"`         // with a signature, which is not verified here
	Templates     map[string]int `json:"templates"`
}

// imaFlags are what "writ inspect ima" takes.
type imaFlags struct{ pcr10, bank, policy string }

func (a *app) inspectIMA() *cobra.Command {
	var f imaFlags
	cmd := &cobra.Command{
		Use:   "ima FILE",
		Short: "Explain a list of files that Linux measured, replay it, and compare it with PCR 10",
		Long: `Ima shows every entry of an IMA list, in the form of binary_runtime_measurements or ascii_runtime_measurements, and the values
of PCR 10 that it gives. With --pcr10 it says how much of the list leads to that value: a host goes on measuring, so the list may
be longer. With --policy it names the files that the appraisal policy does not know.

An issuer demands more: that the list begins with boot_aggregate of the quoted PCRs 0 to 9, and SHA-256 or SHA-384 throughout.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := readInput(args[0])
			if err != nil {
				return err
			}
			var pcr10 []byte
			if f.pcr10 != "" {
				if pcr10, err = hex.DecodeString(f.pcr10); err != nil || len(pcr10) != bankSizes()[f.bank] {
					return misuse("--pcr10 wants the hexadecimal value of a PCR in bank %s", f.bank)
				}
			}
			var ref attest.IMAReference
			if f.policy != "" {
				if ref, err = filesOf(f.policy); err != nil {
					return err
				}
			}
			if bankSizes()[f.bank] == 0 {
				return misuse("--bank is sha1, sha256, sha384 or sha512")
			}
			view, err := f.view(data, pcr10, ref)
			return a.showDenied(cmd, view, unverified+"\n"+view.text(), err)
		},
	}
	cmd.Flags().StringVar(&f.pcr10, "pcr10", "", "value of PCR 10 to compare with, in hexadecimal")
	cmd.Flags().StringVar(&f.bank, "bank", "sha256", "bank of that value: sha1, sha256, sha384 or sha512")
	cmd.Flags().StringVar(&f.policy, "policy", "", "appraisal policy: name the files that it does not know")
	return cmd
}

func bankSizes() map[string]int {
	return map[string]int{"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
}

// filesOf returns what a policy says of measured files.
func filesOf(path string) (attest.IMAReference, error) {
	doc, err := readPolicy(path)
	if err != nil {
		return attest.IMAReference{}, err
	}
	policy, err := doc.Appraisal()
	if err != nil {
		return attest.IMAReference{}, err
	}
	return policy.IMA(), nil
}

// view explains a list. The error is why it is unreadable or inconsistent; the view is there either way.
func (f *imaFlags) view(data, pcr10 []byte, ref attest.IMAReference) (*imaView, error) {
	v := &imaView{Format: "unknown", Entries: []attest.IMAEntry{}, Compared: []string{}, Replayed: map[string]map[string]string{},
		Padded: map[string]map[string]string{}}
	l, err := attest.ParseIMAList(data)
	if err != nil {
		return v, v.refuse("unreadable", err)
	}
	v.Format, v.TemplateHash, v.Entries = l.Format, l.Hash, l.Entries
	for _, bank := range []string{"sha1", "sha256", "sha384"} {
		r, err := l.Replay(bank)
		if err != nil {
			return v, v.refuse("unreadable", err)
		}
		v.Replayed[bank] = map[string]string{"10": r.Value}
		if bank != "sha1" && r.Padded != "" {
			v.Padded[bank] = map[string]string{"10": r.Padded}
		}
	}
	proof := attest.IMAProof{Entries: len(l.Entries)}
	if pcr10 != nil {
		v.Compared = []string{f.bank}
		if proof, err = l.Compare(f.bank, pcr10); err != nil {
			return v, v.refuse("inconsistent", err)
		}
	}
	v.Facts, v.Verdict = summarise(l.Entries, proof), "consistent"
	if f.policy != "" {
		if v.Unknown, err = l.Unknown(proof.Entries, ref); err != nil {
			return v, err
		}
	}
	return v, nil
}

func (v *imaView) refuse(verdict string, err error) error {
	d := denial.Of(err)
	v.Verdict, v.Code, v.Reason = verdict, d.Reason.Code(), d.Error()
	return d
}

func summarise(entries []attest.IMAEntry, proof attest.IMAProof) *imaSummary {
	s := &imaSummary{Entries: proof.Entries, Later: len(entries) - proof.Entries, Extends: "template", Templates: map[string]int{}}
	if proof.Padded {
		s.Extends = "sha1-padded"
	}
	for _, e := range entries[:proof.Entries] {
		s.Templates[e.Template]++
		switch {
		case e.PCR != 10:
			s.OtherPCRs++
			continue
		case e.Violation:
			s.Violations++
			continue
		case e.Name == "boot_aggregate" && s.BootAggregate == "":
			s.BootAggregate = e.Digest
		}
		if !strings.Contains(e.Digest, "sha256:") && !strings.Contains(e.Digest, "sha384:") && !strings.Contains(e.Digest, "sha512:") {
			s.Weak++
		}
		if e.Signature != "" {
			s.Signed++
		}
	}
	return s
}

// text renders the view for people.
func (v *imaView) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "IMA list, %s, %d entries\n", v.Format, len(v.Entries))
	for _, e := range v.Entries {
		b.WriteString(imaLine(e))
	}
	for _, bank := range slices.Sorted(maps.Keys(v.Replayed)) {
		fmt.Fprintf(&b, "PCR 10 in bank %s after all entries\n  %s\n", bank, v.Replayed[bank]["10"])
		if padded := v.Padded[bank]["10"]; padded != "" {
			fmt.Fprintf(&b, "  %s where the kernel is older than 5.8\n", padded)
		}
	}
	if v.Facts != nil {
		b.WriteString(v.Facts.text())
	}
	for _, e := range v.Unknown {
		b.WriteString("unknown to the policy: " + imaLine(e))
	}
	b.WriteString(v.verdict())
	return b.String()
}

// summary says in short what the list is.
func (v *imaView) summary() string {
	if v.Facts == nil {
		return v.verdict()
	}
	return v.Facts.text() + v.verdict()
}

func (v *imaView) verdict() string {
	switch {
	case v.Verdict != "consistent":
		return "verdict: " + v.Verdict + ": " + v.Reason + "\n"
	case len(v.Compared) > 0:
		return "verdict: consistent with the given PCR 10 of " + v.Compared[0] + "\n"
	}
	return "verdict: consistent with itself; give --pcr10 to compare it with a machine\n"
}

// imaLine renders one entry.
func imaLine(e attest.IMAEntry) string {
	note := ""
	switch {
	case e.Violation:
		note = "  violation: changed while it was measured; untrusted, no digest covers this line"
	case e.Signature != "":
		note = fmt.Sprintf("  signed (%d bytes, not verified)", len(e.Signature)/2)
	case e.Buffer > 0:
		note = fmt.Sprintf("  data of %d bytes", e.Buffer)
	}
	return fmt.Sprintf("%5d PCR %2d %-10s %s %s%s\n", e.Number, e.PCR, e.Template, e.Digest, clean(e.Name), note)
}

func (s *imaSummary) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d entries", s.Entries)
	if s.Later > 0 {
		fmt.Fprintf(&b, " lead to PCR 10; %d behind them were measured later, and nothing covers them", s.Later)
	}
	fmt.Fprintf(&b, "\n  boot_aggregate %s\n", s.BootAggregate)
	for _, line := range []struct {
		n    int
		text string
	}{
		{s.Violations, "violations: files that changed while they were measured"},
		{s.OtherPCRs, "entries of other PCRs, which PCR 10 does not cover"},
		{s.Signed, "entries with a signature, not verified"},
		{s.Weak, "entries by SHA-1 or weaker, which an issuer refuses (611): boot with ima_hash=sha256"},
	} {
		if line.n > 0 {
			fmt.Fprintf(&b, "  %d %s\n", line.n, line.text)
		}
	}
	if s.Extends == "sha1-padded" {
		b.WriteString("  the kernel extends PCR 10 with SHA-1 hashes alone, which an issuer refuses (611): it needs Linux 5.8\n")
	}
	return b.String()
}
