package attest_test

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/softtpm"
)

func TestAttestationIsExplainedWithAndWithoutItsLength(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	raw := w.evidence(t).Quote
	for _, in := range [][]byte{raw, tpm2.Marshal(tpm2.TPM2BData{Buffer: raw})} {
		a, err := attest.ParseAttestation(in)
		if err != nil {
			t.Fatal(err)
		}
		extra := attest.QualifyingData(w.want.Challenge, w.want.Request, w.want.Exporter)
		if a.Type != "quote" || !bytes.Equal(a.ExtraData, extra[:]) || len(a.Digest) != 32 {
			t.Errorf("type %q, extra data %x, digest %x", a.Type, a.ExtraData, a.Digest)
		}
		if len(a.Banks) != 1 || a.Banks[0].Bank != w.want.Selection.Bank || !slices.Equal(a.Banks[0].PCRs, w.want.Selection.PCRs) {
			t.Errorf("got selection %v, want %v", a.Banks, w.want.Selection)
		}
	}
}

func TestCertificationIsExplained(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	e := w.evidence(t)
	a, err := attest.ParseAttestation(e.Certify.Attest)
	if err != nil {
		t.Fatal(err)
	}
	name, err := attest.Name(e.CNF)
	if err != nil || a.Type != "certify" || !bytes.Equal(a.Name, name) {
		t.Errorf("type %q, name %x, want that of the cnf key %x (%v)", a.Type, a.Name, name, err)
	}
}

func TestPartsAreWhatWasEncoded(t *testing.T) {
	w := newAuditedWorld(t, []string{"sha256", "sha384"}, softtpm.Options{})
	raw := encode(t, w.evidence(t))
	ev, err := attest.DecodeEvidence(raw)
	if err != nil {
		t.Fatal(err)
	}
	words, err := ev.Parts().Session.Explain("sha256")
	if err != nil || !words.Signed || len(words.BootKey) != 34 || fmt.Sprint(words.Banks) != "[sha256 sha384]" ||
		!bytes.Equal(words.PCRs["sha384"][7], w.tpm.Banks["sha384"][7]) {
		t.Errorf("got %+v, %v", words, err)
	}
	again, err := ev.Parts().Encode()
	if err != nil || !bytes.Equal(again, raw) {
		t.Errorf("the parts encode to other bytes (%v)", err)
	}
}

func TestLogIsComparedAsVerifyDoes(t *testing.T) {
	boot := bootlog.New(bootlog.Options{Locality: 3})
	log, err := attest.ParseLog(boot.Log)
	if err != nil {
		t.Fatal(err)
	}
	if locality, ok := log.StartupLocality(); !ok || locality != 3 {
		t.Errorf("got locality %d %v, want 3", locality, ok)
	}
	pcrs := boot.Select("sha256", 0, 2, 4, 7)
	facts, proofs, err := log.Compare("sha256", pcrs)
	if err != nil || len(facts.BootApps) == 0 || facts.Log.Events == 0 {
		t.Fatalf("got %v %v, want the facts of the log", facts, err)
	}
	if !slices.ContainsFunc(proofs, func(p attest.Proof) bool {
		return p.Fact == "facts.boot_apps[0]" && p.PCR == 4 && p.Digest == facts.BootApps[0].Digest &&
			log.Events[p.Event-1].Digests["sha256"] == p.Digest
	}) {
		t.Errorf("no event proves the first boot program: %v", proofs)
	}
	pcrs[4] = bytes.Repeat([]byte{7}, 32)
	if _, _, err := log.Compare("sha256", pcrs); !denial.Is(err, denial.LogReplayMismatch) {
		t.Errorf("another PCR 4: got %v, want 603", err)
	}
	if _, _, err := log.Compare("sha1", pcrs); !denial.Is(err, denial.BankNotAllowed) {
		t.Errorf("bank sha1: got %v, want 611", err)
	}
}

func TestReadDevice(t *testing.T) {
	template := softtpm.EKTemplate(t)
	w := newWorld(t, softtpm.Options{})
	cert, err := x509.ParseCertificate(w.tpm.EnrolRequest().Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	if d, err := attest.ReadDevice(cert); err != nil || d.Manufacturer == "" || d.Model == "" {
		t.Errorf("got %+v %v, want a device", d, err)
	}
	for name, edit := range map[string]func(*x509.Certificate){
		"of a CA":                    func(c *x509.Certificate) { c.IsCA = true },
		"that may sign certificates": func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign },
		"of a key that signs":        func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature },
	} {
		c := *template
		edit(&c)
		if _, err := attest.ReadDevice(&c); !denial.Is(err, denial.EKUntrusted) {
			t.Errorf("a certificate %s: got %v, want 321", name, err)
		}
	}
	template.UnknownExtKeyUsage = nil
	if _, err := attest.ReadDevice(template); !denial.Is(err, denial.EKUntrusted) {
		t.Errorf("without its purpose: got %v, want 321", err)
	}
}
