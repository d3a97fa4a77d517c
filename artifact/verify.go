package artifact

import (
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
)

// MaxLogDelay is how long after its iat an artifact may have been logged. An issuer that dates a decision back, to use
// evidence that is no longer fresh, cannot date the log back too.
const MaxLogDelay = 2 * time.Minute

const (
	maxArtifact = 16 << 10 // bytes, receipts included
	maxReceipts = 4
)

// Want is what a relying party demands of an artifact. A zero field is never a wildcard.
type Want struct {
	Trust    *Trust    // nil believes nothing: 305
	Now      time.Time // zero: 905
	Audience string    // this gate; empty: that of the trust file; 411 if that is empty too, or another
	Status   *Status   // the list that the artifact names; nil: 806
	Use      *Use      // what is to be done; nil leaves scope and code to the caller, as the next check of the run
}

// Artifact is an artifact that passed the checks of Check. Only Check makes it.
//
// It is not an allow. What remains is in denial.GateOrder: scope and code (unless Want.Use was given), proof of
// possession, a use, the start record. Only denial.Run.Allowed, after all of them, allows.
type Artifact struct {
	claims Claims
	leaf   []byte
	key    statement.Key
	proof  receipt.Proof
}

// Claims returns the claims. Their slices must not be written to.
func (a *Artifact) Claims() Claims { return a.claims }

// Digest returns the statement digest.
func (a *Artifact) Digest() statement.Digest { return statement.DigestOf(a.leaf) }

// Proof returns what the receipt proved: where and when the artifact was logged.
func (a *Artifact) Proof() receipt.Proof { return a.proof }

// Verify is Check for a relying party that wants to know whether an artifact is genuine, current and not revoked, such
// as a tool that shows it. A result is not an allow: nobody has proved possession and no use has been consumed. A gate
// calls Check with a run of its own and goes on with that run.
func Verify(raw []byte, want Want) (*Artifact, error) {
	return Check(denial.GateOrder().Begin(), raw, want)
}

// Check passes a fresh run of denial.GateOrder through its stages up to StageGateRevocation, or StageScope if a use is
// given. The caller continues with the same run. The checks, in order, each with the stage that its denial names:
//
//  1. present: there are bytes at all (101).
//  2. decode: a tagged COSE_Sign1 of at most 16 KiB in its one encoding (308 to 313).
//  3. signature: algorithm protected and allowed (304, 302), kid names a pinned key (305) of that algorithm (303), the
//     signature over the bytes as received (301).
//  4. type: crit and unknown labels (307), typ (311), payload form (312), key pinned for artifacts (311); then the
//     claims decode as DecodeClaims says (104, 204, 411, 702, 911, 312, ...), header and payload agree (706).
//  5. receipt: there is one (105), and one of at most four is a receipt of the pinned log for exactly these bytes (324).
//  6. time: the present is known (905), nbf and iat are not after exp (204), lifetime (203), nbf and iat (202), exp (201), logged at most
//     MaxLogDelay after iat (205) and not in the future (202); the artifact key was active at logged time and at iat, the log key at
//     logged time (208), and neither was compromised or suspended then (802).
//  7. audience: exactly this gate (411).
//  8. pins: the trust file has not expired (206), the issuer is its issuer (706), both policies are accepted (401, 402).
//  9. revocation: a fresh list that the artifact names (806), the log was not restored from a backup since (801), its entry is valid
//     (801 to 805, 807).
//  10. scope, if a use is given: see Scope.Admit (404, 616, 619).
func Check(run *denial.Run, raw []byte, want Want) (*Artifact, error) {
	c := &check{want: want, raw: raw, a: &Artifact{}}
	steps := []struct {
		f      func() error
		stages []denial.Stage
	}{
		{c.present, []denial.Stage{denial.StagePresent}},
		{c.decode, []denial.Stage{denial.StageArtifactDecode}},
		{c.signatureAndType, []denial.Stage{denial.StageSignature, denial.StageType}},
		{c.receipt, []denial.Stage{denial.StageReceipt}},
		{c.time, []denial.Stage{denial.StageTime}},
		{c.audience, []denial.Stage{denial.StageAudience}},
		{c.pins, []denial.Stage{denial.StagePins}},
		{c.revocation, []denial.Stage{denial.StageGateRevocation}},
	}
	for _, s := range steps {
		if err := run.Check(s.f, s.stages...); err != nil {
			return nil, err
		}
	}
	if want.Use != nil {
		if err := run.Check(c.scope, denial.StageScope); err != nil {
			return nil, err
		}
	}
	return c.a, nil
}

// check is one passage of Check.
type check struct {
	want Want
	raw  []byte
	env  *statement.Envelope
	keys statement.Keys
	a    *Artifact
}

func (c *check) present() error {
	if len(c.raw) == 0 {
		return denial.New(denial.NoArtifact, "no artifact was presented")
	}
	return nil
}

func (c *check) decode() (err error) {
	c.env, err = statement.Decode(c.raw, maxArtifact)
	return err
}

func (c *check) signatureAndType() (err error) {
	if c.keys, err = c.want.Trust.StatementKeys(); err != nil {
		return err
	}
	v, err := c.env.Verify(c.keys, statement.Artifact)
	if err != nil {
		return atStage(err)
	}
	c.a.leaf, c.a.key = v.Leaf(), v.Key()
	if c.a.claims, err = DecodeClaims(v.Payload()); err == nil {
		err = equalHeader(v.Claims(), c.a.claims.Issuer, c.a.claims.Subject)
	}
	if err != nil {
		return denial.Of(err).At(denial.StageType)
	}
	return nil
}

// atStage names the stage of a refusal by Envelope.Verify, which makes the checks of two.
func atStage(err error) error {
	d := denial.Of(err)
	switch d.Reason {
	case denial.CritUnknown, denial.WrongType, denial.PayloadForm, denial.ClaimAbsent:
		return d.At(denial.StageType)
	}
	return d.At(denial.StageSignature)
}

func (c *check) receipt() error {
	receipts, err := c.env.Receipts()
	switch {
	case err != nil:
		return err
	case len(receipts) == 0:
		return denial.New(denial.NoReceipt, "the artifact has no receipt")
	case len(receipts) > maxReceipts:
		return denial.New(denial.ReceiptInvalid, "more than %d receipts", maxReceipts)
	}
	for _, r := range receipts {
		if c.tryReceipt(r) {
			return nil
		}
	}
	return denial.New(denial.ReceiptInvalid, "no receipt of the pinned log for this artifact")
}

// tryReceipt reports whether r is a receipt of the pinned log for this artifact. Others are ignored: they stand in the
// unprotected header, where anybody can add them.
func (c *check) tryReceipt(r []byte) bool {
	proof, err := receipt.Verify(r, c.a.leaf, c.keys)
	if err != nil || proof.Issuer != c.want.Trust.Issuer || proof.Log != c.want.Trust.Log {
		return false
	}
	c.a.proof = *proof
	return true
}

func (c *check) time() error {
	t, ok := seconds(c.want.Now)
	if !ok {
		return denial.New(denial.ClockUntrusted, "the present time is not known")
	}
	cl, trust := c.a.claims, c.want.Trust
	if err := checkSpan(span{cl.IssuedAt, cl.NotBefore, cl.Expires}, trust.Lifetime, c.want.Now); err != nil {
		return err
	}
	if c.a.proof.Time > cl.IssuedAt+uint64(MaxLogDelay/time.Second) {
		return denial.New(denial.EvidenceStale, "logged %d s after it was issued", c.a.proof.Time-cl.IssuedAt)
	}
	if c.a.proof.Time > t+skew {
		return denial.New(denial.NotYetValid, "logged in the future")
	}
	if err := trust.CheckKey(c.a.key.Thumbprint(), c.a.proof.Time, cl.IssuedAt); err != nil {
		return err
	}
	return trust.CheckClaimed(c.a.proof.Key, c.a.proof.Time)
}

func (c *check) audience() error {
	own, pinned := c.want.Audience, c.want.Trust.Audience
	if own == "" {
		own = pinned
	}
	if own == "" || pinned != "" && own != pinned || c.a.claims.Audience != own {
		return denial.New(denial.AudienceMismatch, "the artifact is for another gate")
	}
	return nil
}

func (c *check) pins() error {
	cl, trust := c.a.claims, c.want.Trust
	if err := trust.checkExpiry(c.want.Now); err != nil {
		return err
	}
	if cl.Issuer != trust.Issuer {
		return denial.New(denial.IdentityConflict, "the artifact names another issuer than the trust file")
	}
	if err := trust.checkPolicy(cl.Policy.ID, cl.Policy.Version, cl.Policy.Hash); err != nil {
		return err
	}
	ap := cl.Policy.Appraisal
	return trust.checkPolicy(ap.ID, ap.Version, ap.Hash)
}

func (c *check) revocation() error { return c.a.revocation(c.want) }

// revocation returns what the status list says of the artifact.
func (a *Artifact) revocation(want Want) error {
	if err := want.Status.checkAge(want.Trust, want.Now); err != nil {
		return err
	}
	value, err := want.Status.Value(a.claims.Status.List)
	if err != nil {
		return err
	}
	if err := want.Status.InEpoch(a.proof.Time); err != nil {
		return err
	}
	return value.Check()
}

// CheckRevoked asks once more, of an artifact under which something runs: whether its key has been found out since as no
// issuer's (802), and what a newer status list says, as Check does (801 to 807). Its lifetime is not asked for.
func (a *Artifact) CheckRevoked(want Want) error {
	if err := want.Trust.CheckKey(a.key.Thumbprint(), a.proof.Time, a.claims.IssuedAt); err != nil {
		return err
	}
	return a.revocation(want)
}

func (c *check) scope() error {
	_, err := c.a.claims.Scope.Admit(*c.want.Use)
	return err
}

// Inspect reads an artifact without checking who signed it or whether it is in time: for showing it to a person, and
// for the host, which needs to know what it holds. Nothing may be decided on its result.
func Inspect(raw []byte) (Claims, statement.Digest, error) {
	env, err := statement.Decode(raw, maxArtifact)
	if err != nil {
		return Claims{}, statement.Digest{}, err
	}
	if env.Kind() != statement.Artifact {
		return Claims{}, statement.Digest{}, denial.New(denial.WrongType, "not an artifact")
	}
	c, err := DecodeClaims(env.Payload())
	return c, env.Digest(), err
}
