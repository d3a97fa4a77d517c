package issuer_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/test/softtpm"
)

// act is one act that is refused.
type act struct {
	name   string
	kind   statement.Kind
	bundle func(w *issuertest.World) record.Bundle
	reason denial.Reason
	known  bool // enough authorities have signed it, and it never had an effect
}

func policyAct(edit func(*issuertest.World, *record.Policy), persons ...string) func(*issuertest.World) record.Bundle {
	return func(w *issuertest.World) record.Bundle {
		p := w.Policy(w.Authorization())
		if edit != nil {
			edit(w, &p)
		}
		return w.Sign(statement.Policy, p, persons...)
	}
}

func revocationAct(c record.Cause, target func(*issuertest.World) string) func(*issuertest.World) record.Bundle {
	return func(w *issuertest.World) record.Bundle {
		return w.Sign(statement.Revocation, w.Revocation(c, target(w)), issuertest.Alice, issuertest.Bob)
	}
}

func text(s string) func(*issuertest.World) string {
	return func(*issuertest.World) string { return s }
}

// anotherHost is an approval of a machine under a host id.
func anotherHost(id string, machine func(*issuertest.World) *issuertest.Host) func(*issuertest.World) record.Bundle {
	return func(w *issuertest.World) record.Bundle {
		e := w.Approval(machine(w))
		e.ID = id
		return w.Sign(statement.Enrolment, e, issuertest.Alice, issuertest.Bob)
	}
}

var acts = []act{
	{"P05 one of two has signed", statement.Policy, policyAct(nil, issuertest.Alice), denial.PolicyUnsigned, false},
	{"P05 one has signed twice", statement.Policy, policyAct(nil, issuertest.Alice, issuertest.Alice), denial.KeyAmbiguous, false},
	{"signed by an initiator", statement.Policy, policyAct(nil, issuertest.Alice, issuertest.Robot), denial.KeyUnknown, false},
	{"enrolment by one of two", statement.Enrolment, func(w *issuertest.World) record.Bundle {
		return w.Sign(statement.Enrolment, w.Initiator(mallory), issuertest.Bob)
	}, denial.ThresholdNotMet, false},
	{"sent as another kind", statement.Enrolment, policyAct(nil, issuertest.Alice, issuertest.Bob), denial.WrongType, false},
	{"genesis again", statement.Genesis, func(w *issuertest.World) record.Bundle { return w.Act }, denial.WrongType, true},
	{"A17 payloads differ", statement.Policy, func(w *issuertest.World) record.Bundle {
		a := policyAct(nil, issuertest.Alice)(w)
		return append(a, policyAct(nil, issuertest.Bob)(w)...)
	}, denial.DualControlMissing, false},
	{"A16 two keys of one person", statement.Policy, func(w *issuertest.World) record.Bundle {
		return policyAct(nil, issuertest.Alice, issuertest.AliceToo)(w)
	}, denial.DualControlMissing, false},
	{"A17 the approval of another version", statement.Policy, func(w *issuertest.World) record.Bundle {
		p := w.Policy(w.Authorization())
		mine, other := w.Sign(statement.Policy, p, issuertest.Alice), w.ActClaims(issuertest.Issuer, statement.Policy, p)
		other.Expires++
		return append(mine, w.SignWith(other, statement.Policy, p, issuertest.Bob)...)
	}, denial.DualControlMissing, false},
	{"A18 drafted before a later act took effect", statement.Policy, func(w *issuertest.World) record.Bundle {
		p := w.Policy(w.Authorization())
		p.Revision += 2
		b := w.Sign(statement.Policy, p, issuertest.Alice, issuertest.Bob)
		w.Publish(w.Authorization())
		return b
	}, denial.DualControlMissing, true},
	{"A18 a host approved anew before that approval", statement.Enrolment, func(w *issuertest.World) record.Bundle {
		b := w.Sign(statement.Enrolment, w.Approval(w.Host), issuertest.Alice, issuertest.Bob)
		w.Approve(w.Host)
		w.Activate(w.Host)
		return b
	}, denial.DualControlMissing, true},
	{"A18 a number is left out", statement.Enrolment, changed(func(c *statement.Claims) { c.Sequence++ }), denial.DualControlMissing, true},
	{"A17 expired", statement.Enrolment, changed(func(c *statement.Claims) { c.IssuedAt, c.Expires = c.IssuedAt-7200, c.IssuedAt }), denial.Expired, true},
	{"A17 about to expire", statement.Enrolment, changed(func(c *statement.Claims) { c.Expires = c.IssuedAt + 60 }), denial.Expired, true},
	{"A17 dated ahead", statement.Enrolment, changed(func(c *statement.Claims) { c.IssuedAt += 61 }), denial.NotYetValid, true},
	{"A17 good for longer than a month", statement.Enrolment, changed(func(c *statement.Claims) { c.Expires = c.IssuedAt + 31*86400 }), denial.LifetimeTooLong, false},
	{"A17 without expiry", statement.Enrolment, changed(func(c *statement.Claims) { c.Expires = 0 }), denial.ClaimAbsent, false},
	{"A18 without a number", statement.Enrolment, changed(func(c *statement.Claims) { c.Sequence = 0 }), denial.ClaimAbsent, false},
	{"about another subject than it names", statement.Enrolment, changed(func(c *statement.Claims) { c.Subject += "x" }), denial.IdentityConflict, false},
	{"for another issuer", statement.Revocation, func(w *issuertest.World) record.Bundle {
		return w.SignAs("https://other.example", statement.Revocation, w.Revocation(record.CauseHost, w.Host.URI), issuertest.Alice, issuertest.Bob)
	}, denial.IdentityConflict, true},
	{"P01 an older version", statement.Policy, policyAct(func(w *issuertest.World, _ *record.Policy) { w.Publish(w.Authorization()) }, issuertest.Alice, issuertest.Bob), denial.PolicyRollback, true},
	{"P01 the same version", statement.Policy, policyAct(func(w *issuertest.World, p *record.Policy) {
		*p = w.Policy(replace(w, replace(w, w.Authorization(), "version = 3", "version = 1"), "600s", "60s"))
	}, issuertest.Alice, issuertest.Bob), denial.PolicyRollback, true},
	{"P02 expired", statement.Policy, policyAct(func(w *issuertest.World, p *record.Policy) {
		*p = w.Policy(replace(w, w.Authorization(), "2030-01-01T00:00:00Z", w.Now().Format(time.RFC3339)))
	}, issuertest.Alice, issuertest.Bob), denial.PolicyExpired, true},
	{"P03 the payload names another version", statement.Policy, policyAct(func(_ *issuertest.World, p *record.Policy) { p.Revision++ }, issuertest.Alice, issuertest.Bob), denial.PolicyHashMismatch, true},
	{"P03 the payload names another kind", statement.Policy, policyAct(func(_ *issuertest.World, p *record.Policy) { p.Kind = record.Appraisal }, issuertest.Alice, issuertest.Bob), denial.PolicyHashMismatch, true},
	{"P08 a document that does not compile", statement.Policy, policyAct(func(_ *issuertest.World, p *record.Policy) {
		p.Document = bytes.Replace(p.Document, []byte("reconcile"), []byte("Reconcile"), 1)
	}, issuertest.Alice, issuertest.Bob), denial.PolicyError, true},
	{"policy payload incomplete", statement.Policy, policyAct(func(_ *issuertest.World, p *record.Policy) { p.Time = 0 }, issuertest.Alice, issuertest.Bob), denial.ClaimAbsent, true},
	{"K18 one host id, another TPM", statement.Enrolment, anotherHost(issuertest.HostURI, func(w *issuertest.World) *issuertest.Host {
		return w.NewHost(issuertest.HostURI, issuertest.Gate)
	}), denial.IdentityConflict, true},
	{"K20 one EK, another host id", statement.Enrolment, anotherHost(issuertest.OtherURI, func(w *issuertest.World) *issuertest.Host { return w.Host }), denial.IdentityConflict, true},
	{"a key that is registered", statement.Enrolment, func(w *issuertest.World) record.Bundle {
		e := w.Initiator(issuertest.Robot)
		e.ID = mallory
		return w.Sign(statement.Enrolment, e, issuertest.Alice, issuertest.Bob)
	}, denial.IdentityConflict, true},
	{"another key of an initiator, as another kind", statement.Enrolment, func(w *issuertest.World) record.Bundle {
		e := w.Initiator(issuertest.Robot)
		e.Initiator = &record.Initiator{Kind: record.Human, Key: issuertest.NewKey(w).Key()}
		return w.Sign(statement.Enrolment, e, issuertest.Alice, issuertest.Bob)
	}, denial.IdentityConflict, true},
	{"enrolment of nothing", statement.Enrolment, func(w *issuertest.World) record.Bundle {
		e := w.Approval(w.Host)
		e.Host = nil
		return w.Sign(statement.Enrolment, e, issuertest.Alice, issuertest.Bob)
	}, denial.PayloadForm, true},
	{"revocation of an unknown host", statement.Revocation, revocationAct(record.CauseHost, text(issuertest.HostURI+"a")), denial.NotEnrolled, true},
	{"revocation of an unknown initiator", statement.Revocation, revocationAct(record.CauseInitiator, text(issuertest.HostURI)), denial.NotEnrolled, true},
	{"revocation of an unknown artifact", statement.Revocation, revocationAct(record.CauseArtifact, text(strings.Repeat("00", 16))), denial.NoArtifact, true},
	{"revocation of an artifact in capitals", statement.Revocation, revocationAct(record.CauseArtifact, func(w *issuertest.World) string {
		return strings.ToUpper(hex.EncodeToString(inspect(w, w.Permit()).ID)) + "A"
	}), denial.NoArtifact, true},
	{"revocation of an unknown policy", statement.Revocation, revocationAct(record.CausePolicy, text("https://issuer.example/policy/who")), denial.NoActivePolicy, true},
	{"revocation of a cause that nobody may name", statement.Revocation, revocationAct(record.CauseKey, text("x")), denial.UnsupportedVersion, true},
}

func inspect(w *issuertest.World, m *issuer.Minted) artifact.Claims {
	w.Helper()
	c, _, err := artifact.Inspect(m.Artifact)
	if err != nil {
		w.Fatal(err)
	}
	return c
}

// changed makes an enrolment of an initiator with other claims.
func changed(edit func(*statement.Claims)) func(*issuertest.World) record.Bundle {
	return func(w *issuertest.World) record.Bundle {
		e := w.Initiator(mallory)
		c := w.ActClaims(issuertest.Issuer, statement.Enrolment, e)
		edit(&c)
		return w.SignWith(c, statement.Enrolment, e, issuertest.Alice, issuertest.Bob)
	}
}

func TestActsAreRefusedWithTheirCode(t *testing.T) {
	for _, row := range acts {
		t.Run(row.name, func(t *testing.T) {
			w := issuertest.New(t)
			b := row.bundle(w)
			for range 2 {
				size := w.Size()
				_, err := w.Issuer.Apply(w.Ctx, row.kind, b)
				ref := w.Refusal(err, row.reason)
				if row.kind == statement.Genesis {
					return // refused before anything is verified
				}
				told := row.known || row.reason == denial.PolicyUnsigned || row.reason == denial.ThresholdNotMet || row.reason == denial.DualControlMissing
				if ref.Denial.Stage != denial.StageAct || ref.Known != told || ref.Logged != row.known {
					t.Errorf("got stage %q, known %v, logged %v", ref.Denial.Stage, ref.Known, ref.Logged)
				}
				if got := w.Size() - size; row.known != (got == 1) || got > 1 {
					t.Errorf("got %d entries more", got)
				}
				if row.known {
					if r := w.Record(ref.Index); r.Event != record.EventDenial || r.Reasons[0] != uint64(row.reason.Code()) || r.Initiator != issuertest.Alice {
						t.Errorf("got record %+v", r)
					}
				}
			}
			w.Permit() // nothing has changed
		})
	}
}

func TestNobodysActIsToldNothing(t *testing.T) {
	w := issuertest.New(t)
	for _, kind := range []statement.Kind{statement.Policy, statement.Enrolment, statement.Revocation} {
		_, err := w.Issuer.Apply(w.Ctx, kind, nil)
		if ref := w.Refusal(err, record.ShortOf(kind)); ref.Known || ref.Logged {
			t.Errorf("%s: got %+v", kind, ref)
		}
	}
}

// A18: an act is used up, whatever its effect was.
func TestActHasEffectOnceAndItsReplaysDoNotFillTheLog(t *testing.T) {
	w := issuertest.New(t)
	b := w.Sign(statement.Enrolment, w.Initiator(mallory), issuertest.Alice, issuertest.Bob)
	revocation := w.Sign(statement.Revocation, w.Revocation(record.CauseInitiator, issuertest.Robot), issuertest.Alice, issuertest.Bob)
	old := w.Policy(w.Authorization())
	policy := w.Sign(statement.Policy, old, issuertest.Alice, issuertest.Bob)
	for _, a := range []struct {
		kind   statement.Kind
		bundle record.Bundle
	}{{statement.Revocation, revocation}, {statement.Enrolment, b}, {statement.Policy, policy}} {
		out := issuertest.Must(w.Issuer.Apply(w.Ctx, a.kind, a.bundle))(t)
		size := w.Size()
		for n, raw := range out {
			env := issuertest.Must(statement.Decode(raw, statement.MaxStatement))(t)
			if receipts, err := env.Receipts(); err != nil || len(receipts) != 1 || !bytes.Equal(env.Leaf(), a.bundle[n]) {
				t.Errorf("statement %d is not the one sent, with a receipt: %v", n, err)
			}
		}
		for range 3 {
			_, err := w.Issuer.Apply(w.Ctx, a.kind, a.bundle)
			if ref := w.Refusal(err, denial.DualControlMissing); ref.Logged || w.Size() != size {
				t.Errorf("%s again: logged, or %d entries after %d", a.kind, w.Size(), size)
			}
		}
	}
}

// A18 and P09: of many policies that were approved for the same place one is put in force.
func TestPoliciesPublishedAtOnce(t *testing.T) {
	w := issuertest.New(t)
	var bundles []record.Bundle
	for range 4 {
		for _, toml := range []string{w.Appraisal(), w.Authorization()} {
			p := w.Policy(toml)
			bundles = append(bundles, w.Sign(statement.Policy, p, issuertest.Alice, issuertest.Bob))
		}
	}
	reasons := parallel(len(bundles), func(i int) error { _, err := w.Issuer.Apply(w.Ctx, statement.Policy, bundles[i]); return err })
	if reasons[0] != 2 || reasons[denial.DualControlMissing] != len(bundles)-2 {
		t.Errorf("got %v", reasons)
	}
	w.Permit()
}

func TestK19_OneOfManyEnrolmentsWins(t *testing.T) {
	w := issuertest.New(t)
	machines := []*issuertest.Host{w.NewHost(issuertest.OtherURI, ""), w.NewHost(issuertest.OtherURI, "")}
	bundles := make([]record.Bundle, 100)
	for n := range bundles {
		bundles[n] = w.Sign(statement.Enrolment, w.Approval(machines[n%2]), issuertest.Alice, issuertest.Bob)
	}
	reasons := parallel(len(bundles), func(i int) error { _, err := w.Issuer.Apply(w.Ctx, statement.Enrolment, bundles[i]); return err })
	if reasons[0] != 1 || reasons[denial.DualControlMissing] != 99 {
		t.Errorf("got %v", reasons)
	}
	enrolled := 0
	for _, m := range machines {
		if _, err := w.Begin(issuer.NewConnection(), m); err == nil {
			enrolled++
		} else {
			w.Refusal(err, denial.NotEnrolled)
		}
	}
	if enrolled != 1 {
		t.Errorf("%d TPMs are approved for one host", enrolled)
	}
}

func TestK19_OneTPMAndManyHosts(t *testing.T) {
	w := issuertest.New(t)
	m := w.NewHost(issuertest.OtherURI, "")
	bundles := make([]record.Bundle, 100)
	for n := range bundles {
		e := w.Approval(m)
		e.ID += strings.Repeat("x", n)
		bundles[n] = w.Sign(statement.Enrolment, e, issuertest.Alice, issuertest.Bob)
	}
	reasons := parallel(len(bundles), func(i int) error { _, err := w.Issuer.Apply(w.Ctx, statement.Enrolment, bundles[i]); return err })
	if reasons[0] != 1 || reasons[denial.IdentityConflict] != 99 {
		t.Errorf("got %v, want one success and 99 times IDENTITY_CONFLICT", reasons)
	}
}

func TestApprovalAnewEndsTheEnrolment(t *testing.T) {
	w := issuertest.New(t)
	w.Permit()
	w.Host.Labels = map[string]string{"env": "test", "room": "7"}
	w.Approve(w.Host)
	checkRefusal(w, refusal{spoil: plain(issuertest.Spoil{}), reason: denial.NotEnrolled, stage: denial.StageCaller})
	if _, err := w.Issuer.Host(w.Ctx, w.Host.URI); !denial.Is(err, denial.NotEnrolled) {
		t.Errorf("got %v", err)
	}
	w.Activate(w.Host)
	w.Permit()
	if h := issuertest.Must(w.Issuer.Host(w.Ctx, w.Host.URI))(t); h.Labels["room"] != "7" || h.Gate != w.Host.Gate {
		t.Errorf("got %+v", h)
	}
}

func TestEnrolmentRefusals(t *testing.T) {
	type begin func(w *issuertest.World) error
	with := func(edit func(*issuertest.World, *issuertest.Host, *attest.EnrolRequest)) begin {
		return func(w *issuertest.World) error {
			h := w.NewHost(issuertest.OtherURI, "")
			w.Approve(h)
			r := h.TPM.EnrolRequest()
			edit(w, h, &r)
			_, err := w.Issuer.BeginEnrolment(w.Ctx, issuer.NewConnection(), issuertest.Must(r.Encode())(w))
			return err
		}
	}
	for _, row := range []struct {
		name   string
		begin  begin
		reason denial.Reason
	}{
		{"noise", func(w *issuertest.World) error {
			_, err := w.Issuer.BeginEnrolment(w.Ctx, issuer.NewConnection(), []byte("noise"))
			return err
		}, denial.StructureLimit},
		{"F25 a genuine TPM that nobody approved", func(w *issuertest.World) error {
			_, err := w.Begin(issuer.NewConnection(), w.NewHost(issuertest.OtherURI, ""))
			return err
		}, denial.NotEnrolled},
		{"K11 a vendor whose root is not pinned", func(w *issuertest.World) error {
			h := w.NewHost(issuertest.OtherURI, "")
			h.TPM = softtpm.NewVendor(w).New(w, softtpm.Options{})
			w.Approve(h)
			_, err := w.Begin(issuer.NewConnection(), h)
			return err
		}, denial.EKUntrusted},
		{"no certificate, and not listed", with(func(_ *issuertest.World, _ *issuertest.Host, r *attest.EnrolRequest) { r.Chain = nil }), denial.EKUntrusted},
		{"K12 the certificate of another TPM", with(func(w *issuertest.World, _ *issuertest.Host, r *attest.EnrolRequest) {
			r.Chain = [][]byte{w.Host.TPM.Certificate}
		}), denial.AKSubstituted},
		{"host revoked", func(w *issuertest.World) error {
			h := w.NewHost(issuertest.OtherURI, "")
			w.Approve(h)
			w.Revoke(record.CauseHost, h.URI)
			_, err := w.Begin(issuer.NewConnection(), h)
			return err
		}, denial.HostRevoked},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := issuertest.New(t)
			for range 2 {
				w2 := w
				if row.name != "noise" {
					w2 = issuertest.New(t)
				}
				ref := w2.Refusal(row.begin(w2), row.reason)
				if ref.Known || ref.Logged || ref.Denial.Stage != denial.StageEnrolment {
					t.Errorf("got %+v", ref)
				}
			}
		})
	}
}

func TestListedEKNeedsNoCertificate(t *testing.T) {
	w := issuertest.New(t)
	h := w.NewHost(issuertest.OtherURI, "")
	e := w.Approval(h)
	e.Host.Listed = true
	w.Apply(statement.Enrolment, e)
	conn, r := issuer.NewConnection(), h.TPM.EnrolRequest()
	r.Chain = nil
	cred := issuertest.Must(w.Issuer.BeginEnrolment(w.Ctx, conn, issuertest.Must(r.Encode())(t)))(t)
	issuertest.Must(w.Issuer.FinishEnrolment(w.Ctx, conn, issuertest.Must(h.TPM.Activate(*cred))(t)))(t)
	if rec := w.Record(w.Size() - 1); rec.Event != record.EventEnrol || rec.Enrolled.Method != "list" || rec.Enrolled.GateKey != nil {
		t.Errorf("got %+v", rec.Enrolled)
	}
}

func TestActivation(t *testing.T) {
	type step struct {
		name   string
		do     func(w *issuertest.World, h *issuertest.Host) error
		reason denial.Reason
	}
	finish := func(w *issuertest.World, conn *issuer.Connection, secret []byte) error {
		_, err := w.Issuer.FinishEnrolment(w.Ctx, conn, secret)
		return err
	}
	begin := func(w *issuertest.World, h *issuertest.Host) (*issuer.Connection, []byte) {
		conn := issuer.NewConnection()
		return conn, issuertest.Must(w.Begin(conn, h))(w)
	}
	for _, s := range []step{
		{"K01 K04 a wrong secret", func(w *issuertest.World, h *issuertest.Host) error {
			conn, secret := begin(w, h)
			secret[0] ^= 1
			return finish(w, conn, secret)
		}, denial.ActivationFailed},
		{"no secret", func(w *issuertest.World, h *issuertest.Host) error {
			conn, _ := begin(w, h)
			return finish(w, conn, nil)
		}, denial.ActivationFailed},
		{"a secret with a byte more", func(w *issuertest.World, h *issuertest.Host) error {
			conn, secret := begin(w, h)
			return finish(w, conn, append(secret, 0))
		}, denial.ActivationFailed},
		{"K03 a wrong answer, then the right one", func(w *issuertest.World, h *issuertest.Host) error {
			conn, secret := begin(w, h)
			w.Refusal(finish(w, conn, make([]byte, 32)), denial.ActivationFailed)
			return finish(w, conn, secret)
		}, denial.ChallengeReused},
		{"the zero secret after a wrong answer", func(w *issuertest.World, h *issuertest.Host) error {
			conn, _ := begin(w, h)
			w.Refusal(finish(w, conn, []byte{1}), denial.ActivationFailed)
			return finish(w, conn, make([]byte, 32))
		}, denial.ChallengeReused},
		{"K03 too late", func(w *issuertest.World, h *issuertest.Host) error {
			conn, secret := begin(w, h)
			w.Advance(issuer.ChallengeLife)
			return finish(w, conn, secret)
		}, denial.ChallengeExpired},
		{"F08 on another connection", func(w *issuertest.World, h *issuertest.Host) error {
			_, secret := begin(w, h)
			return finish(w, issuer.NewConnection(), secret)
		}, denial.ChallengeUnknown},
		{"F08 a challenge is no activation", func(w *issuertest.World, h *issuertest.Host) error {
			conn := issuer.NewConnection()
			return finish(w, conn, issuertest.Must(w.Issuer.Challenge(w.Ctx, conn))(w).Challenge)
		}, denial.ChallengeUnknown},
		{"the secret of an earlier credential", func(w *issuertest.World, h *issuertest.Host) error {
			conn, secret := begin(w, h)
			issuertest.Must(w.Begin(conn, h))(w)
			return finish(w, conn, secret)
		}, denial.ActivationFailed},
		{"host revoked meanwhile", func(w *issuertest.World, h *issuertest.Host) error {
			conn, secret := begin(w, h)
			w.Revoke(record.CauseHost, h.URI)
			return finish(w, conn, secret)
		}, denial.HostRevoked},
		{"host revoked while the record is signed", func(w *issuertest.World, h *issuertest.Host) error {
			conn, secret := begin(w, h)
			w.Keys[record.PurposeRecord].Once(func() { w.Revoke(record.CauseHost, h.URI) })
			return finish(w, conn, secret)
		}, denial.HostRevoked},
		{"host approved anew meanwhile", func(w *issuertest.World, h *issuertest.Host) error {
			conn, secret := begin(w, h)
			w.Approve(h)
			return finish(w, conn, secret)
		}, denial.NotEnrolled},
		{"host approved anew while the record is signed", func(w *issuertest.World, h *issuertest.Host) error {
			conn, secret := begin(w, h)
			w.Keys[record.PurposeRecord].Once(func() { w.Approve(h) })
			return finish(w, conn, secret)
		}, denial.NotEnrolled},
	} {
		t.Run(s.name, func(t *testing.T) {
			w := issuertest.New(t)
			h := w.NewHost(issuertest.OtherURI, issuertest.OtherGate)
			w.Approve(h)
			w.Refusal(s.do(w, h), s.reason)
			_, err := w.Ask(issuertest.Spoil{Host: h}) // K04: nothing is kept of it
			w.Refusal(err, denial.NotEnrolled)
		})
	}
}

func TestK02_AKOfAnotherTPM(t *testing.T) {
	w := issuertest.New(t)
	h := w.NewHost(issuertest.OtherURI, "")
	w.Approve(h)
	r := h.TPM.EnrolRequest()
	r.AK = w.NewHost("urn:x:b", "").TPM.AK
	conn := issuer.NewConnection()
	cred := issuertest.Must(w.Issuer.BeginEnrolment(w.Ctx, conn, issuertest.Must(r.Encode())(t)))(t)
	if _, err := h.TPM.Activate(*cred); err == nil {
		t.Error("the TPM opened a credential for the AK of another TPM")
	}
	_, err := w.Issuer.FinishEnrolment(w.Ctx, conn, make([]byte, 32))
	w.Refusal(err, denial.ActivationFailed)
}

func TestEnrolmentRecordTellsWhatWasProved(t *testing.T) {
	w := issuertest.New(t)
	h := w.NewHost(issuertest.OtherURI, issuertest.OtherGate)
	approval := w.Approval(h)
	w.Apply(statement.Enrolment, approval)
	conn := issuer.NewConnection()
	raw := issuertest.Must(w.Issuer.FinishEnrolment(w.Ctx, conn, issuertest.Must(w.Begin(conn, h))(t)))(t)
	env := issuertest.Must(statement.Decode(raw, statement.MaxStatement))(t)
	if receipts, err := env.Receipts(); err != nil || len(receipts) != 1 {
		t.Errorf("no receipt: %v", err)
	}
	e := w.Record(w.Size() - 1).Enrolled
	ek, act := h.TPM.EKDigest(), statement.DigestOf(issuertest.Must(statement.Marshal(approval))(t))
	if e.Host != h.URI || !bytes.Equal(e.AK, h.TPM.AK) || !bytes.Equal(e.EK, ek[:]) || e.Method != "chain" || !bytes.Equal(e.Enrolment, act[:]) || !e.GateKey.Equal(h.Key.Key()) {
		t.Errorf("got %+v", e)
	}
	issuertest.Must(attest.DecodeEnrolRequest(blob(w, e.Request)))(t)
}

// Openings of personal data are stored beside the log, and only those that open a commitment of the act.
func TestOpeningsAreStoredBesideTheLog(t *testing.T) {
	w := issuertest.New(t)
	openings, commitments, err := record.Withhold(map[string]string{"name": "Alice Example"})
	if err != nil {
		t.Fatal(err)
	}
	foreign, _, err := record.Withhold(map[string]string{"name": "Alice Example"})
	if err != nil {
		t.Fatal(err)
	}
	e := w.Initiator("urn:example:staff:1")
	e.Personal = commitments
	enrolment := w.Sign(statement.Enrolment, e, issuertest.Alice, issuertest.Bob)
	policy := w.Sign(statement.Policy, w.Policy(w.Authorization()), issuertest.Alice, issuertest.Bob)
	for name, c := range map[string]struct {
		kind     statement.Kind
		act      record.Bundle
		openings [][]byte
		want     denial.Reason
	}{
		"of another salt":  {statement.Enrolment, enrolment, foreign, denial.PayloadForm},
		"one that is none": {statement.Enrolment, enrolment, [][]byte{openings[0], {1}}, denial.PayloadForm},
		"of a policy":      {statement.Policy, policy, openings, denial.PayloadForm},
	} {
		act := issuertest.Must(c.act.WithOpenings(c.openings))(t)
		if _, err := w.Issuer.Apply(w.Ctx, c.kind, act); !denial.Is(err, c.want) {
			t.Errorf("openings %s: got %v, want %s", name, err, c.want)
		}
	}
	logged := issuertest.Must(w.Issuer.Apply(w.Ctx, statement.Enrolment, issuertest.Must(enrolment.WithOpenings(openings))(t)))(t)
	for _, leaf := range logged {
		if bytes.Contains(leaf, []byte("Alice Example")) {
			t.Error("the log holds the value")
		}
	}
	if got, ok, err := w.Tree.Blob(w.Ctx, statement.DigestOf(openings[0])); err != nil || !ok || !bytes.Equal(got, openings[0]) {
		t.Errorf("the opening is not stored: %v, %v", ok, err)
	}
}
