package audit_test

import (
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// heldStage is a log in which the host is held: a copy of its TPM had come after it.
func heldStage(t *testing.T) *stage {
	t.Helper()
	s := newStage(t)
	copied := *s.Host.TPM
	s.Host.TPM.Clock.ResetCount++
	s.permit()
	s.Advance(10 * time.Second)
	s.refuse(denial.BootRollback, asking{tpm: &copied})
	if !s.lastRecord(record.EventDenial).Hold {
		t.Fatal("the host is not held")
	}
	return s
}

func TestK21_HoldIsAudited(t *testing.T) {
	s := heldStage(t)
	s.refuse(denial.BootRollback, asking{})
	s.Host.TPM.Clock.ResetCount = 0 // as it is now, whatever was seen of it
	s.enrolHost()
	s.permit()
	raw := s.export(audit.Query{})
	wantProved(t, s.verify(raw))
	for from := range s.Size() { // wherever a range begins, the hold is known
		if r := s.verify(s.export(audit.Query{From: from})); r.Verdict != audit.Proved {
			t.Fatalf("from %d:\n%s", from, r.Text())
		}
	}
	wantProved(t, s.verify(s.export(audit.Query{Host: hostURI})))
}

// An issuer that forgets that it held a host is found out by the record of it.
func TestK21_ForgottenHoldIsRefuted(t *testing.T) {
	s := heldStage(t)
	s.refuse(denial.BootRollback, asking{})
	in := must(decision.DecodeInput(s.blob(s.lastRecord(record.EventDenial).Input)))(t)
	in.Held = false
	d := decision.Decide(in, s.docs[record.Appraisal], s.docs[record.Authorization])
	if err := d.Denied(); err != nil {
		t.Fatal(err)
	}
	leaf := must(artifact.Sign(s.Ctx, s.Keys[record.PurposeArtifact], d.Claims()))(t)
	s.wantForged(t, must(s.Tree.Append(s.Ctx, tlog.Entry{Leaf: leaf, Blobs: [][]byte{must(in.Encode())(t)}}))(t)[0].Index, denial.BootRollback)
}

// So is one that lets a held host start something, or be let by a quorum.
func TestK21_StartsOfAHeldHostAreRefuted(t *testing.T) {
	for name, leaves := range map[string]func(*stage) func() [][]byte{
		"artifact": func(s *stage) func() [][]byte {
			m, _ := s.permit()
			return func() [][]byte {
				return [][]byte{s.Report(s.Host, m, record.EventStart, func(r *record.Record) {
					c := must(s.claims(m))(s)
					r.Initiator, r.Policy = c.Initiator.Principal, &record.PolicyRef{ID: c.Policy.ID, Hash: c.Policy.Hash.Value}
				})}
			}
		},
		"break-glass": func(s *stage) func() [][]byte {
			s.docs[record.Authorization] = s.DeclareGlass(false)
			g := s.PublishGlass(s.DraftGlass(s.docs[record.Authorization]), alice, bob)
			s.tick()
			s.AttestGlass(g)
			return func() [][]byte { return [][]byte{s.ReportGlass(s.Host, g, record.EventStart, nil)} }
		},
		"break-glass anew": func(s *stage) func() [][]byte {
			s.docs[record.Authorization] = s.DeclareGlass(false)
			return func() [][]byte {
				return s.Sign(statement.BreakGlass, s.DraftGlass(s.docs[record.Authorization]), alice, bob)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			copied := *s.Host.TPM
			s.Host.TPM.Clock.ResetCount++
			s.permit()
			late := leaves(s)
			s.Advance(10 * time.Second)
			s.refuse(denial.BootRollback, asking{tpm: &copied})
			s.wantForged(t, s.append(late()...), denial.HostRevoked)
		})
	}
}

// claims reads an artifact that the issuer has just made.
func (s *stage) claims(m *issuer.Minted) (artifact.Claims, error) {
	c, _, err := artifact.Inspect(m.Artifact)
	return c, err
}
