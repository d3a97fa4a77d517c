package artifact_test

import (
	"slices"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

// emergency is a published break-glass authorization that a host has attested for, and one for which that was waived.
type emergency struct {
	*issuertest.World
	trust            *artifact.Trust
	attested, waived *issuertest.Glass
}

func newEmergency(t *testing.T) *emergency {
	t.Helper()
	w := issuertest.New(t)
	doc := w.DeclareGlass(true)
	e := &emergency{World: w, attested: w.PublishGlass(w.DraftGlass(doc), issuertest.Alice, issuertest.Bob)}
	w.AttestGlass(e.attested)
	draft := w.DraftGlass(doc)
	draft.Waived = []string{issuertest.Alice, issuertest.Bob}
	e.waived = w.PublishGlass(draft, issuertest.Alice, issuertest.Bob)
	e.trust = w.Trust()
	e.trust.BreakGlass = &artifact.Emergency{Targets: []string{issuertest.Target}, Lifetime: time.Hour, Waive: true}
	return e
}

func (e *emergency) file(g *issuertest.Glass) artifact.GlassFile {
	return artifact.GlassFile{History: e.history(), Act: slices.Clone(g.Act), Attestation: g.Proof}
}

// history returns the key history that the issuer serves now.
func (e *emergency) history() []byte { return issuertest.Must(e.Issuer.KeyHistory(e.Ctx))(e.TB) }

// ofOne returns a history of a genesis that one person has signed.
func (e *emergency) ofOne() []byte {
	h := issuertest.Must(artifact.DecodeKeyHistory(e.history()))(e.TB)
	h.Genesis = h.Genesis[:1]
	return issuertest.Must(h.Encode())(e.TB)
}

func (e *emergency) want() artifact.Want {
	return artifact.Want{Trust: e.trust, Now: e.Now(), Audience: issuertest.Gate}
}

// P21, P22: what a gate may believe of a break-glass file, and which check refuses each that is broken in one place.
func TestP21_GlassFilesAreVerified(t *testing.T) {
	e := newEmergency(t)
	verify := func(f artifact.GlassFile, want artifact.Want) (*artifact.Glass, error) {
		return artifact.VerifyBreakGlass(issuertest.Must(f.Encode())(t), want)
	}
	for name, g := range map[string]*issuertest.Glass{"attested": e.attested, "waived": e.waived} {
		got, err := verify(e.file(g), e.want())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.Digest() != g.Digest || string(got.Payload().ID) != string(g.ID) || len(got.Persons()) != 2 || len(got.Scope()) != 1 {
			t.Errorf("%s: got %+v of %v", name, got.Payload(), got.Persons())
		}
		if waived := g == e.waived; (got.Attested() == nil) != waived || (got.Start().Waived != nil) != waived || (got.Start().Attestation == nil) != waived {
			t.Errorf("%s: attested %v, start %+v", name, got.Attested(), got.Start())
		}
	}
	at := func(raw []byte) *statement.Envelope {
		return issuertest.Must(statement.Decode(raw, statement.MaxStatement))(t)
	}
	receiptOf := func(raw []byte) []byte { return issuertest.Must(at(raw).Receipts())(t)[0] }
	for name, row := range map[string]struct {
		file func(*artifact.GlassFile)
		want func(*artifact.Want)
		code denial.Reason
		at   denial.Stage
	}{
		"no trust file":          {want: func(w *artifact.Want) { w.Trust = nil }, code: denial.KeyUnknown, at: denial.StageSignature},
		"no genesis pinned":      {want: func(w *artifact.Want) { w.Trust.Genesis = statement.Digest{} }, code: denial.KeyUnknown, at: denial.StageSignature},
		"another genesis pinned": {want: func(w *artifact.Want) { w.Trust.Genesis[0] ^= 1 }, code: denial.KeyUnknown, at: denial.StageSignature},
		"genesis of one person":  {file: func(f *artifact.GlassFile) { f.History = e.ofOne() }, code: denial.ThresholdNotMet, at: denial.StageSignature},
		"act of one person":      {file: func(f *artifact.GlassFile) { f.Act = f.Act[:1] }, code: denial.BreakGlassInvalid, at: denial.StageSignature},
		"acts mixed":             {file: func(f *artifact.GlassFile) { f.Act[1] = e.waived.Act[1] }, code: denial.DualControlMissing, at: denial.StageSignature},
		"an artifact's place":    {file: func(f *artifact.GlassFile) { f.Attestation = e.Act[0] }, code: denial.KeyUnknown, at: denial.StageType},
		"no attestation at all":  {file: func(f *artifact.GlassFile) { f.Attestation = []byte{1} }, code: denial.WrongType, at: denial.StageType},
		"attestation of another": {file: func(f *artifact.GlassFile) { f.Act = slices.Clone(e.waived.Act) }, code: denial.WrongType, at: denial.StageType},
		"no attestation":         {file: func(f *artifact.GlassFile) { f.Attestation = nil }, code: denial.NoEvidence, at: denial.StagePins},
		"act without receipt":    {file: func(f *artifact.GlassFile) { f.Act[1] = at(f.Act[1]).Leaf() }, code: denial.NoReceipt, at: denial.StageReceipt},
		"attestation without receipt": {file: func(f *artifact.GlassFile) { f.Attestation = at(f.Attestation).Leaf() },
			code: denial.NoReceipt, at: denial.StageReceipt},
		"receipt of another statement": {file: func(f *artifact.GlassFile) {
			f.Act[0] = issuertest.Must(statement.Attach(at(f.Act[0]).Leaf(), receiptOf(f.Act[1])))(t)
		}, code: denial.ReceiptInvalid, at: denial.StageReceipt},
		"too many receipts": {file: func(f *artifact.GlassFile) {
			r := receiptOf(f.Act[0])
			f.Act[0] = issuertest.Must(statement.Attach(at(f.Act[0]).Leaf(), r, r, r, r, r))(t)
		}, code: denial.ReceiptInvalid, at: denial.StageReceipt},
		"another issuer":          {want: func(w *artifact.Want) { w.Trust.Issuer += "/2" }, code: denial.IdentityConflict, at: denial.StageSignature},
		"another log":             {want: func(w *artifact.Want) { w.Trust.Log += "/2" }, code: denial.IdentityConflict, at: denial.StageSignature},
		"no clock":                {want: func(w *artifact.Want) { w.Now = time.Time{} }, code: denial.ClockUntrusted, at: denial.StageTime},
		"not turned on":           {want: func(w *artifact.Want) { w.Trust.BreakGlass = nil }, code: denial.BreakGlassInvalid, at: denial.StageTime},
		"longer than is accepted": {want: func(w *artifact.Want) { w.Trust.BreakGlass.Lifetime = time.Hour - time.Second }, code: denial.BreakGlassInvalid, at: denial.StageTime},
		"before it was issued":    {want: func(w *artifact.Want) { w.Now = e.Now().Add(-time.Hour) }, code: denial.BreakGlassInvalid, at: denial.StageTime},
		"expired":                 {want: func(w *artifact.Want) { w.Now = time.Unix(int64(e.attested.Expires), 0) }, code: denial.BreakGlassInvalid, at: denial.StageTime},
		"a log key out of its time": {want: func(w *artifact.Want) {
			for i := range w.Trust.Keys {
				if w.Trust.Keys[i].Purpose == artifact.PurposeLog {
					w.Trust.Keys[i].NotBefore = e.Now().Add(time.Hour)
				}
			}
		}, code: denial.KeyOutsideValidity, at: denial.StageTime},
		"a record key out of its time": {want: func(w *artifact.Want) {
			for i := range w.Trust.Keys {
				if w.Trust.Keys[i].Purpose == artifact.PurposeRecord {
					w.Trust.Keys[i].NotBefore = e.Now().Add(time.Hour)
				}
			}
		}, code: denial.KeyOutsideValidity, at: denial.StageTime},
		"another gate":               {want: func(w *artifact.Want) { w.Audience += "/2" }, code: denial.AudienceMismatch, at: denial.StageAudience},
		"a trust file of other gate": {want: func(w *artifact.Want) { w.Audience, w.Trust.Audience = "", issuertest.Gate+"/2" }, code: denial.AudienceMismatch, at: denial.StageAudience},
		"no gate at all":             {want: func(w *artifact.Want) { w.Audience, w.Trust.Audience = "", "" }, code: denial.AudienceMismatch, at: denial.StageAudience},
		"trust file expired":         {want: func(w *artifact.Want) { w.Trust.Expires = e.Now() }, code: denial.PolicyExpired, at: denial.StagePins},
		"target not listed":          {want: func(w *artifact.Want) { w.Trust.BreakGlass.Targets = []string{"file:/usr/bin/other"} }, code: denial.BreakGlassInvalid, at: denial.StagePins},
		"policies not accepted":      {want: func(w *artifact.Want) { w.Trust.Policies = nil }, code: denial.PolicyHashMismatch, at: denial.StagePins},
		"its policy not accepted":    {want: func(w *artifact.Want) { w.Trust.Policies = w.Trust.Policies[1:] }, code: denial.PolicyHashMismatch, at: denial.StagePins},
		"appraisal policy too old":   {want: func(w *artifact.Want) { w.Trust.Policies[1].MinVersion = 99 }, code: denial.PolicyRollback, at: denial.StagePins},
		"waiver not accepted": {file: func(f *artifact.GlassFile) { *f = e.file(e.waived) },
			want: func(w *artifact.Want) { w.Trust.BreakGlass.Waive = false }, code: denial.NoEvidence, at: denial.StagePins},
	} {
		t.Run(name, func(t *testing.T) {
			f, want := e.file(e.attested), e.want()
			trust, glass := *e.trust, *e.trust.BreakGlass
			trust.Keys, trust.Policies, trust.BreakGlass = slices.Clone(trust.Keys), slices.Clone(trust.Policies), &glass
			want.Trust = &trust
			if row.file != nil {
				row.file(&f)
			}
			if row.want != nil {
				row.want(&want)
			}
			got, err := verify(f, want)
			if !denial.Is(err, row.code) || denial.Of(err).Stage != row.at {
				t.Errorf("got %v at %v, want %s at %v", err, denial.Of(err).Stage, row.code, row.at)
			}
			if got != nil {
				t.Error("something was verified")
			}
		})
	}
	if _, err := artifact.VerifyBreakGlass(nil, e.want()); !denial.Is(err, denial.NoArtifact) {
		t.Errorf("nothing: %v", err)
	}
	if (*artifact.Glass)(nil).VerifyPossession(nil, artifact.GateNonce{}, artifact.Digest{}, e.Now()) == nil {
		t.Error("possession of nothing is proved")
	}
	p, digest, err := issuertest.Must(artifact.DecodeGlassFile(issuertest.Must(e.file(e.attested).Encode())(t)))(t).Inspect()
	if err != nil || digest != e.attested.Digest || p.Host != issuertest.HostURI {
		t.Errorf("inspected: %+v, %v", p, err)
	}
}

// TestP21_GlassFollowsChangesOfAuthorities: who may break glass is who the authorities are by the longest history at hand, that of
// the file or that of the gate.
func TestP21_GlassFollowsChangesOfAuthorities(t *testing.T) {
	e := newEmergency(t)
	verify := func(f artifact.GlassFile, trust *artifact.Trust) error {
		followed := *trust
		followed.BreakGlass = e.trust.BreakGlass
		_, err := artifact.VerifyBreakGlass(issuertest.Must(f.Encode())(t), artifact.Want{Trust: &followed, Now: e.Now(), Audience: issuertest.Gate})
		return err
	}
	old, before := e.file(e.waived), issuertest.Must(e.trust.Follow(e.history()))(t)
	c := e.HandOver() // alice goes
	dave := "mailto:dave@example.org"
	e.Keys[dave] = issuertest.NewKey(t)
	c.People.Authorities = append(c.People.Authorities, record.Authority{Person: dave, Key: e.Keys[dave].Key()})
	c.People.Quorums[record.RoleBreakGlass] = record.Quorum{Threshold: 2, Persons: []string{issuertest.Bob, issuertest.Carol, dave}}
	e.HandedOver(c)
	after := issuertest.Must(e.trust.Follow(e.history()))(t)
	draft := e.waived.BreakGlass
	draft.ID, draft.Waived = issuertest.Random(16), []string{issuertest.Bob, dave}
	fresh := e.file(e.PublishGlass(draft, issuertest.Bob, dave))
	pinned := *e.trust
	pinned.PinKeys(e.Ring())
	short := fresh
	short.History = old.History
	for name, row := range map[string]struct {
		file  artifact.GlassFile
		trust *artifact.Trust
		want  denial.Reason
	}{
		"a file of before, a gate that has heard of nothing": {old, e.trust, 0},
		"a file of before, a gate that has followed it":      {old, before, 0},
		"alice has gone, as the gate knows":                  {old, after, denial.KeyUnknown},
		"alice has gone, as its trust file says":             {old, &pinned, denial.StateRollback},
		"dave has come, as the file tells":                   {fresh, e.trust, 0},
		"dave has come, as the file tells a gate of before":  {fresh, before, 0},
		"dave has come, as both know":                        {fresh, after, 0},
		"dave has come, as the trust file says":              {fresh, &pinned, 0},
		"dave has come, and the file does not tell":          {short, e.trust, denial.KeyUnknown},
		"dave has come, and the gate alone knows":            {short, after, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if err := verify(row.file, row.trust); row.want == 0 && err != nil || row.want != 0 && !denial.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
		})
	}
}
