package artifact

import (
	"bytes"
	"slices"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// MaxPresented is the most that is read of what is presented to a gate: no artifact and no break-glass file is larger (313).
const MaxPresented = maxGlassFile

const maxGlassFile = MaxKeyHistory + 512<<10

// GlassFile is what a gate is shown of a break-glass authorization: the key history, which begins with genesis, whose digest the gate
// pins, and tells who the authorities are; the statements of
// the act, each with its receipt, and the attestation of the host, with its receipt, unless it was waived. It is a CBOR map,
// which no artifact is.
type GlassFile struct {
	History     []byte   `cbor:"1,keyasint"` // see KeyHistory.Encode
	Act         [][]byte `cbor:"2,keyasint"`
	Attestation []byte   `cbor:"3,keyasint,omitempty"`
}

// Encode returns the file in its one encoding.
func (f GlassFile) Encode() ([]byte, error) { return statement.Marshal(f) }

// DecodeGlassFile reads what Encode wrote.
func DecodeGlassFile(raw []byte) (*GlassFile, error) {
	var f GlassFile
	if len(raw) > maxGlassFile {
		return nil, denial.New(denial.StructureLimit, "a break-glass file has at most %d bytes", maxGlassFile)
	}
	if err := statement.Unmarshal(raw, &f); err != nil {
		return nil, err
	}
	if len(f.History) == 0 || len(f.Act) == 0 || len(f.Act) > 16 {
		return nil, denial.New(denial.StructureLimit, "a break-glass file holds a key history and an act of 1 to 16 statements")
	}
	return &f, nil
}

// Inspect reads what the file claims to authorize, and the digest of that, without checking who signed it. Nothing may be
// decided on its result.
func (f *GlassFile) Inspect() (*record.BreakGlass, statement.Digest, error) {
	env, err := statement.Decode(f.Act[0], statement.MaxStatement)
	if err != nil {
		return nil, statement.Digest{}, err
	}
	if env.Kind() != statement.BreakGlass {
		return nil, statement.Digest{}, denial.New(denial.WrongType, "not a break-glass authorization")
	}
	var g record.BreakGlass
	if err := statement.Unmarshal(env.Payload(), &g); err != nil {
		return nil, statement.Digest{}, err
	}
	return &g, statement.DigestOf(env.Payload()), g.Check()
}

// IsGlassFile reports whether the bytes can be a break-glass file, which is a map. An artifact is a tagged array.
func IsGlassFile(raw []byte) bool { return len(raw) > 0 && raw[0]>>5 == 5 }

// Glass is a break-glass authorization that passed the checks of CheckBreakGlass, and nothing else makes one. Like an Artifact
// it is not an allow; what remains is in denial.BreakGlassOrder.
type Glass struct {
	payload  record.BreakGlass
	scope    Scope
	digest   statement.Digest // of the payload
	persons  []string
	attested *record.Record
	attest   statement.Digest
}

// Payload returns what was authorized. Its slices must not be written to.
func (g *Glass) Payload() record.BreakGlass { return g.payload }

// Scope returns what may be done.
func (g *Glass) Scope() Scope { return g.scope }

// Digest returns SHA-256 of the payload: what records name the authorization by.
func (g *Glass) Digest() statement.Digest { return g.digest }

// Persons returns who signed.
func (g *Glass) Persons() []string { return g.persons }

// Attested returns what the host attested; nil where the quorum has waived it.
func (g *Glass) Attested() *record.Attested {
	if g.attested == nil {
		return nil
	}
	return g.attested.Attested
}

// Start returns what the start record says of the authorization.
func (g *Glass) Start() *record.Glass {
	if g.attested == nil {
		return &record.Glass{Waived: g.payload.Waived}
	}
	return &record.Glass{Attestation: g.attest[:]}
}

// VerifyPossession is the function of that name for the confirmation key that the host attested. Where attestation was
// waived there is none, and every proof is refused.
func (g *Glass) VerifyPossession(raw []byte, nonce GateNonce, parameters Digest, now time.Time) error {
	if g == nil || g.attested == nil {
		return denial.New(denial.KeyBinding, "the host attested no confirmation key")
	}
	return holder{g.attested.Attested.Key, g.payload.Host, g.payload.Audience, g.digest}.verify(raw, nonce, parameters, now)
}

// CheckBreakGlass passes a fresh run of denial.BreakGlassOrder through its stages up to StagePins. The checks, in order, each
// with the stage that its denial names:
//
//  1. present: there are bytes at all (101).
//  2. decode: a break-glass file in its one encoding (308 to 313).
//  3. signature: keys and authorities are those that follow from the pinned genesis, by the history in the file or by a longer one that
//     the gate knows (305, 306, 706 and as Trust.Follow says); each statement of the act is signed by a key of the break-glass quorum of now (301 to 305), the same bytes by all of them (409), by enough distinct persons (410).
//  4. type: the payload, as record.ReadBreakGlass says (311, 104, 706, 410, 102), its scope (4xx, 6xx); the attestation is a
//     record of the issuer about exactly this authorization and host (301, 305, 311, 701), if there is one.
//  5. receipt: each of these statements has one (105), and one of at most four is a receipt of the pinned log for exactly
//     its bytes (324).
//  6. time: the gate's trust file admits break-glass, and for as long (410); issued not in the future, not expired, logged
//     while it was valid (410); log and record key were valid at logged time (208).
//  7. audience: exactly this gate (411).
//  8. pins: the trust file has not expired (206), the issuer is its issuer (706), every target is one of those that it lists
//     for break-glass (410), the policies are accepted (401, 402); the host has attested, or the quorum has waived it and the
//     trust file accepts that (102).
//
// want.Status and want.Use are not looked at.
func CheckBreakGlass(run *denial.Run, raw []byte, want Want) (*Glass, error) {
	c := &glassCheck{want: want, raw: raw, g: &Glass{}}
	for _, s := range []struct {
		f      func() error
		stages []denial.Stage
	}{
		{c.present, []denial.Stage{denial.StagePresent}},
		{c.decode, []denial.Stage{denial.StageArtifactDecode}},
		{c.quorum, []denial.Stage{denial.StageSignature}},
		{c.content, []denial.Stage{denial.StageType}},
		{c.receipts, []denial.Stage{denial.StageReceipt}},
		{c.time, []denial.Stage{denial.StageTime}},
		{c.audience, []denial.Stage{denial.StageAudience}},
		{c.pins, []denial.Stage{denial.StagePins}},
	} {
		if err := run.Check(s.f, s.stages...); err != nil {
			return nil, err
		}
	}
	return c.g, nil
}

// VerifyBreakGlass is CheckBreakGlass for who only wants to know whether an authorization is genuine and current.
func VerifyBreakGlass(raw []byte, want Want) (*Glass, error) {
	return CheckBreakGlass(denial.BreakGlassOrder().Begin(), raw, want)
}

// glassCheck is one passage of CheckBreakGlass.
type glassCheck struct {
	want   Want
	raw    []byte
	file   *GlassFile
	keys   statement.Keys
	act    *record.Act
	attest *statement.Verified
	logged []*receipt.Proof // of the act, and last of the attestation
	g      *Glass
}

func (c *glassCheck) present() error {
	if len(c.raw) == 0 {
		return denial.New(denial.NoArtifact, "no break-glass authorization was presented").
			Try("Have the quorum publish an authorization for this host and gate, and present the file that comes of it.")
	}
	return nil
}

func (c *glassCheck) decode() (err error) {
	c.file, err = DecodeGlassFile(c.raw)
	return err
}

func (c *glassCheck) quorum() error {
	trust := c.want.Trust
	if trust == nil || trust.Genesis == (statement.Digest{}) {
		return denial.New(denial.KeyUnknown, "no genesis is pinned")
	}
	if _, err := trust.StatementKeys(); err != nil {
		return err
	}
	followed, err := trust.Follow(c.file.History)
	if trust.ring != nil && denial.Is(err, denial.StateRollback) {
		followed, err = trust, nil // the gate knows later changes than the file, and goes by them
	}
	if err != nil {
		return err
	}
	c.want.Trust = followed
	if c.keys, err = followed.StatementKeys(); err != nil {
		return err
	}
	people := followed.ring.Authorities()
	if c.act, err = people.Verify(c.file.Act, statement.BreakGlass); err != nil {
		return atStage(err)
	}
	return people.Reviewable(c.act)
}

func (c *glassCheck) content() error {
	p, err := record.ReadBreakGlass(c.act)
	if err != nil {
		return err
	}
	if c.g.scope, err = DecodeScope(p.Scope); err != nil {
		return err
	}
	c.g.payload, c.g.digest, c.g.persons = *p, c.act.Digest(), c.act.Persons()
	if c.file.Attestation == nil {
		return nil
	}
	return c.attestation()
}

// attestation reads the attestation record.
func (c *glassCheck) attestation() error {
	env, err := statement.Decode(c.file.Attestation, statement.MaxStatement)
	if err != nil {
		return err
	}
	if c.attest, err = env.Verify(c.keys, statement.Record); err != nil {
		return err
	}
	r, err := record.Read(c.attest)
	if err != nil {
		return err
	}
	switch p := c.g.payload; {
	case r.Event != record.EventAttest || r.Emitter.URI != c.want.Trust.Issuer:
		return denial.New(denial.WrongType, "the record is no attestation by the issuer")
	case !bytes.Equal(r.CTI, p.ID) || !bytes.Equal(r.Artifact, c.g.digest[:]):
		return denial.New(denial.WrongType, "the attestation is for another authorization")
	case r.Workload != p.Host || r.Initiator != p.Initiator:
		return denial.New(denial.HostMismatch, "the attestation is by another host or initiator")
	}
	c.g.attested, c.g.attest = r, c.attest.Digest()
	return nil
}

func (c *glassCheck) receipts() error {
	for i, raw := range c.file.Act {
		if err := c.logs(raw, c.act.Leaves()[i]); err != nil {
			return err
		}
	}
	if c.attest != nil {
		return c.logs(c.file.Attestation, c.attest.Leaf())
	}
	return nil
}

// logs finds the receipt of the pinned log for a statement.
func (c *glassCheck) logs(raw, leaf []byte) error {
	env, err := statement.Decode(raw, statement.MaxStatement)
	if err != nil {
		return err
	}
	receipts, err := env.Receipts()
	switch {
	case err != nil:
		return err
	case len(receipts) == 0:
		return denial.New(denial.NoReceipt, "a statement of the authorization has no receipt")
	case len(receipts) > maxReceipts:
		return denial.New(denial.ReceiptInvalid, "more than %d receipts", maxReceipts)
	}
	for _, r := range receipts {
		proof, err := receipt.Verify(r, leaf, c.keys)
		if err == nil && proof.Issuer == c.want.Trust.Issuer && proof.Log == c.want.Trust.Log {
			c.logged = append(c.logged, proof)
			return nil
		}
	}
	return denial.New(denial.ReceiptInvalid, "no receipt of the pinned log for a statement of the authorization")
}

func (c *glassCheck) time() error {
	now, ok := seconds(c.want.Now)
	if !ok {
		return denial.New(denial.ClockUntrusted, "the present time is not known")
	}
	p, allowed := c.g.payload, c.want.Trust.BreakGlass
	switch {
	case allowed == nil:
		return denial.New(denial.BreakGlassInvalid, "the trust file of this gate admits no break-glass")
	case p.Expires-p.IssuedAt > uint64(allowed.Lifetime/time.Second):
		return denial.New(denial.BreakGlassInvalid, "valid for %d s, at most %d s are accepted here", p.Expires-p.IssuedAt, uint64(allowed.Lifetime/time.Second))
	case p.IssuedAt > now+skew:
		return denial.New(denial.BreakGlassInvalid, "issued in the future")
	case now >= p.Expires:
		return denial.New(denial.BreakGlassInvalid, "expired %d s ago", now-p.Expires)
	}
	for _, proof := range c.logged {
		if proof.Time > now+skew || proof.Time+skew < p.IssuedAt || proof.Time >= p.Expires {
			return denial.New(denial.BreakGlassInvalid, "logged at a time at which it was not valid")
		}
		if err := c.want.Trust.CheckClaimed(proof.Key, proof.Time); err != nil {
			return err
		}
	}
	if c.attest == nil {
		return nil
	}
	last := c.logged[len(c.logged)-1].Time
	return c.want.Trust.CheckKey(c.attest.Key().Thumbprint(), last, c.g.attested.Time)
}

func (c *glassCheck) audience() error {
	own, pinned := c.want.Audience, c.want.Trust.Audience
	if own == "" {
		own = pinned
	}
	if own == "" || pinned != "" && own != pinned || c.g.payload.Audience != own {
		return denial.New(denial.AudienceMismatch, "the authorization is for another gate")
	}
	return nil
}

func (c *glassCheck) pins() error {
	p, trust := c.g.payload, c.want.Trust
	if err := trust.checkExpiry(c.want.Now); err != nil {
		return err
	}
	if c.act.Claims().Issuer != trust.Issuer {
		return denial.New(denial.IdentityConflict, "the authorization is for another issuer than that of the trust file")
	}
	for _, permission := range c.g.scope {
		if !slices.Contains(trust.BreakGlass.Targets, permission.Target) {
			return denial.New(denial.BreakGlassInvalid, "the trust file of this gate admits no break-glass for this target")
		}
	}
	if err := trust.checkPolicy(p.Policy.ID, p.Policy.Version, Digest{Algorithm: SHA256, Value: p.Policy.Hash}); err != nil {
		return err
	}
	switch a := c.g.attested; {
	case a != nil:
		return trust.checkPolicy(a.Appraisal.ID, a.Attested.Version, Digest{Algorithm: SHA256, Value: a.Appraisal.Hash})
	case p.Waived == nil:
		return denial.New(denial.NoEvidence, "the host has not attested, and nobody has waived it")
	case !trust.BreakGlass.Waive:
		return denial.New(denial.NoEvidence, "the trust file of this gate accepts no waiver of attestation")
	}
	return nil
}
