package audit_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/test/softtpm"
)

// anchors returns a policy of kind anchors that is good for an hour.
func (s *stage) anchors(version int, more ...string) string {
	return fmt.Sprintf("schema = 1\nkind = \"anchors\"\nid = \"https://issuer.example/anchors\"\nversion = %d\nexpires = %s\n", version,
		s.Now().Add(time.Hour).Format(time.RFC3339)) + strings.Join(more, "\n")
}

func pemBlock(table, kind string, der []byte) string {
	return fmt.Sprintf("[[%s]]\npem = '''\n%s'''", table, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func rootOf(v *softtpm.Vendor) string { return pemBlock("root", "CERTIFICATE", v.Root.Raw) }

// enrolAt enrols a TPM of a vendor and returns the index of the record.
func (s *stage) enrolAt(v *softtpm.Vendor, name string) uint64 {
	s.Helper()
	h := s.NewHost(hostURI+name, gateURI+name)
	h.TPM = v.New(s, softtpm.Options{})
	s.tick()
	s.Approve(h)
	s.tick()
	s.Activate(h)
	return s.Tree.Head().Size - 1
}

// An enrolment is checked against the anchors in force where it stands, whatever the trust file knows of their roots.
func TestEnrolmentUnderAnchors(t *testing.T) {
	s := newStage(t)
	b := softtpm.NewVendor(t)
	s.publish(s.anchors(1, rootOf(b)))
	entries := []uint64{s.enrolAt(b, "b"), s.enrolAt(s.Vendor, "a")}
	s.publish(s.anchors(2, rootOf(softtpm.NewVendor(t))))
	raw := s.export(audit.Query{})
	for name, roots := range map[string]bool{"with the roots of genesis": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			trust := s.trust()
			if !roots {
				trust.TPMRoots = nil
			}
			r := must(audit.Verify(s.Ctx, bytes.NewReader(raw), trust, audit.Options{Now: s.Now()}))(t)
			if err := r.Err(); err != nil {
				t.Fatalf("%v\n%s", err, r.Text())
			}
			for _, index := range entries {
				if f := finding(t, r, index); f.Event != record.EventEnrol.String() || f.Verdict != audit.Unchecked {
					t.Errorf("entry %d: got %s of event %s: %s", index, f.Verdict, f.Event, f.Why)
				}
			}
		})
	}
}

// An issuer that passes over the anchors in force is found out.
func TestEnrolmentPastAnchorsIsRefuted(t *testing.T) {
	mine := big.NewInt(2) // softtpm gives every EK certificate this number
	for name, c := range map[string]struct {
		before func(*stage) // the record is written
		want   denial.Reason
	}{
		"the root is withdrawn": {func(s *stage) {
			s.publish(s.anchors(1, fmt.Sprintf("withdrawn = [\"%x\"]", sha256.Sum256(s.Vendor.Root.Raw))))
		}, denial.EKUntrusted},
		"the certificate is revoked": {func(s *stage) {
			s.publish(s.anchors(1, rootOf(s.Vendor), pemBlock("list", "X509 CRL", s.Vendor.Revoke(s, time.Hour, mine).Raw)))
		}, denial.HostRevoked},
		"no list says so": {func(s *stage) { s.publish(s.anchors(1, "lists_required = true")) }, denial.RevocationUnknown},
		"the firmware is denied": {func(s *stage) {
			s.publish(s.anchors(1, "[[firmware]]\nmanufacturer = \"00001014\"\nfrom = \"0.0\"\nto = \"65535.0\"\nwhy = \"test\""))
		}, denial.TPMFirmware},
		"the anchors have expired": {func(s *stage) {
			s.publish(s.anchors(1, rootOf(s.Vendor)))
			s.Advance(2 * time.Hour)
		}, denial.PolicyExpired},
		"the anchors are withdrawn": {func(s *stage) {
			s.publish(s.anchors(1, rootOf(s.Vendor)))
			s.revoke(record.CausePolicy, s.docs[record.Anchors].Hash().String())
		}, denial.PolicyWithdrawn},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			r := s.lastRecord(record.EventEnrol)
			c.before(s)
			r.Emitter.Seq += 100
			r.Time = s.Seconds() + 1
			s.wantForged(t, s.append(must(r.Sign(s.Ctx, s.Keys[record.PurposeRecord], hostURI))(t)), c.want)
		})
	}
	t.Run("the anchors go back", func(t *testing.T) {
		s := newStage(t)
		first := s.Policy(s.anchors(1, rootOf(s.Vendor)))
		s.publish(s.anchors(2))
		s.wantForged(t, s.append(s.Sign(statement.Policy, first, issuertest.Alice, issuertest.Bob)...), denial.PolicyRollback)
	})
}
