package issuertest

import (
	"encoding/hex"
	"fmt"

	"github.com/governed-execution/writ/artifact"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// glassParameters is the digest of the one argument vector that break-glass may run.
var glassParameters = artifact.ParametersDigest([]string{"/usr/bin/reconcile", "--restore"})

// GlassScope returns what a break-glass authorization may allow.
func GlassScope() artifact.Scope {
	p := glassParameters
	return artifact.Scope{{Target: Target, Terms: artifact.Terms{Operations: artifact.Execute, Code: []artifact.Digest{artifact.SHA256Digest(Code)}, Parameters: &p}}}
}

// GlassRule returns what an authorization policy declares for break-glass: Robot may have Code run by Gate on HostURI.
func GlassRule(waive bool) string {
	return fmt.Sprintf(`
[[break_glass]]
name = "restore"
initiators = [%q]
host_ids = [%q]
audiences = [%q]
lifetime = "1h"
waive_attestation = %v
[[break_glass.scope]]
target = %q
operations = ["execute"]
code = [%q]
parameters = [%q]
`, Robot, HostURI, Gate, waive, Target, hex.EncodeToString(Code[:]), hex.EncodeToString(glassParameters.Value))
}

// Glass is a published break-glass authorization, and what came of it.
type Glass struct {
	record.BreakGlass
	Digest statement.Digest // of the payload
	Act    [][]byte         // with receipts
	Proof  []byte           // attestation record with its receipt; nil if there is none
}

// DeclareGlass publishes an authorization policy that declares the scope of GlassScope.
func (w *World) DeclareGlass(waive bool) *firmwarepolicy.Document {
	w.Helper()
	text := w.Authorization(GlassRule(waive))
	w.Publish(text)
	return Must(firmwarepolicy.ParseTOML([]byte(text)))(w)
}

// DraftGlass returns an authorization under the policy, for an hour.
func (w *World) DraftGlass(doc *firmwarepolicy.Document) record.BreakGlass {
	w.Helper()
	hash := doc.Hash()
	return record.BreakGlass{Version: record.Version, ID: Random(16), Host: HostURI, Audience: Gate, Initiator: Robot, Scope: Must(GlassScope().Encode())(w),
		Policy: record.Declared{ID: doc.ID(), Hash: hash[:], Version: doc.Version(), Rule: "restore"}, IssuedAt: w.Seconds(), Expires: w.Seconds() + 3600, Why: "a test"}
}

// PublishGlass signs and publishes an authorization.
func (w *World) PublishGlass(g record.BreakGlass, persons ...string) *Glass {
	w.Helper()
	b := w.Sign(statement.BreakGlass, g, persons...)
	return &Glass{BreakGlass: g, Digest: statement.DigestOf(Must(statement.Marshal(g))(w)), Act: Must(w.Issuer.Apply(w.Ctx, statement.BreakGlass, b))(w)}
}

// AttestGlass has the host attest for an authorization.
func (w *World) AttestGlass(g *Glass) *issuer.Minted {
	w.Helper()
	a := w.Prepare(Spoil{Claims: func(c *artifact.RequestClaims) {
		c.Scope, c.Execution.ID, c.Limits, c.Lifetime, c.BreakGlass = GlassScope(), g.ID, nil, g.Expires-g.IssuedAt, g.Digest[:]
	}})
	minted := Must(w.Issuer.Attest(w.Ctx, a.Conn, a.Exporter, a.Request, a.Evidence))(w)
	g.Proof = minted.Artifact
	return minted
}

// ReportGlass returns a record of the host's gate about an authorization, signed.
func (w *World) ReportGlass(h *Host, g *Glass, event record.Event, edit func(*record.Record)) []byte {
	w.Helper()
	r := record.Record{Version: record.Version, Event: event, Time: w.Seconds(), CTI: g.ID, Artifact: g.Digest[:], Workload: g.Host, Initiator: g.Initiator,
		Policy:  &record.PolicyRef{ID: g.Policy.ID, Hash: g.Policy.Hash},
		Emitter: record.Emitter{URI: h.Gate, Epoch: h.Chain.Epoch, Seq: h.Chain.Next}, Previous: h.Chain.Previous,
		Execution: &record.Execution{ID: g.ID, Use: 1, Code: Code[:], Args: glassParameters.Value}}
	if event == record.EventStart {
		r.Glass = &record.Glass{Waived: g.Waived}
		if g.Proof != nil {
			digest := Must(statement.Decode(g.Proof, 2*statement.MaxStatement))(w).Digest()
			r.Glass = &record.Glass{Attestation: digest[:]}
		}
	}
	if edit != nil {
		edit(&r)
	}
	return Must(r.Sign(w.Ctx, h.Key, r.Emitter.URI))(w)
}

// ReviewGlass has an authorization reviewed.
func (w *World) ReviewGlass(g *Glass, justified bool, persons ...string) {
	w.Helper()
	Must(w.Issuer.Apply(w.Ctx, statement.Review, w.SignReview(g.Digest, justified, persons...)))(w)
}

// SignReview makes the review of an authorization.
func (w *World) SignReview(act statement.Digest, justified bool, persons ...string) record.Bundle {
	w.Helper()
	r := record.Review{Version: record.Version, Act: act[:], Time: w.Seconds(), Justified: justified, Finding: "looked at", Nonce: Random(16)}
	return w.Sign(statement.Review, r, persons...)
}
