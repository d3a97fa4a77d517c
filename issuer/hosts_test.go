package issuer_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/test/softtpm"
)

// Two hosts that booted the same are two hosts: a log that matches says nothing of whose it is.
func TestL27_LogOfAnotherHost(t *testing.T) {
	w := issuertest.New(t)
	other := w.EnrolHost(issuertest.OtherURI, issuertest.OtherGate)
	claims := func(c *artifact.RequestClaims) { c.Host = w.Host.URI }
	_, err := w.Ask(issuertest.Spoil{Host: other, Claims: claims})
	if ref := w.Refusal(err, denial.HostMismatch); ref.Denial.Stage != denial.StageCaller || !ref.Logged {
		t.Errorf("got %v at %q, logged %v", ref, ref.Denial.Stage, ref.Logged)
	}
	// Under the name of the right AK it is not that AK's.
	_, err = w.Ask(issuertest.Spoil{Host: other, Claims: claims, Parts: func(e *softtpm.Evidence) { e.AK = w.Host.TPM.AK }})
	w.Refusal(err, denial.AKSubstituted)
}

// Who comes again is asked everything again.
func TestF19_RenewalIsCheckedLikeTheFirst(t *testing.T) {
	w := issuertest.New(t)
	first := issuertest.Must(verify(w, w.Permit()))(t).Claims()
	renewal := func(s issuertest.Spoil) issuertest.Spoil {
		s.Claims = func(c *artifact.RequestClaims) { c.Host, c.Execution.ID = first.Subject, first.Execution.ID }
		return s
	}
	other := w.EnrolHost(issuertest.OtherURI, issuertest.OtherGate)
	stranger := w.NewHost(issuertest.HostURI, issuertest.Gate)
	for _, row := range []struct {
		name   string
		spoil  issuertest.Spoil
		reason denial.Reason
	}{
		{"with the AK of another host", issuertest.Spoil{Host: other}, denial.HostMismatch},
		{"with an AK that nobody enrolled", issuertest.Spoil{Host: stranger}, denial.NotEnrolled},
		{"with another quote", issuertest.Spoil{Parts: func(e *softtpm.Evidence) { e.Signature[len(e.Signature)-1] ^= 1 }}, denial.QuoteSignature},
		{"with Secure Boot off", issuertest.Spoil{Boot: bootlog.New(bootlog.Options{NoSecureBoot: true})}, denial.SecureBootOff},
	} {
		_, err := w.Ask(renewal(row.spoil))
		if ref, ok := err.(*issuer.Refusal); !ok || ref.Denial.Reason != row.reason {
			t.Errorf("%s: got %v, want %s", row.name, err, row.reason)
		}
	}
	// The TPM gets another AK: what the old one says is worth nothing any more.
	old := *w.Host.TPM
	w.Host.TPM.NewAK(t, softtpm.P256)
	w.Approve(w.Host)
	w.Activate(w.Host)
	before := *w.Host
	before.TPM = &old
	_, err := w.Ask(renewal(issuertest.Spoil{Host: &before}))
	w.Refusal(err, denial.NotEnrolled)
	issuertest.Must(w.Ask(renewal(issuertest.Spoil{})))(t)
}

// Where the policy demands it, every bank of the TPM is accounted for, and who leaves out the audit session is refused.
func TestL15_F21_AuditedHosts(t *testing.T) {
	w := issuertest.New(t)
	w.Boot = bootlog.New(bootlog.Options{Banks: []string{"sha256", "sha384"}})
	audited := strings.Replace(w.Appraisal(), "[limits]", "audit = true\n\n[limits]", 1)
	w.Publish(audited)
	half := bootlog.New(bootlog.Options{})
	for _, row := range []struct {
		name   string
		banks  map[string]map[int64][]byte
		spoil  issuertest.Spoil
		reason denial.Reason
	}{
		{"both banks are measured into", map[string]map[int64][]byte{"sha384": w.Boot.PCRs("sha384")}, issuertest.Spoil{}, 0},
		{"only one bank is kept", nil, issuertest.Spoil{}, 0},
		{"sha384 is open", map[string]map[int64][]byte{"sha384": half.PCRs("sha384")}, issuertest.Spoil{Boot: half}, denial.BankUncapped},
		{"sha384 was measured into by others", map[string]map[int64][]byte{"sha384": half.PCRs("sha384")}, issuertest.Spoil{}, denial.LogReplayMismatch},
		{"no session", nil, issuertest.Spoil{Want: func(want *attest.Want) { want.Audit = false }}, denial.TPMFirmware},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := w.For(t)
			w.Host.TPM.Banks = row.banks
			for range 2 {
				minted, err := w.Ask(row.spoil)
				if row.reason == 0 && err != nil {
					t.Fatal(err)
				} else if row.reason != 0 && !w.Refusal(err, row.reason).Logged || (row.reason == 0) != (minted != nil) {
					t.Error("not logged, or minted")
				}
			}
		})
	}
	// A policy that begins to demand it while a host is on its way refuses what that host brings.
	w.Host.TPM.Banks = nil
	w.Publish(w.Appraisal())
	a := w.Prepare(issuertest.Spoil{})
	w.Keys[record.PurposeArtifact].Once(func() {
		w.Publish(strings.Replace(w.Appraisal(), "[limits]", "audit = true\n\n[limits]", 1))
	})
	_, err := a.Send()
	if ref := w.Refusal(err, denial.TPMFirmware); ref.Denial.Stage != denial.StageAppraisal {
		t.Errorf("got %q", ref.Denial.Stage)
	}
}

// An old kernel with the same signature has the same PCR 7; that its digest is not allowed stops it.
func TestL23_OldKernelWithAGoodSignature(t *testing.T) {
	w := issuertest.New(t)
	old := bootlog.New(bootlog.Options{Image: []byte("the kernel image of the year before")})
	if was, is := old.PCRs("sha256")[7], w.Boot.PCRs("sha256")[7]; string(was) != string(is) {
		t.Fatal("the old kernel is not signed like the new one")
	}
	for range 2 {
		_, err := w.Ask(issuertest.Spoil{Boot: old})
		if ref := w.Refusal(err, denial.PCRNotAllowed); ref.Denial.Stage != denial.StageAppraisal {
			t.Errorf("got %q", ref.Denial.Stage)
		}
	}
	w.Permit()
}

// A certificate can name places: nobody goes there (A14).
func TestA14_CertificatesSendTheIssuerNowhere(t *testing.T) {
	trap, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := trap.Accept()
			if err != nil {
				return
			}
			calls.Add(1)
			_ = conn.Close()
		}
	}()
	resolver, transport := net.DefaultResolver, http.DefaultTransport
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		calls.Add(1)
		return nil, errors.New("no names are looked up")
	}}
	http.DefaultTransport = tripper(func(*http.Request) (*http.Response, error) {
		calls.Add(1)
		return nil, errors.New("no requests are made")
	})
	t.Cleanup(func() { net.DefaultResolver, http.DefaultTransport = resolver, transport })
	if _, err := http.Get("http://trap.example/"); err == nil || calls.Swap(0) != 1 {
		t.Fatal("the trap catches nothing")
	}

	w := issuertest.New(t)
	for n, base := range []string{"http://" + trap.Addr().String(), "http://trap.example", "ldap://trap.example", "file:///dev/tcp/" + trap.Addr().String()} {
		vendor := softtpm.NewVendor(t)
		for name, v := range map[string]*softtpm.Vendor{"known": w.Vendor, "unknown": vendor} {
			h := w.NewHost(fmt.Sprintf("%s/%s/%d", issuertest.HostURI, name, n), issuertest.Gate)
			h.TPM = v.New(t, softtpm.Options{Edit: softtpm.Edit{Certificate: func(c *x509.Certificate) {
				c.OCSPServer, c.IssuingCertificateURL, c.CRLDistributionPoints = []string{base + "/ocsp"}, []string{base + "/ca.cer"}, []string{base + "/ca.crl"}
			}}})
			h.TPM.CNF = w.Host.TPM.CNF
			w.Approve(h)
			if name == "unknown" { // its issuer's certificate is to be had at the place named
				refusedToEnrol(w, h, denial.EKUntrusted)
				continue
			}
			w.Activate(h)
			issuertest.Must(w.Ask(issuertest.Spoil{Host: h}))(t)
			w.Revoke(record.CauseHost, h.URI)
		}
	}
	if err := trap.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
	if n := calls.Load(); n != 0 {
		t.Errorf("%d outbound calls", n)
	}
}

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
