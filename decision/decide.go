package decision

import (
	"bytes"
	"encoding/hex"
	"strings"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// ClockTolerance is by how many milliseconds the clock of a TPM may lie behind the furthest one seen of it: two
// challenges of one host can be answered in the other order than they were quoted.
const ClockTolerance = 60_000

// Decision is the outcome. Its zero value is a denial.
type Decision struct {
	allowed bool
	live    bool
	denied  *denial.Denial
	claims  artifact.Claims
	input   []byte             // canonical: what the claims name by its digest
	glass   *record.BreakGlass // in place of the claims: what the host attested for
	proved  record.Attested
}

// Attestation is what may be recorded of a host that attested for a break-glass authorization. Only Decision.Attestation makes
// it. It is no Permit, and leads to no artifact.
type Attestation struct {
	glass  record.BreakGlass
	proved record.Attested
}

// BreakGlass returns the authorization.
func (a Attestation) BreakGlass() record.BreakGlass { return a.glass }

// Attested returns what the host proved.
func (a Attestation) Attested() record.Attested { return a.proved }

// Permit is what may be minted. Only Decision.Permit makes it; the zero Permit has no claims and cannot be signed.
type Permit struct{ claims artifact.Claims }

// Claims returns the claims of the artifact, which follow from the input alone.
func (p Permit) Claims() artifact.Claims { return p.claims }

// Denied returns the denial, nil only for a permission.
func (d Decision) Denied() *denial.Denial {
	switch {
	case d.allowed:
		return nil
	case d.denied == nil:
		return denial.New(denial.Internal, "nothing was decided")
	}
	return d.denied
}

// Permit returns the permit of a decision that allows and was made on live facts.
func (d Decision) Permit() (Permit, error) {
	if err := d.Denied(); err != nil {
		return Permit{}, err
	}
	if !d.live {
		return Permit{}, denial.New(denial.Internal, "a decision that was made again permits nothing")
	}
	if d.glass != nil {
		return Permit{}, denial.New(denial.WrongType, "a decision about a break-glass authorization permits no artifact")
	}
	return Permit{d.claims}, nil
}

// Attestation returns what a decision about a break-glass authorization came to, if it allows and was made on live facts.
func (d Decision) Attestation() (Attestation, error) {
	if err := d.Denied(); err != nil {
		return Attestation{}, err
	}
	if d.glass == nil || !d.live {
		return Attestation{}, denial.New(denial.WrongType, "the decision is about no break-glass authorization, or was made again")
	}
	return Attestation{*d.glass, d.proved}, nil
}

// Attested returns the authorization that the decision is about and what the host proved, for comparison with the record in
// the log; nil if it is about none.
func (d Decision) Attested() (*record.BreakGlass, *record.Attested) {
	if d.glass == nil {
		return nil, nil
	}
	return d.glass, &d.proved
}

// Input returns the canonical bytes of the input of a decision that leads to an artifact, nil for any other.
func (d Decision) Input() []byte { return d.input }

// Claims returns the claims of the artifact that the decision leads to, for comparison with the one in the log.
func (d Decision) Claims() artifact.Claims { return d.claims }

// Decide checks, in this order:
//   - the policies are there (108), the input is of this version (911) and complete (104), and names those policies (401);
//   - bindings: the request names the certified confirmation key (702), the enrolled host (701) and initiator (405);
//   - facts: the host is not held, and the TPM's counters have not gone back (507);
//   - revocation: host 803, initiator 805, policies 804, a cause that is not known 806;
//   - appraisal: the policy has not expired (206), the evidence is young enough (205), every requirement holds;
//   - lineage: what the request descends from, as descends says (327, 406, 410, 807);
//   - authorization: the policy has not expired (206), and a rule allows it; or, of a request that names a break-glass
//     authorization, all of permittedByPeople.
//
// Each denial names its stage.
func Decide(in *Input, ap, az *firmwarepolicy.Document) Decision {
	var parents []delegated
	steps := []struct {
		stage denial.Stage
		check func() error
	}{
		{denial.StageBinding, func() error { return bound(in, ap, az) }},
		{denial.StageFacts, func() error { return notRolledBack(in) }},
		{denial.StageRevocation, func() error { return notRevoked(in) }},
		{denial.StageAppraisal, func() error { return appraise(in, ap) }},
		{denial.StageAuthorization, func() (err error) { parents, err = descends(in); return err }},
		{denial.StageAuthorization, func() error { return authorize(in, az, parents) }},
	}
	for _, s := range steps {
		if err := s.check(); err != nil {
			return Decision{denied: denial.Of(err).At(s.stage)}
		}
	}
	if in.Request.BreakGlass != nil {
		return attested(in)
	}
	encoded, err := in.Encode()
	if err != nil {
		return Decision{denied: denial.Of(err).At(denial.StageAuthorization)}
	}
	return Decision{allowed: true, live: in.live, input: encoded, claims: claimsOf(in, encoded, parents)}
}

func bound(in *Input, ap, az *firmwarepolicy.Document) error {
	if in == nil || ap == nil || az == nil {
		return denial.New(denial.NoActivePolicy, "no policy is in force")
	}
	if in.Version != InputVersion {
		return denial.New(denial.UnsupportedVersion, "decision input version %d", in.Version)
	}
	if !complete(in) {
		return denial.New(denial.ClaimAbsent, "the decision input is not complete")
	}
	apHash, azHash := ap.Hash(), az.Hash()
	if !bytes.Equal(in.Appraisal.Hash, apHash[:]) || !bytes.Equal(in.Authorization.Hash, azHash[:]) {
		return denial.New(denial.PolicyHashMismatch, "the policies are not those that the input names")
	}
	thumb := in.CNF.Thumbprint()
	switch {
	case !in.CNF.Valid() || !bytes.Equal(in.Request.Confirmation.Key, thumb[:]):
		return denial.New(denial.KeyBinding, "the request names another confirmation key than the certified one")
	case in.Request.Host != in.Host.ID:
		return denial.New(denial.HostMismatch, "the request is for another host")
	case in.Request.Initiator != in.Initiator.ID:
		return denial.New(denial.InitiatorDenied, "the request is by another initiator")
	}
	return nil
}

// complete reports whether what has a fixed length has it.
func complete(in *Input) bool {
	for _, b := range [][]byte{in.RequestDigest, in.Host.AK, in.Host.EK, in.Host.Enrolment, in.Initiator.Key, in.Initiator.Enrolment,
		in.Evidence, in.Challenge, in.Exporter} {
		if len(b) != 32 {
			return false
		}
	}
	return len(in.ID) == 16
}

// notRolledBack refuses a host that is held (K21), and compares the clock with the furthest one seen of the same TPM (F14,
// F15). The counters of an AK in the endorsement hierarchy are plain, so that they can be compared.
func notRolledBack(in *Input) error {
	if in.Held {
		return denial.New(denial.BootRollback, "the host is held, because its TPM was there twice or was put back: authorities must approve it anew")
	}
	if in.HighWater == nil {
		return nil
	}
	if what := behind(in.Facts.Clock, *in.HighWater); what != "" {
		return denial.New(denial.BootRollback, "the TPM's %s has gone back", what)
	}
	return nil
}

// Behind reports whether a clock lies behind one that was seen of the same TPM, by more than ClockTolerance where nothing
// but time has passed.
func Behind(now, seen attest.Clock) bool { return behind(now, seen) != "" }

// behind returns what has gone back, "" if nothing.
func behind(now, seen attest.Clock) string {
	switch {
	case now.Resets < seen.Resets:
		return "reset count"
	case now.Resets == seen.Resets && now.Restarts < seen.Restarts:
		return "restart count"
	case now.Resets == seen.Resets && now.Restarts == seen.Restarts && seen.Milliseconds > now.Milliseconds && seen.Milliseconds-now.Milliseconds > ClockTolerance:
		return "clock"
	}
	return ""
}

func notRevoked(in *Input) error {
	for _, c := range []record.Cause{record.CauseHost, record.CauseInitiator, record.CausePolicy} {
		for _, r := range in.Revoked {
			if record.Cause(r) == c {
				return denial.New(c.Reason(), "the %s is revoked", c)
			}
		}
	}
	if len(in.Revoked) > 0 {
		return denial.New(denial.RevocationUnknown, "a cause of revocation that this version does not know")
	}
	return nil
}

func appraise(in *Input, doc *firmwarepolicy.Document) error {
	if err := doc.CheckTime(in.Time); err != nil {
		return err
	}
	p, err := doc.Appraisal()
	if err != nil {
		return err
	}
	if age := p.EvidenceAge(); in.Time < in.Challenged || in.Time-in.Challenged > age {
		return denial.New(denial.EvidenceStale, "the evidence answers a challenge of more than %d s ago", age)
	}
	_, err = p.Appraise(in.Facts, firmwarepolicy.Host{ID: in.Host.ID, Labels: in.Host.Labels})
	return err
}

func authorize(in *Input, doc *firmwarepolicy.Document, parents []delegated) error {
	if err := doc.CheckTime(in.Time); err != nil {
		return err
	}
	p, err := doc.Authorization()
	if err != nil {
		return err
	}
	if in.Request.BreakGlass != nil || in.BreakGlass != nil {
		return permittedByPeople(in, p)
	}
	ask := askOf(in)
	ask.Delegators = delegators(parents)
	_, err = p.Authorize(ask)
	return err
}

func askOf(in *Input) firmwarepolicy.Ask {
	r := in.Request
	ask := firmwarepolicy.Ask{
		Initiator: in.Initiator.ID, InitiatorKind: record.InitiatorKind(in.Initiator.Kind).String(),
		Host: in.Host.ID, Labels: in.Host.Labels, Audience: r.Audience, Lifetime: r.Lifetime, Uses: r.Limits.MaxUses(),
	}
	if r.Limits != nil {
		ask.Depth, ask.Session = r.Limits.Depth, r.Limits.Session
	}
	ask.Scope = askScope(r.Scope)
	return ask
}

func askScope(scope artifact.Scope) (asked []firmwarepolicy.AskScope) {
	for _, p := range scope {
		s := firmwarepolicy.AskScope{Target: p.Target, Operations: strings.Split(p.Terms.Operations.String(), "+")}
		for _, d := range p.Terms.Code {
			s.Code = append(s.Code, hex.EncodeToString(d.Value))
		}
		if p.Terms.Parameters != nil {
			s.Parameters = hex.EncodeToString(p.Terms.Parameters.Value)
		}
		if c := p.Terms.Constraints; c != nil {
			s.Env, s.Directory = c.Env, c.Directory
		}
		asked = append(asked, s)
	}
	return asked
}

// claimsOf writes the claims of the artifact. They hold nothing that the input does not, whose encoding they name.
func claimsOf(in *Input, encoded []byte, parents []delegated) artifact.Claims {
	f, r := in.Facts, in.Request
	resets, restarts := uint32(f.Clock.Resets), uint32(f.Clock.Restarts)
	c := artifact.Claims{
		Issuer: in.Issuer, Subject: in.Host.ID, Audience: r.Audience,
		Expires: in.Time + r.Lifetime, NotBefore: in.Time, IssuedAt: in.Time,
		ID: in.ID, Confirmation: artifact.Confirmation{Key: in.CNF}, Scope: r.Scope,
		Challenge: in.Challenge, UEID: artifact.UEID([32]byte(in.Host.EK)),
		BootSeed:    artifact.BootSeed(unhex(f.AK), resets, restarts),
		Status:      artifact.StatusClaim{List: artifact.StatusRef{Index: in.StatusIndex, URI: in.StatusURI}},
		Environment: environmentOf(in),
		Initiator: artifact.Initiator{Principal: in.Initiator.ID, Authority: in.Issuer, Kind: in.Initiator.Kind,
			Credential: ref(in.Initiator.Enrolment)},
		Policy: artifact.PolicyRef{ID: in.Authorization.ID, Hash: digestOf(in.Authorization.Hash), Version: in.Authorization.Version,
			Input: artifact.SHA256Digest(statement.DigestOf(encoded)), Request: digestOf(in.RequestDigest),
			Appraisal: artifact.PolicyName{ID: in.Appraisal.ID, Hash: digestOf(in.Appraisal.Hash), Version: in.Appraisal.Version}},
		Execution: r.Execution, Limits: r.Limits,
	}
	lineageOf(in, parents, &c)
	return c
}
